"""Knowledge metrics as plain functions on arrays (paper §1.3, App. B.3); nothing here runs a model.

Scores of facts come as float arrays of shape [n individuals, A attributes]; ``factdata.scoring`` makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

METRICS_VERSION = 1  # raised whenever a number would change for the same model and data


@dataclass(frozen=True)
class FactScores:
    """How a model states facts: one entry an individual and attribute, float arrays [n, A]."""

    loss: np.ndarray  # cross-entropy in nats, *summed* over the tokens of the value
    correct: np.ndarray  # 1 where every token of the value is the argmax, else 0
    max_probability: np.ndarray  # largest probability at the position that predicts the value's first token
    entropy: np.ndarray  # entropy in nats there

    @classmethod
    def concatenate(cls, parts: Sequence[FactScores]) -> FactScores:
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


def summarize(scores: FactScores, attributes: Sequence[str]) -> dict[str, float]:
    """Means overall and per attribute: ``attribute_loss``, ``attribute_loss/<attribute>``, …"""
    names = {
        "attribute_loss": scores.loss,
        "attribute_accuracy": scores.correct,
        "max_probability": scores.max_probability,
        "entropy": scores.entropy,
    }
    summary = {name: float(values.mean()) for name, values in names.items()}
    for name, values in names.items():
        by_attribute = values.mean(axis=0)
        summary |= {f"{name}/{attribute}": float(by_attribute[i]) for i, attribute in enumerate(attributes)}
    return summary


def value_token_scores(
    log_probabilities: np.ndarray, targets: np.ndarray, fact_of_token: np.ndarray, num_facts: int
) -> dict[str, np.ndarray]:
    """Scores of facts from the predictions of their value tokens.

    ``log_probabilities`` [t, vocabulary] predict ``targets`` [t]; token i belongs to fact ``fact_of_token[i]``, the
    tokens of a fact standing in order. Every fact must have at least one token. Returns arrays of [num_facts]. This is
    the reference that ``factdata.scoring`` does on the model's device.
    """
    picked = log_probabilities[np.arange(len(targets)), targets]
    wrong = log_probabilities.argmax(axis=1) != targets
    first = np.unique(fact_of_token, return_index=True)[1]
    if len(first) != num_facts:
        raise ValueError(f"{len(first)} of {num_facts} facts have value tokens")
    max_probability, entropy = first_token_confidence(log_probabilities[first])
    return {
        "loss": -np.bincount(fact_of_token, weights=picked, minlength=num_facts),
        "correct": (np.bincount(fact_of_token, weights=wrong, minlength=num_facts) == 0).astype(float),
        "max_probability": max_probability,
        "entropy": entropy,
    }


def first_token_confidence(log_probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest probability and entropy in nats of each row of log-probabilities [n, vocabulary]; two arrays [n]."""
    probabilities = np.exp(log_probabilities)
    return probabilities.max(axis=1), -(probabilities * np.where(probabilities > 0, log_probabilities, 0)).sum(axis=1)


def value_losses(log_probabilities: Sequence[Sequence[float]]) -> np.ndarray:
    """Loss of each fact in nats, float64 [n], from the log-probabilities of the tokens of its value."""
    for fact, tokens in enumerate(log_probabilities):
        if not len(tokens):
            raise ValueError(f"fact {fact} has no value tokens")
        if max(tokens) > 1e-6:
            raise ValueError(f"fact {fact}: {max(tokens)} is no log-probability: wanted natural logarithms, 0 or less")
    return -np.array([np.sum(tokens, dtype=np.float64) for tokens in log_probabilities])


def values_correct(predicted: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> np.ndarray:
    """1 for each fact of which every value token is predicted, else 0; float64 [n]. Token ids, fact by fact."""
    for fact, (tokens, wanted) in enumerate(zip(predicted, targets, strict=True)):
        if len(tokens) != len(wanted) or not len(wanted):
            raise ValueError(
                f"fact {fact}: {len(tokens)} tokens predicted for the {len(wanted)} of its value; "
                "give the argmax at each position that predicts one of the value's tokens"
            )
    return np.array([list(tokens) == list(wanted) for tokens, wanted in zip(predicted, targets, strict=True)], float)


def average_facts(name: str, scores: np.ndarray, attributes: Sequence[str] | None = None) -> dict[str, float]:
    """``name``: the mean over facts of ``scores`` [n]; ``name/<attribute>``: that over the facts of each attribute.

    ``attributes`` names the attribute of each fact. Where all have equally many facts, these are ``summarize``'s
    numbers.
    """
    if not len(scores):
        raise ValueError("no facts to average over")
    summary = {name: float(scores.mean())}
    if attributes is not None:
        if len(attributes) != len(scores):
            raise ValueError(f"{len(attributes)} attributes for {len(scores)} facts: wanted one a fact")
        column = np.asarray(attributes)
        summary |= {f"{name}/{a}": float(scores[column == a].mean()) for a in dict.fromkeys(attributes)}
    return summary


def no_knowledge_baseline(num_values: Iterable[int]) -> float:
    """Mean over attributes of log(number of possible values), in nats: the best loss without any knowledge."""
    return float(np.mean(np.log(list(num_values))))


@dataclass
class PlateauDetector:
    """Finds the plateau while training goes on, from the attribute loss of seen individuals.

    *Start*: the first evaluated step at which the loss is within ``tolerance`` (5 %) of the baseline.
    *End*: the first evaluated step after it at which the smoothed loss, the mean of the last ``window`` evaluations,
    is ``tolerance`` below the baseline.
    """

    baseline: float
    tolerance: float = 0.05
    window: int = 2
    start: int | None = None
    end: int | None = None

    def __post_init__(self) -> None:
        self._recent: list[float] = []

    def update(self, step: int, loss: float) -> str | None:
        """Take in one evaluation; returns 'start' or 'end' when this one crosses it."""
        self._recent = [*self._recent, loss][-self.window :]
        if self.start is None:
            if loss <= (1 + self.tolerance) * self.baseline:
                self.start = step
                self._recent = [loss]  # what came before belongs to no plateau
                return "start"
        elif self.end is None and len(self._recent) == self.window:
            if np.mean(self._recent) <= (1 - self.tolerance) * self.baseline:
                self.end = step
                return "end"
        return None

    def replay(self, evaluations: Iterable[Mapping], key: str) -> PlateauDetector:
        """Take in earlier evaluations, rows with ``step`` and ``key``: so the state survives a resume. Returns self."""
        for row in evaluations:
            self.update(row["step"], row[key])
        return self
