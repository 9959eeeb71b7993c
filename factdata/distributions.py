"""Who is drawn: distributions over the n individuals of a cohort."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Distribution(Protocol):
    """A distribution over ``size`` individuals, sampled exactly by its inverse cumulative distribution."""

    size: int

    def individuals(self, uniforms: np.ndarray) -> np.ndarray:
        """Map the step's random numbers in [0, 1), float64 [global batch], to individuals, int64 [global batch].

        The whole global batch is mapped at once, so that a distribution may relate the examples of one step.
        """
        ...

    def probabilities(self) -> np.ndarray:
        """Probability of each individual, float64 [size]."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Every individual is equally likely."""

    size: int

    def individuals(self, uniforms: np.ndarray) -> np.ndarray:
        return (uniforms * self.size).astype(np.int64)

    def probabilities(self) -> np.ndarray:
        return np.full(self.size, 1 / self.size)
