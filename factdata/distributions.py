"""Who is drawn: distributions over individuals 0 … size - 1, sampled by their exact inverse cumulative distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np

from factdata.errors import InputError

LEVELS = 64  # steps of a distribution that changes: enough to look smooth, few enough to keep every level's table


class Distribution(Protocol):
    """Draws the individuals of one step."""

    size: int  # one more than the last individual who can be drawn

    @property
    def support(self) -> range:
        """The individuals who can be drawn."""
        ...

    def individuals(self, uniforms: np.ndarray) -> np.ndarray:
        """Map the step's random numbers in [0, 1), float64 [global batch], to individuals, int64 [global batch].

        The whole global batch is mapped at once, so that a distribution may relate the examples of one step.
        """
        ...

    def probabilities(self) -> np.ndarray:
        """Probability of each individual, float64 [size]."""
        ...


class _FromFirst:
    """A distribution that draws from the first individual on."""

    size: int

    @property
    def support(self) -> range:
        return range(self.size)


@dataclass(frozen=True)
class Uniform(_FromFirst):
    """Every individual is equally likely."""

    size: int

    def individuals(self, uniforms: np.ndarray) -> np.ndarray:
        return (uniforms * self.size).astype(np.int64)

    def probabilities(self) -> np.ndarray:
        return np.full(self.size, 1 / self.size)


@dataclass(frozen=True)
class InversePowerLaw(_FromFirst):
    """p(i) ∝ (i + 1)^-alpha: 0 is uniform, 1 is Zipf's law (paper §3.1)."""

    size: int
    alpha: float

    def __post_init__(self):
        if not 0 <= self.alpha < np.inf:
            raise InputError(f"alpha {self.alpha}: wanted 0 (uniform) or more")

    @cached_property
    def _cumulative(self) -> np.ndarray:
        table = np.arange(1, self.size + 1, dtype=np.float64)  # one array of 8 bytes an individual, worked on in place
        np.power(table, -self.alpha, out=table)
        np.cumsum(table, out=table)
        table /= table[-1]
        return table

    def individuals(self, uniforms: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._cumulative, uniforms, side="right")

    def probabilities(self) -> np.ndarray:
        return np.diff(self._cumulative, prepend=0)


@dataclass(frozen=True)
class Celebrities(_FromFirst):
    """The first ``celebrities`` individuals are drawn ``weight`` times as often as each other one (paper App. E)."""

    size: int
    celebrities: int
    weight: float

    def __post_init__(self):
        if not 1 <= self.celebrities <= self.size:
            raise InputError(f"{self.celebrities} celebrities: wanted 1 to all {self.size} individuals")
        if not 0 < self.weight < np.inf:
            raise InputError(f"celebrities of weight {self.weight}: wanted more than 0")

    def individuals(self, uniforms: np.ndarray) -> np.ndarray:
        mass = self.celebrities * self.weight
        place = uniforms * (mass + self.size - self.celebrities)
        chosen = np.where(place < mass, place / self.weight, self.celebrities + place - mass)
        return np.minimum(chosen.astype(np.int64), self.size - 1)

    def probabilities(self) -> np.ndarray:
        weights = np.ones(self.size)
        weights[: self.celebrities] = self.weight
        return weights / weights.sum()


@dataclass(frozen=True)
class Weighted(_FromFirst):
    """Any weights, one an individual: for few of them, such as the sources of a text mixture."""

    weights: tuple[float, ...]

    def __post_init__(self):
        if not self.weights or min(self.weights) < 0 or not 0 < sum(self.weights) < np.inf:
            raise InputError(f"weights {list(self.weights)}: wanted numbers of 0 or more, at least one above 0")

    @property
    def size(self) -> int:
        return len(self.weights)

    @cached_property
    def _cumulative(self) -> np.ndarray:
        return np.cumsum(self.weights) / np.sum(self.weights)

    def individuals(self, uniforms: np.ndarray) -> np.ndarray:
        return np.minimum(np.searchsorted(self._cumulative, uniforms, side="right"), self.size - 1)

    def probabilities(self) -> np.ndarray:
        return np.array(self.weights) / np.sum(self.weights)


@dataclass(frozen=True)
class Subset:
    """``base`` over the individuals from ``start`` on; everybody before them is never drawn."""

    base: Distribution
    start: int

    @property
    def size(self) -> int:
        return self.start + self.base.size

    @property
    def support(self) -> range:
        return range(self.start + self.base.support.start, self.size)

    def individuals(self, uniforms: np.ndarray) -> np.ndarray:
        return self.start + self.base.individuals(uniforms)

    def probabilities(self) -> np.ndarray:
        return np.concatenate([np.zeros(self.start), self.base.probabilities()])


@dataclass(frozen=True)
class WithinBatchRepetition:
    """Each step draws global batch / ``repeats`` individuals from ``base``, and each of them ``repeats`` times."""

    base: Distribution
    repeats: int

    def __post_init__(self):
        if self.repeats < 1:
            raise InputError(f"{self.repeats} repeats within a batch: wanted 1 or more")

    @property
    def size(self) -> int:
        return self.base.size

    @property
    def support(self) -> range:
        return self.base.support

    def individuals(self, uniforms: np.ndarray) -> np.ndarray:
        drawn, rest = divmod(len(uniforms), self.repeats)
        if rest:
            raise InputError(f"a global batch of {len(uniforms)} does not hold individuals {self.repeats} times each")
        return np.repeat(self.base.individuals(uniforms[:drawn]), self.repeats)

    def probabilities(self) -> np.ndarray:
        return self.base.probabilities()


@dataclass(frozen=True)
class Changing:
    """A distribution whose parameter moves through a phase, linearly, in LEVELS even steps.

    ``kind`` names the parameter: 'individuals' (a uniform population that grows or shrinks), 'alpha' (of an inverse
    power law over ``size`` individuals) or 'weights' (from one mixture to another).
    """

    kind: str
    begin: float | tuple[float, ...]
    end: float | tuple[float, ...]
    size: int

    def at(self, progress: float) -> Distribution:
        """The distribution after ``progress`` of the phase, 0 … 1."""
        return self._level(round(progress * (LEVELS - 1)))

    @lru_cache(maxsize=2 * LEVELS)  # noqa: B019 (frozen, and as long-lived as the run)
    def _level(self, level: int) -> Distribution:
        value = np.asarray(self.begin) + (np.asarray(self.end) - np.asarray(self.begin)) * level / (LEVELS - 1)
        if self.kind == "individuals":
            return Uniform(round(float(value)))
        if self.kind == "alpha":
            return InversePowerLaw(self.size, float(value))
        return Weighted(tuple(value.tolist()))


def entropy(distribution: Distribution) -> float:
    """Entropy of one draw in nats; its exponential is the effective number of individuals."""
    p = distribution.probabilities()
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def sequential_groups(size: int, groups: int) -> Sequence[Distribution]:
    """Uniform distributions over consecutive groups of the individuals, as even as can be."""
    if not 1 <= groups <= size:
        raise InputError(f"{groups} groups of {size} individuals: wanted 1 to {size}")
    edges = [size * group // groups for group in range(groups + 1)]
    return [Subset(Uniform(stop - start), start) for start, stop in zip(edges, edges[1:], strict=False)]
