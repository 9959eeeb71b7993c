"""When: phases of distributions over training steps, and the draw for any position of the stream.

Position p is the global place of an example in training: step = p // global_batch. What is drawn there depends on
(seed, p) and the phase active at that step, and on nothing else: no state, so no rank, worker, prefetch or resume
can change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from factdata.distributions import Distribution
from factdata.errors import InputError
from factdata.hashing import derive_key


@dataclass(frozen=True)
class Phase:
    """A distribution that is drawn from until (not including) ``until_step``."""

    distribution: Distribution
    until_step: int


@dataclass(frozen=True)
class Draws:
    """What the stream says about n positions: who, and one random word that decides everything else."""

    individuals: np.ndarray  # int64 [n]
    words: np.ndarray  # uint64 [n]


class Schedule:
    """A list of phases, one after the other; the last one ends with training."""

    def __init__(self, phases: Sequence[Phase], global_batch: int, seed: int):
        ends = [phase.until_step for phase in phases]
        if not phases or ends[0] < 1 or any(b <= a for a, b in zip(ends, ends[1:], strict=False)):
            raise InputError(f"phases must end at increasing steps, 1 or later; they end at {ends}")
        if global_batch < 1:
            raise InputError(f"global batch {global_batch}: wanted 1 or more")
        self.phases = tuple(phases)
        self.global_batch = global_batch
        self.num_steps = ends[-1]
        self._ends = np.array(ends)
        self._key = int(derive_key(seed, "stream"))

    def phase_at(self, step: int) -> Phase:
        """The phase that step (counted from 0) draws from."""
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} is outside the schedule of {self.num_steps} steps")
        return self.phases[int(np.searchsorted(self._ends, step, side="right"))]

    def draw_step(self, step: int) -> Draws:
        """The whole global batch of one step."""
        distribution = self.phase_at(step).distribution
        # The step is the high word of Philox's counter, the place within the step the low one.
        words = np.random.Philox(key=self._key, counter=step << 64).random_raw(2 * self.global_batch)
        uniforms = (words[: self.global_batch] >> np.uint64(11)) * 2.0**-53
        return Draws(distribution.individuals(uniforms), words[self.global_batch :])

    def draw(self, positions: np.ndarray) -> Draws:
        """The examples at these positions (any order, any number of steps)."""
        positions = np.asarray(positions, dtype=np.int64)
        steps, places = np.divmod(positions, self.global_batch)
        if len(steps) and steps[0] == steps[-1] and (steps == steps[0]).all():
            batch = self.draw_step(int(steps[0]))
            return Draws(batch.individuals[places], batch.words[places])
        draws = Draws(np.empty(len(positions), dtype=np.int64), np.empty(len(positions), dtype=np.uint64))
        for step in np.unique(steps):
            here = steps == step
            batch = self.draw_step(int(step))
            draws.individuals[here] = batch.individuals[places[here]]
            draws.words[here] = batch.words[places[here]]
        return draws
