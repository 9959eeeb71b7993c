"""When: phases of distributions over training steps, and the draw for any position of the stream.

Position p is the global place of an example in training: step = p // global_batch. What is drawn there depends on
(seed, p) and the phase active at that step, and on nothing else: no state, so no rank, worker, prefetch or resume
can change it. The one exception is announced ahead: the step at which an adaptive phase ends, written once into
memory that data loader workers share, before any position behind it can have been drawn.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray

import numpy as np

from factdata.distributions import Changing, Distribution
from factdata.errors import InputError
from factdata.hashing import derive_key

PLATEAU_END = "plateau_end"
# How an announcement is logged: the phase that ends, and the step that belongs to the next one.
SWITCH, SWITCH_STEP = "schedule/switch", "schedule/switch_step"


@dataclass(frozen=True)
class Phase:
    """A distribution, and how long it is drawn from.

    ``steps`` is its length; None lasts to the end of training. With ``until`` = 'plateau_end' the phase ends when that
    is announced (see ``Schedule.announce_end``), after ``steps`` at the latest.
    """

    distribution: Distribution | Changing
    steps: int | None = None
    until: str | None = None
    name: str = ""


@dataclass(frozen=True)
class Draws:
    """What the stream says about n positions: who, and one random word that decides everything else."""

    individuals: np.ndarray  # int64 [n]
    words: np.ndarray  # uint64 [n]


class Schedule:
    """Phases one after the other, for ``num_steps`` steps of ``global_batch`` examples."""

    def __init__(self, phases: Sequence[Phase], num_steps: int, global_batch: int, seed: int):
        _check(phases, num_steps, global_batch)
        self.phases = tuple(phases)
        self.num_steps = num_steps
        self.global_batch = global_batch
        self._key = int(derive_key(seed, "stream"))
        self._announced = RawArray(ctypes.c_int64, [-1] * len(phases))  # end of each adaptive phase, once known
        self._fixed_ends = None if any(phase.until for phase in phases) else self._find_ends()

    def ends(self) -> list[int]:
        """The step at which each phase ends (exclusive), as far as is known: an open end is that of training."""
        return self._fixed_ends or self._find_ends()

    def _find_ends(self) -> list[int]:
        ends, end = [], 0
        for phase, announced in zip(self.phases, self._announced, strict=True):
            end = self.num_steps if phase.steps is None else end + phase.steps
            if phase.until and announced >= 0:
                end = min(end, announced)
            ends.append(min(end, self.num_steps))
        return ends

    def phase_index(self, step: int) -> int:
        """Which phase a step (counted from 0) draws from."""
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} is outside the schedule of {self.num_steps} steps")
        return int(np.searchsorted(self.ends(), step, side="right"))

    def distribution_at(self, step: int) -> Distribution:
        """The distribution that a step draws from."""
        index, ends = self.phase_index(step), self.ends()
        distribution = self.phases[index].distribution
        if isinstance(distribution, Changing):
            begin = ends[index - 1] if index else 0
            return distribution.at((step - begin) / max(ends[index] - begin - 1, 1))  # 1 at the phase's last step
        return distribution

    def announce_end(self, index: int, step: int) -> None:
        """Let the adaptive phase ``index`` end before ``step``, of which nothing may have been drawn yet."""
        if self.phases[index].until is None:
            raise ValueError(f"phase {index} is not adaptive")
        if self._announced[index] not in (-1, step):
            raise ValueError(f"phase {index} was announced to end at {self._announced[index]}, not {step}")
        self._announced[index] = step

    def announced_end(self, index: int) -> int | None:
        """The announced end of phase ``index``, or None."""
        return None if self._announced[index] < 0 else self._announced[index]

    def take_up_announcements(self, log_history: Sequence[Mapping]) -> None:
        """Announce what a run has announced before: rows with ``SWITCH`` and ``SWITCH_STEP`` of its log history."""
        for row in log_history:
            if SWITCH in row:
                self.announce_end(row[SWITCH], row[SWITCH_STEP])

    def first_difference(self, other: Schedule, until: int) -> int | None:
        """The first step before ``until`` that draws from another distribution in ``other``, or None.

        Announcements count in both; a phase of ``other`` that ends by announcement ends where the same one does here.
        """
        for index, phase in enumerate(other.phases):
            same = index < len(self.phases) and phase == self.phases[index]
            if same and phase.until and self.announced_end(index) is not None and other.announced_end(index) is None:
                other.announce_end(index, self.announced_end(index))
        for step in range(until):
            if self.distribution_at(step) != other.distribution_at(step):
                return step
        return None

    def draw_step(self, step: int) -> Draws:
        """The whole global batch of one step."""
        distribution = self.distribution_at(step)
        # The step is the high word of Philox's counter, the place within the step the low one.
        words = np.random.Philox(key=self._key, counter=step << 64).random_raw(2 * self.global_batch)
        uniforms = (words[: self.global_batch] >> np.uint64(11)) * 2.0**-53
        return Draws(distribution.individuals(uniforms), words[self.global_batch :])

    def draw(self, positions: np.ndarray) -> Draws:
        """The examples at these positions (any order, any number of steps)."""
        positions = np.asarray(positions, dtype=np.int64)
        steps, places = np.divmod(positions, self.global_batch)
        if len(steps) and (steps == steps[0]).all():
            batch = self.draw_step(int(steps[0]))
            return Draws(batch.individuals[places], batch.words[places])
        draws = Draws(np.empty(len(positions), dtype=np.int64), np.empty(len(positions), dtype=np.uint64))
        for step in np.unique(steps):
            here = steps == step
            batch = self.draw_step(int(step))
            draws.individuals[here] = batch.individuals[places[here]]
            draws.words[here] = batch.words[places[here]]
        return draws

    def count_exposures(self, begin: int, end: int) -> np.ndarray:
        """How often each individual is drawn in steps ``begin`` … ``end`` - 1: int64 [largest size of a phase]."""
        counts = np.zeros(max(phase.distribution.size for phase in self.phases), dtype=np.int64)
        for step in range(begin, end):
            np.add.at(counts, self.draw_step(step).individuals, 1)
        return counts


def _check(phases: Sequence[Phase], num_steps: int, global_batch: int) -> None:
    if num_steps < 1:
        raise InputError(f"{num_steps} steps: wanted 1 or more")
    if global_batch < 1:
        raise InputError(f"global batch {global_batch}: wanted 1 or more")
    if not phases:
        raise InputError("a schedule needs at least one phase")
    fixed = 0
    for index, phase in enumerate(phases):
        if phase.until not in (None, PLATEAU_END):
            raise InputError(f"phase {index + 1} ends until {phase.until!r}; known: {PLATEAU_END}")
        if phase.steps is not None and phase.steps < 1:
            raise InputError(f"phase {index + 1} lasts {phase.steps} steps: wanted 1 or more")
        if phase.steps is None and phase.until is None and index < len(phases) - 1:
            raise InputError(f"phase {index + 1} lasts to the end of training, but {len(phases) - 1 - index} follow it")
        fixed += phase.steps or 0
    if any(phase.until for phase in phases) and (phases[-1].until or phases[-1].steps is not None):
        raise InputError(
            "behind a phase that ends by itself the last one must last to the end of training: leave out its length"
        )
    if phases[-1].steps is not None and fixed < num_steps:
        raise InputError(
            f"the phases last {fixed} of {num_steps} steps; leave the last one's length out, or lengthen the phases"
        )
    last_begin = sum(phase.steps for phase in phases[:-1] if phase.steps and not phase.until)
    if last_begin >= num_steps:
        raise InputError(f"the last phase would begin at step {last_begin}, but training has {num_steps} steps")
