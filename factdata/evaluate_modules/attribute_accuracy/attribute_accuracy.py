"""Attribute accuracy as a module of Hugging Face evaluate; the arithmetic is in ``factdata.metrics``.

evaluate reads imports with a regular expression, one a line, and copies this file: it imports nothing relative.
"""

from collections.abc import Sequence

import datasets
import evaluate

from factdata import metrics
from factdata.builder import CITATION

DESCRIPTION = """\
Attribute accuracy (Zucchet et al. 2025, appendix B.3): the share of facts of which every token of the value is the
model's most likely one, each given the text before it with the right tokens (teacher forcing, not generation).
"""
INPUTS = """
Args:
    predictions: for each fact, the most likely token id at each position that predicts a token of the value.
    references: for each fact, the token ids of the value; as many as are predicted.
    attributes (optional): the name of each fact's attribute, in the order in which facts were added.
Returns:
    attribute_accuracy: share of facts whose tokens are all right.
    attribute_accuracy/<attribute>: the same over the facts of one attribute, with attributes only.
Examples:
    >>> metric = evaluate.load("factdata/evaluate_modules/attribute_accuracy")
    >>> metric.compute(predictions=[[7, 8], [9]], references=[[7, 5], [9]], attributes=["birth_city", "major"])
    {'attribute_accuracy': 0.5, 'attribute_accuracy/birth_city': 0.0, 'attribute_accuracy/major': 1.0}
"""


class AttributeAccuracy(evaluate.Metric):
    """``factdata.metrics.values_correct``, averaged; raises ValueError where the numbers of tokens differ."""

    def _info(self) -> evaluate.MetricInfo:
        tokens = datasets.Sequence(datasets.Value("int64"))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": tokens, "references": tokens}),
            reference_urls=["https://arxiv.org/abs/2503.21676"],
        )

    def _compute(
        self, predictions: list[list[int]], references: list[list[int]], attributes: Sequence[str] | None = None
    ) -> dict[str, float]:
        return metrics.average_facts("attribute_accuracy", metrics.values_correct(predictions, references), attributes)
