"""The evaluate modules: numbers done by hand, and those of ``factdata.metrics`` on random data."""

import inspect
from pathlib import Path

import evaluate
import numpy as np
import pytest

from factdata import metrics
from factdata.evaluate_modules.attribute_accuracy.attribute_accuracy import AttributeAccuracy
from factdata.evaluate_modules.attribute_loss.attribute_loss import AttributeLoss
from factdata.evaluate_modules.value_confidence.value_confidence import ValueConfidence

ATTRIBUTES = ("birth_city", "major", "company")


def load(metric_class: type, way: str) -> evaluate.EvaluationModule:
    path = Path(inspect.getfile(metric_class))
    return metric_class() if way == "class" else evaluate.load(str(path if way == "file" else path.parent))


@pytest.fixture
def predictions():
    """Random predictions for 3 attributes of 20 individuals, values of 1 to 4 tokens: what a model would give."""
    rng = np.random.default_rng(0)
    num_facts, vocabulary = 60, 5
    fact_of_token = np.repeat(np.arange(num_facts), rng.integers(1, 5, num_facts))
    logits = rng.normal(size=(len(fact_of_token), vocabulary)) * 2
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = np.where(rng.random(len(fact_of_token)) < 0.7, logits.argmax(axis=1), 0)
    return log_probabilities, targets, fact_of_token, num_facts


def by_fact(column: np.ndarray, fact_of_token: np.ndarray) -> list[list]:
    return [part.tolist() for part in np.split(column, np.flatnonzero(np.diff(fact_of_token)) + 1)]


@pytest.mark.parametrize("way", ["class", "folder", "file"])
def test_loss_by_hand(way):
    """Sums over tokens turned into means, a module that evaluate cannot load without a network."""
    result = load(AttributeLoss, way).compute(
        predictions=[[-0.5, -1.5], [-1.0], [-4.0, 0.0]],
        references=["birth_city", "major", "birth_city"],
        num_values={"birth_city": 8, "major": 2},
    )
    assert result == pytest.approx(
        {
            "attribute_loss": 7 / 3,
            "attribute_loss/birth_city": 3.0,
            "attribute_loss/major": 1.0,
            "no_knowledge_baseline": 7 / 3 * np.log(2),  # (3 + 1 + 3) / 3 bits
        },
        abs=1e-15,
    )


@pytest.mark.parametrize("way", ["class", "folder", "file"])
def test_accuracy_by_hand(way):
    """Accuracy counted by token, where one wrong token makes the fact wrong."""
    metric = load(AttributeAccuracy, way)
    facts = {"predictions": [[7, 8], [9], [1, 2, 3]], "references": [[7, 5], [9], [1, 2, 3]]}
    assert metric.compute(**facts) == pytest.approx({"attribute_accuracy": 2 / 3})
    result = metric.compute(**facts, attributes=["birth_city", "major", "birth_city"])
    assert result == pytest.approx(
        {"attribute_accuracy": 2 / 3, "attribute_accuracy/birth_city": 0.5, "attribute_accuracy/major": 1.0}
    )


def test_same_numbers_as_metrics(predictions):
    """Modules whose numbers differ from those that the recipes report, whole or in batches."""
    log_probabilities, targets, fact_of_token, num_facts = predictions
    wanted = metrics.value_token_scores(*predictions)
    scores = metrics.FactScores(*(wanted[name].reshape(-1, 3) for name in ("loss", "correct", "loss", "loss")))
    summary = metrics.summarize(scores, ATTRIBUTES)
    attributes = list(ATTRIBUTES) * (num_facts // 3)

    picked = by_fact(log_probabilities[np.arange(len(targets)), targets], fact_of_token)
    loss = AttributeLoss().compute(predictions=picked, references=attributes)
    accuracy = AttributeAccuracy()
    argmax, wanted_tokens = by_fact(log_probabilities.argmax(axis=1), fact_of_token), by_fact(targets, fact_of_token)
    for start in range(0, num_facts, 7):
        part = slice(start, start + 7)
        accuracy.add_batch(predictions=argmax[part], references=wanted_tokens[part])
    result = loss | accuracy.compute(attributes=attributes)
    assert result == pytest.approx({key: value for key, value in summary.items() if key.startswith("attribute_")})
    assert 0 < result["attribute_accuracy"] < 1


def test_documented_examples():
    """Examples in a module's description that no longer give what they say."""
    for metric_class in (AttributeLoss, AttributeAccuracy):
        call, printed = inspect.getmodule(metric_class).INPUTS.split(">>> ")[-1].strip().split("\n")
        assert eval(call, {"metric": metric_class()}) == pytest.approx(eval(printed))


@pytest.mark.parametrize(
    ("metric_class", "inputs", "message"),
    [
        (AttributeLoss, {"predictions": [[0.5]], "references": ["major"]}, "0.5 is no log-probability"),
        (AttributeLoss, {"predictions": [[]], "references": ["major"]}, "fact 0 has no value tokens"),
        (
            AttributeLoss,
            {"predictions": [[-1.0]], "references": ["major"], "num_values": {"company": 3}},
            "num_values lacks major",
        ),
        (AttributeAccuracy, {"predictions": [[1]], "references": [[1, 2]]}, "1 tokens predicted for the 2"),
        (AttributeAccuracy, {"predictions": [[1]], "references": [[1]], "attributes": []}, "0 attributes for 1 facts"),
    ],
)
def test_bad_inputs(metric_class, inputs, message):
    """Losses, probabilities or generated tokens taken for what the metric wants, and scored."""
    with pytest.raises(ValueError, match=message):
        metric_class().compute(**inputs)


@pytest.mark.parametrize("way", ["class", "folder", "file"])
def test_confidence_by_hand(way):
    """Entropy in bits, or a certain prediction whose 0 · log 0 is not a number."""
    result = load(ValueConfidence, way).compute(
        predictions=[[np.log(0.5), np.log(0.25), np.log(0.25)], [0.0, -np.inf, -np.inf]],
        references=["major", "company"],
    )
    assert result["max_probability"] == pytest.approx(0.75)
    assert result["entropy/major"] == pytest.approx(1.5 * np.log(2))
    assert result["entropy/company"] == 0
