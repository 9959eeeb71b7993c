"""Confidence in a value as a module of Hugging Face evaluate; the arithmetic is in ``factdata.metrics``.

evaluate reads imports with a regular expression, one a line, and copies this file: it imports nothing relative.
"""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from factdata import metrics
from factdata.builder import CITATION

DESCRIPTION = """\
Confidence at the position that predicts a value's first token (Zucchet et al. 2025, appendix B.3): the largest
probability there, and the entropy in nats. To compare between seen and held-out individuals.
"""
INPUTS = """
Args:
    predictions: for each fact, the natural log-probabilities of the whole vocabulary at that position.
    references: the name of each fact's attribute.
Returns:
    max_probability, entropy: means over facts.
    max_probability/<attribute>, entropy/<attribute>: the same over the facts of one attribute.
Examples:
    >>> metric = evaluate.load("factdata/evaluate_modules/value_confidence")
    >>> metric.compute(predictions=[[-0.6931472, -0.6931472]], references=["major"])["max_probability"]
    0.5
"""


class ValueConfidence(evaluate.Metric):
    """``factdata.metrics.first_token_confidence``, averaged."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Sequence(datasets.Value("float64")), "references": datasets.Value("string")}
            ),
            reference_urls=["https://arxiv.org/abs/2503.21676"],
        )

    def _compute(self, predictions: list[list[float]], references: Sequence[str]) -> dict[str, float]:
        max_probability, entropy = metrics.first_token_confidence(np.asarray(predictions))
        return metrics.average_facts("max_probability", max_probability, references) | metrics.average_facts(
            "entropy", entropy, references
        )
