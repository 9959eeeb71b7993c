"""The stream: what is drawn at a position depends on seed and position, and on nothing else."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from factdata.distributions import Uniform
from factdata.errors import InputError
from factdata.schedules import Phase, Schedule
from factdata.stream import BiographyStream, identity_collator

PHASES = [Phase(Uniform(1000), 3), Phase(Uniform(5), 4)]
GLOBAL_BATCH = 32


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    return Schedule(PHASES, 7, GLOBAL_BATCH, seed=0)


@pytest.fixture(scope="module")
def stream(schedule, tokenized) -> BiographyStream:
    return BiographyStream(schedule, tokenized)


@pytest.fixture(scope="module")
def everything(schedule):
    """Individuals and words of the whole run, step after step."""
    steps = [schedule.draw_step(step) for step in range(7)]
    return np.concatenate([s.individuals for s in steps]), np.concatenate([s.words for s in steps])


@pytest.mark.parametrize("batch", [1, 5, 32, 48, 224])
def test_draw_depends_on_position_alone(schedule, everything, batch):
    """A draw that changes with batch size, order, rank or resume: runs could not be repeated."""
    positions = np.random.default_rng(batch).permutation(7 * GLOBAL_BATCH)
    for some in (positions, np.arange(7 * GLOBAL_BATCH)):
        for first in range(0, len(some), batch):
            here = some[first : first + batch]
            draws = schedule.draw(here)
            assert (draws.individuals == everything[0][here]).all()
            assert (draws.words == everything[1][here]).all()


def test_no_positions(schedule):
    """An empty list of positions, which a sampler may hand out at the end of a shard."""
    draws = schedule.draw([])
    assert (draws.individuals.shape, draws.words.shape) == ((0,), (0,))


def test_draws_do_not_repeat(everything):
    """Two positions with one random word, or the word that chose the individual used again: biographies would recur."""
    individuals, words = everything
    assert len(np.unique(words)) == len(words)
    assert np.unique(individuals[: 3 * GLOBAL_BATCH]).size > 85
    assert abs(np.corrcoef(individuals[:96], words[:96].astype(float))[0, 1]) < 0.3


def test_seeds_differ(everything):
    """A seed that is not used, or seeds that are each other's stream shifted by a few steps."""
    words = np.concatenate([Schedule(PHASES, 7, GLOBAL_BATCH, seed=1).draw_step(step).words for step in range(7)])
    assert not set(words.tolist()) & set(everything[1].tolist())


def test_uniform_draws_are_uniform(chi_square_p):
    """Individuals drawn too often or never: exposures would not add up."""
    schedule = Schedule([Phase(Uniform(10_000))], 100, 2000, seed=0)
    individuals = np.concatenate([schedule.draw_step(step).individuals for step in range(100)])
    assert 0 <= individuals.min() <= individuals.max() < 10_000
    assert chi_square_p(np.bincount(individuals, minlength=10_000)) > 1e-4
    assert chi_square_p(np.bincount(individuals // 1000, minlength=10)) > 1e-4
    assert Uniform(10_000).probabilities() == pytest.approx(1e-4)


@pytest.mark.parametrize("size", [1, 3, 10_000_000, 2**31 - 1])
def test_uniform_ends(size):
    """The largest random number that is rounded up to an individual who does not exist."""
    ends = Uniform(size).individuals(np.array([0, 1 - 2.0**-53]))
    assert ends.tolist() == [0, size - 1]


def test_phases_switch_at_their_step(schedule, stream, everything):
    """A switch one step early or late: an intervention would not be where the figure says it is."""
    individuals = everything[0].reshape(7, GLOBAL_BATCH)
    assert (individuals >= 5).any(axis=1).tolist() == [True] * 3 + [False] * 4
    assert [schedule.distribution_at(step).size for step in (0, 2, 3, 6)] == [1000, 1000, 5, 5]
    across = schedule.draw(np.arange(2 * GLOBAL_BATCH, 4 * GLOBAL_BATCH)).individuals
    assert (across == individuals[2:4].ravel()).all()
    assert len(stream) == 7 * GLOBAL_BATCH


def test_phase_does_not_change_the_random_numbers(everything):
    """A schedule whose later steps depend on its earlier phases: two arms of an experiment would differ by chance."""
    other = Schedule([Phase(Uniform(50), 4), Phase(Uniform(1000), 5)], 9, GLOBAL_BATCH, seed=0)
    assert (other.draw_step(1).words == everything[1][GLOBAL_BATCH : 2 * GLOBAL_BATCH]).all()


@pytest.mark.parametrize(
    "position",
    [
        7 * GLOBAL_BATCH,
        10**9,
        -1,
    ],
)
def test_outside_the_run(stream, position):
    """A position after the end that silently draws from the last phase; iteration relies on IndexError to stop."""
    with pytest.raises(IndexError, match="is outside the schedule of 7 steps"):
        stream[position]


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([], "at least one phase"),
        ([0], "phase 1 lasts 0 steps"),
        ([3, -1], "phase 2 lasts -1 steps"),
        ([None, 3], "phase 1 lasts to the end of training, but 1 follow"),
        ([3, 3], "the phases last 6 of 7 steps"),
        ([4, 3, None], "the last phase would begin at step 7"),
    ],
)
def test_phases_must_fill_the_run(lengths, message):
    """A phase of no length, or steps that belong to none."""
    with pytest.raises(InputError, match=message):
        Schedule([Phase(Uniform(5), length) for length in lengths], 7, GLOBAL_BATCH, seed=0)


def test_global_batch_must_be_positive():
    """A global batch of 0, which would end in a division by zero."""
    with pytest.raises(InputError, match="global batch 0"):
        Schedule(PHASES, 7, 0, seed=0)


def test_batch_equals_its_single_items(stream):
    """__getitem__ and __getitems__ that disagree."""
    positions = [0, 200, 95, 96, 97]
    batch = stream.__getitems__(positions)
    assert set(batch) == {"input_ids", "labels"}
    for name, rows in batch.items():
        assert rows.dtype == torch.int64
        assert torch.equal(rows, torch.stack([stream[position][name] for position in positions]))


def test_workers_change_nothing(stream):
    """Batches that depend on the number of loader processes."""
    here, elsewhere = (
        list(DataLoader(stream, batch_size=20, num_workers=workers, collate_fn=identity_collator)) for workers in (0, 2)
    )
    assert [len(batch["labels"]) for batch in here] == [20] * 11 + [4]
    for one, other in zip(here, elsewhere, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("input_ids", "labels"))
    assert torch.equal(torch.cat([batch["labels"] for batch in here]), stream.__getitems__(list(range(224)))["labels"])


def test_padding_is_not_learnt_but_the_end_is(stream, schedule, tokenizer, biographies):
    """Loss on padding, or none on the end token, which in many tokenizers is the padding token too."""
    positions = np.arange(64)
    draws, batch = schedule.draw(positions), stream.__getitems__(positions.tolist())
    texts = biographies.texts(biographies.lay_out(draws.individuals, draws.words)).to_list()
    lengths = []
    for text, input_ids, labels in zip(texts, batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        expected = [tokenizer.bos_token_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        padding = len(labels) - len(expected)
        assert labels == expected + [-100] * padding
        assert input_ids[: len(expected)] == expected
        assert set(input_ids[len(expected) :]) <= {tokenizer.eos_token_id, tokenizer.pad_token_id}
        lengths.append(len(expected))
    assert min(lengths) < max(lengths) <= batch["labels"].shape[1]
    assert stream.count_tokens(1) == sum(lengths[32:])
