"""Attribute loss as a module of Hugging Face evaluate; the arithmetic is in ``factdata.metrics``.

evaluate reads imports with a regular expression, one a line, and copies this file: it imports nothing relative.
"""

from collections.abc import Mapping

import datasets
import evaluate

from factdata import metrics
from factdata.builder import CITATION

DESCRIPTION = """\
Attribute loss (Zucchet et al. 2025, section 1.3): the cross-entropy of a value given all that stands before it, in
nats, summed over the value's tokens and averaged over facts. 0 is perfect knowledge; a model that knows only which
values there are scores log(number of values), the no-knowledge baseline.
"""
INPUTS = """
Args:
    predictions: for each fact, the natural log-probabilities the model gives to the tokens of the value.
    references: the name of each fact's attribute.
    num_values (optional): attribute -> number of possible values; adds the baseline of the same facts.
Returns:
    attribute_loss: mean over facts of the summed loss, in nats.
    attribute_loss/<attribute>: the same over the facts of one attribute.
    no_knowledge_baseline: mean over facts of log(number of values), with num_values only.
Examples:
    >>> metric = evaluate.load("factdata/evaluate_modules/attribute_loss")
    >>> metric.compute(predictions=[[-0.5, -1.5], [-1.0]], references=["birth_city", "major"])
    {'attribute_loss': 1.5, 'attribute_loss/birth_city': 2.0, 'attribute_loss/major': 1.0}
"""


class AttributeLoss(evaluate.Metric):
    """``factdata.metrics.value_losses``, averaged; raises ValueError for what are no log-probabilities."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("string"),
                }
            ),
            reference_urls=["https://arxiv.org/abs/2503.21676"],
        )

    def _compute(
        self, predictions: list[list[float]], references: list[str], num_values: Mapping[str, int] | None = None
    ) -> dict[str, float]:
        result = metrics.average_facts("attribute_loss", metrics.value_losses(predictions), references)
        if num_values is not None:
            missing = sorted(set(references) - set(num_values))
            if missing:
                raise ValueError(f"num_values lacks {', '.join(missing)}")
            result["no_knowledge_baseline"] = metrics.no_knowledge_baseline(num_values[a] for a in references)
        return result
