"""Metrics and scoring: hand-made numbers, a slow oracle, and models whose knowledge is known."""

import math
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from factdata.biographies import FIRST_VALUE, Biographies
from factdata.errors import InputError
from factdata.facts import Facts
from factdata.metrics import FactScores, PlateauDetector, summarize, value_token_scores
from factdata.population import Population
from factdata.scoring import fact_batches, logits_only_at, score_facts
from factdata.tokenization import tokenize_biographies, train_tokenizer

FIELDS = ("loss", "correct", "max_probability", "entropy")


class Prescribed(torch.nn.Module):
    """A model with given logits [n, L, vocabulary], whatever it reads."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits, self.output = logits, torch.nn.Identity()

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.output

    def forward(self, input_ids, use_cache):
        return SimpleNamespace(logits=self.output(self.logits))


def test_value_token_scores_by_hand():
    """A mean where the sum over a value's tokens belongs, or a value that is right when one of its tokens is."""
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [1.0, 0.0, 0.0], [0.3, 0.6, 0.1], [0.2, 0.4, 0.4]])
    with np.errstate(divide="ignore"):
        log_probabilities = np.log(probabilities)
    scores = value_token_scores(log_probabilities, np.array([0, 1, 0, 1, 1]), np.array([0, 0, 1, 2, 2]), num_facts=3)
    assert scores["loss"] == pytest.approx([-math.log(0.5 * 0.2), 0, -math.log(0.6 * 0.4)])
    assert scores["correct"].tolist() == [0, 1, 1]
    assert scores["max_probability"] == pytest.approx([0.5, 1, 0.6])
    assert scores["entropy"] == pytest.approx([1.5 * math.log(2), 0, -(probabilities[3] * log_probabilities[3]).sum()])
    with pytest.raises(ValueError, match="3 of 4 facts have value tokens"):
        value_token_scores(log_probabilities, np.array([0, 1, 0, 1, 1]), np.array([0, 0, 1, 3, 3]), num_facts=4)


def boosted_logits(input_ids: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """Random logits [n, L, vocabulary] that prefer the right next token at about half of the positions."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(*input_ids.shape, vocab_size, generator=generator)
    boost = 8 * torch.rand(input_ids.shape, generator=generator)
    return logits.scatter_add(2, input_ids.roll(-1, dims=1)[..., None], boost[..., None])


@pytest.mark.parametrize("part", ["train", "evaluation"])
@pytest.mark.parametrize("kind", ["GPT-2", "boosted"])
def test_scores_equal_a_slow_oracle(make_gpt2, tokenizer, tokenized, part, kind):
    """A shift by one, padding that is scored, or rows mixed up where logits are computed at few positions only."""
    spy = Mock(biographies=tokenized.biographies, render=Mock(side_effect=tokenized.render))
    (batch,) = fact_batches(spy, np.array([5, 59_999, 123, 7, 40_000, 77]), part, batch_size=6)
    (individuals, words, rendered_part), _ = spy.render.call_args
    assert rendered_part == part
    roles = tokenized.render(individuals, words, part, with_roles=True).roles
    ids = batch.input_ids.numpy()
    gpt2 = make_gpt2(len(tokenizer), initializer_range=0.5).eval()
    model = gpt2 if kind == "GPT-2" else Prescribed(boosted_logits(batch.input_ids, len(tokenizer)))
    log_probabilities = model(input_ids=batch.input_ids, use_cache=False).logits.detach().log_softmax(-1).numpy()
    expected = {field: np.full((6, 4), float(field == "correct")) for field in FIELDS}
    for row, column in np.argwhere(roles >= FIRST_VALUE):
        fact, predicted = (row, roles[row, column] - FIRST_VALUE), log_probabilities[row, column - 1]
        expected["loss"][fact] -= predicted[ids[row, column]]
        expected["correct"][fact] *= predicted.argmax() == ids[row, column]
        if roles[row, column - 1] != roles[row, column]:
            expected["max_probability"][fact] = np.exp(predicted).max()
            expected["entropy"][fact] = -(np.exp(predicted) * predicted).sum()
    scores = score_facts(model, [batch], num_attributes=4)
    for field in FIELDS:
        assert getattr(scores, field) == pytest.approx(expected[field], rel=1e-5, abs=1e-5), field
    assert kind == "GPT-2" or 0 < scores.correct.mean() < 1


@pytest.mark.parametrize(("batch_size", "largest"), [(1, 2), (2, 2), (4, 4), (100, 8)])
def test_shards_together_score_everybody_once(make_gpt2, tokenizer, tokenized, batch_size, largest):
    """An individual whom two ranks or none evaluate, or ranks with unequal numbers of batches, which would hang."""
    model, individuals = make_gpt2(len(tokenizer)), np.arange(100, 123)
    whole = score_facts(model, fact_batches(tokenized, individuals, "train", 23), 4)
    shards = [fact_batches(tokenized, individuals, "train", batch_size, shard=(rank, 3)) for rank in range(3)]
    assert len({len(batches) for batches in shards}) == 1
    assert max(len(batch.input_ids) for batches in shards for batch in batches) == largest
    together = FactScores.concatenate([score_facts(model, batches, 4) for batches in shards])
    assert np.sort(together.loss, axis=0) == pytest.approx(np.sort(whole.loss, axis=0), rel=1e-5)
    with pytest.raises(InputError, match="2 individuals to evaluate on 3 ranks"):
        fact_batches(tokenized, individuals[:2], "train", batch_size, shard=(0, 3))


def test_untrained_model_knows_nothing(make_gpt2, tokenizer, tokenized):
    """A loss averaged over tokens, or in other units than nats: no figure could be compared with the paper's."""
    batches = fact_batches(tokenized, np.arange(50), "train", 25)
    scores = score_facts(make_gpt2(len(tokenizer), initializer_range=1e-4), batches, 4)
    values = tokenized.biographies.population.values(np.arange(50))
    num_tokens = np.array([[len(ids) for ids in tokenizer(column)["input_ids"]] for column in values.values()]).T
    assert num_tokens.mean() > 1.5
    assert scores.loss == pytest.approx(num_tokens * math.log(len(tokenizer)), rel=1e-3)
    assert scores.entropy == pytest.approx(math.log(len(tokenizer)), rel=1e-3)


def test_model_that_knows_everything(tokenizer, tokenized):
    """Anything but loss 0 and accuracy 1 for certainty; 0 × log 0 must not be NaN."""
    (batch,) = fact_batches(tokenized, np.arange(20), "evaluation", 20)
    right = torch.nn.functional.one_hot(batch.input_ids.roll(-1, dims=1), len(tokenizer)).float().log()
    scores = score_facts(Prescribed(right), [batch], 4)
    for field, value in zip(FIELDS, (0, 1, 1, 0), strict=True):
        assert (getattr(scores, field) == value).all(), field


def test_model_of_the_marginals_has_the_baseline(facts_folder):
    """A baseline that is not the loss of the best model without knowledge of individuals."""
    facts = Facts.load(facts_folder)
    biographies = Biographies(Population(facts, seed=0))
    tokenized = tokenize_biographies(biographies, train_tokenizer(biographies, vocab_size=1000))  # room for every word
    (batch,) = fact_batches(tokenized, np.arange(5), "train", 5)
    logits = torch.zeros(*batch.input_ids.shape, 1000)
    for (row, column), fact in zip(batch.predicts.nonzero().tolist(), batch.fact.tolist(), strict=True):
        pool = facts.attributes[fact % 2].pools[0]
        pieces = biographies.pool_starts[pool] + np.arange(len(facts.pools[pool]))
        assert (tokenized.tokens.lengths[pieces] == 1).all()
        logits[row, column] = -torch.inf
        logits[row, column, tokenized.tokens.flat[tokenized.tokens.starts[pieces]].tolist()] = 0
    scores = score_facts(Prescribed(logits), [batch], 2)
    assert scores.loss.mean() == pytest.approx(facts.baseline(), rel=1e-6)
    assert scores.entropy.mean(axis=0) == pytest.approx([math.log(4), math.log(8)])


@pytest.mark.parametrize("training", [True, False])
def test_scoring_restores_the_mode(make_gpt2, tokenizer, tokenized, training):
    """Dropout left off after the first evaluation, or on while evaluating."""
    model, seen = make_gpt2(len(tokenizer)).train(training), []
    model.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    batches = fact_batches(tokenized, np.arange(4), "train", 2)
    score_facts(model, batches, 4)
    assert seen == [False] * 2
    assert model.training is training


def test_hook_is_removed_even_after_an_error(make_gpt2, tokenizer):
    """A hook that stays behind and cuts the logits of the next training step."""
    model, ids = make_gpt2(len(tokenizer)).eval(), torch.arange(12).reshape(2, 6)
    whole, positions = model(ids).logits, ids % 3 == 0
    with logits_only_at(model, positions):
        assert torch.allclose(model(ids).logits, whole[positions][None], atol=1e-6)
    with pytest.raises(KeyboardInterrupt), logits_only_at(model, positions):
        raise KeyboardInterrupt
    assert torch.equal(model(ids).logits, whole)


def test_summary_and_concatenation():
    """A mean over the wrong axis, or the fields of the scores interchanged."""
    scores = FactScores(*(np.array([[1.0, 3.0]]) + 10 * i for i in range(4)))
    both = FactScores.concatenate([scores, FactScores(*(getattr(scores, field) + 1 for field in FIELDS))])
    assert both.loss.tolist() == [[1, 3], [2, 4]]
    assert both.entropy.tolist() == [[31, 33], [32, 34]]
    summary = {}
    for i, name in enumerate(("attribute_loss", "attribute_accuracy", "max_probability", "entropy")):
        summary |= {name: 2.5 + 10 * i, f"{name}/city": 1.5 + 10 * i, f"{name}/major": 3.5 + 10 * i}
    assert summarize(both, ["city", "major"]) == summary


@pytest.mark.parametrize(
    ("losses", "start", "end"),
    [
        ([20, 10.6, 10.5, 10, 10, 9.4, 9.4, 9.4], 2, 6),  # 10.5 is within 5 %; the mean is low enough at the second 9.4
        ([20, 10, 10, 9.5, 9.5, 9.5], 1, 4),  # exactly 5 % below counts
        ([20, 10.5, 9], 1, None),  # a mean over two needs to fall: 9.75
        ([0, 10, 9.6, 10, 10], 0, 1),  # a run that begins below the baseline
        ([20, 10, 5, 10, 10], 1, 2),  # the end is the first such step, whatever comes after
        ([20, 19, 18, 17], None, None),
        ([20, 1, 10, 9.5], 1, 2),  # what came before the plateau does not count for its end
    ],
)
def test_plateau(losses, start, end):
    """A plateau that ends before it begins, or by fewer evaluations than the window, or otherwise after a resume."""
    online, steps = PlateauDetector(baseline=10), [7 * i for i in range(len(losses))]
    crossed = [online.update(step, loss) for step, loss in zip(steps, losses, strict=True)]
    assert crossed == [{start: "start", end: "end"}.get(i) for i in range(len(losses))]
    assert (online.start, online.end) == (start and 7 * start, end and 7 * end)
    rows = [{"step": step, "loss": loss, "other": 0} for step, loss in zip(steps, losses, strict=True)]
    for cut in range(len(rows) + 1):
        resumed = PlateauDetector(10).replay(rows[:cut], "loss")
        later = [resumed.update(row["step"], row["loss"]) for row in rows[cut:]]
        assert (resumed, later) == (online, crossed[cut:])


def test_plateau_of_other_tolerance_and_window():
    """Tolerance or window that are not used."""
    detector = PlateauDetector(baseline=10, tolerance=0.5, window=1)
    assert [detector.update(0, 16), detector.update(1, 15), detector.update(2, 5)] == [None, "start", "end"]
