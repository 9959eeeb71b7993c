"""ScheduledDataset: a schedule over the groups of anybody's dataset; and the report of what a schedule has drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from callbacks.distribution_schedule import DistributionScheduleCallback, report_exposures, sum_of_probabilities
from factdata.distributions import Changing, InversePowerLaw, Subset, Uniform
from factdata.errors import InputError
from factdata.phases import build_phases
from factdata.schedules import Phase, Schedule
from factdata.stream import ScheduledDataset

SOURCES = ["web", "books", "code"]
COUNTS = {"web": 50, "books": 7, "code": 23}
ONLY_SECOND = [{"distribution": "weighted", "weights": [0, 1, 0]}]


@pytest.fixture(scope="module")
def rows() -> Dataset:
    """80 rows of three sources, mixed; each text says its source and row number."""
    sources = np.random.default_rng(0).permutation(np.repeat(SOURCES, list(COUNTS.values()))).tolist()
    return Dataset.from_dict({"text": [f"{source} {row}" for row, source in enumerate(sources)], "source": sources})


def drawn_sources(dataset: ScheduledDataset, rows: Dataset) -> np.ndarray:
    """The source of every example, [steps, global batch]."""
    numbers = dataset.row_numbers(range(len(dataset)))
    return np.array(rows["source"][:])[numbers].reshape(dataset.schedule.num_steps, -1)


@pytest.mark.parametrize("groups", [SOURCES, SOURCES[::-1], None])
def test_only_the_group_asked_for(rows, groups):
    """Rows of a neighbouring group, or weights given to the groups in another order than the one written down."""
    dataset = ScheduledDataset(rows, "source", ONLY_SECOND, 40, 16, groups)
    assert dataset.groups == (groups or ["books", "code", "web"])
    wanted = dataset.groups[1]
    numbers = dataset.row_numbers(range(len(dataset)))
    assert set(numbers.tolist()) == {row for row, source in enumerate(rows["source"]) if source == wanted}
    batch = dataset.__getitems__([0, 17, 300])
    assert [row["source"] for row in batch] == [wanted] * 3
    assert [row["text"] for row in batch] == [f"{wanted} {number}" for number in numbers[[0, 17, 300]]]


def test_frequencies_follow_the_weights(rows, chi_square_p):
    """A mixture by the number of rows instead of by weight, or rows of a group that are never or too often drawn."""
    schedule = [{"distribution": "weighted", "weights": [1, 5, 2]}]
    dataset = ScheduledDataset(rows, "source", schedule, 200, 64, SOURCES)
    assert len(dataset) == 200 * 64
    counts = np.array([(drawn_sources(dataset, rows) == source).sum() for source in SOURCES])
    assert chi_square_p(counts, np.array([1, 5, 2]) / 8 * 12_800) > 1e-3
    of_row = np.bincount(dataset.row_numbers(range(len(dataset))), minlength=80)
    for source, count in zip(SOURCES, counts, strict=True):
        members = np.array(rows["source"][:]) == source
        assert chi_square_p(of_row[members], np.full(members.sum(), count / members.sum())) > 1e-3


def test_curriculum(rows):
    """A curriculum that begins mixed, moves at other steps than written, or does not arrive."""
    schedule = [
        {"distribution": "weighted", "weights": [1, 0, 0], "steps": 10},
        {"distribution": "weighted", "weights": [[1, 0, 0], [0, 1, 0]], "steps": 128},
        {"distribution": "weighted", "weights": [0, 0, 1]},
    ]
    drawn = drawn_sources(ScheduledDataset(rows, "source", schedule, 150, 64, SOURCES, seed=1), rows)
    share = (drawn == "books").mean(axis=1)
    assert (drawn[:10] == "web").all() and (drawn[138:] == "code").all() and not (drawn[:138] == "code").any()
    assert share[10:12].max() == 0 and share[136:138].min() == 1
    for begin in range(10, 138, 32):
        assert share[begin : begin + 32].mean() == pytest.approx((begin + 16 - 10) / 128, abs=0.04)


def test_a_pure_function_of_seed_and_position(rows):
    """Rows that depend on what was read before, on the batch, or not on the seed."""
    schedule = [{"distribution": "uniform"}]
    dataset, again = (ScheduledDataset(rows, "source", schedule, 9, 16) for _ in range(2))
    whole, order = dataset.row_numbers(range(144)), np.random.default_rng(0).permutation(144)
    assert (again.row_numbers(order) == whole[order]).all()
    assert [again[position] for position in range(5)] == dataset.__getitems__(range(5))
    other = ScheduledDataset(rows, "source", schedule, 9, 16, seed=1)
    assert (other.row_numbers(range(144)) == whole).mean() < 0.1
    with pytest.raises(IndexError, match="outside the schedule"):
        dataset[144]


def test_as_dataset_gives_the_same_rows(rows):
    """Trainers that need a datasets.Dataset trained on something else."""
    dataset = ScheduledDataset(rows, "source", ONLY_SECOND, 4, 8)
    same = dataset.as_dataset()
    assert len(same) == 32
    assert [same[position] for position in range(32)] == dataset.__getitems__(range(32))
    assert same[5:9]["text"] == [row["text"] for row in dataset.__getitems__(range(5, 9))]
    assert same.__getitems__([3, 30]) == dataset.__getitems__([3, 30])


def test_numbers_as_groups():
    """Groups that are not text, such as the person a row is about."""
    people = Dataset.from_dict({"person": [3, 1, 2, 3, 1], "text": list("abcde")})
    dataset = ScheduledDataset(people, "person", [{"distribution": "weighted", "weights": [1, 0, 0]}], 5, 4, [3, 1, 2])
    assert {row["text"] for row in dataset.__getitems__(range(20))} == {"a", "d"}


@pytest.mark.parametrize(
    ("column", "schedule", "groups", "message"),
    [
        ("sauce", [{"distribution": "uniform"}], None, "no column 'sauce'; it has text, source"),
        ("source", [{"distribution": "uniform"}], ["web", "books"], "are not the values of 'source'"),
        ("source", [{"distribution": "uniform"}], [*SOURCES, "law"], "are not the values of 'source'"),
        ("source", [{"distribution": "uniform"}], ["web", "web", "code"], "are not the values of 'source'"),
        ("source", [{"distribution": "weighted", "weights": [1, 2]}], None, "phase 1: .* wanted a list of 3 numbers"),
        ("source", [{"distribution": "uniform", "steps": 2}], None, "the phases last 2 of 5 steps"),
        ("source", [{"distribution": "uniform", "cohort": "new"}], None, "phase 1: there is no cohort 'new'"),
    ],
)
def test_errors(rows, column, schedule, groups, message):
    """A group left out in silence, or weights that belong to other groups."""
    with pytest.raises(InputError, match=message):
        ScheduledDataset(rows, column, schedule, 5, 4, groups)


@pytest.mark.parametrize("made", ["itself", "as_dataset"])
def test_in_a_plain_trainer(rows, tmp_path, make_gpt2, made):
    """A Trainer that shuffles the rows, drops their columns, or reads ahead of the schedule."""
    schedule = [{"distribution": "weighted", "weights": [0, 1, 0], "steps": 2}, {"distribution": "uniform"}]
    dataset, batches = ScheduledDataset(rows, "source", schedule, 4, 8), []

    def collate(examples: list[dict]) -> dict[str, torch.Tensor]:
        batches.append([example["text"] for example in examples])
        ids = [torch.tensor(list(example["text"].encode())) for example in examples]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=0)
        return {"input_ids": padded, "labels": padded.masked_fill(padded == 0, -100)}

    settings = {"remove_unused_columns": False, "use_cpu": True, "report_to": "none", "save_strategy": "no"}
    settings |= {"gradient_accumulation_steps": 2, "train_sampling_strategy": "sequential", "disable_tqdm": True}
    training = TrainingArguments(str(tmp_path), per_device_train_batch_size=4, max_steps=4, **settings)
    data = dataset if made == "itself" else dataset.as_dataset()
    trainer = Trainer(make_gpt2(256), training, collate, data)
    trainer.add_callback(DistributionScheduleCallback(trainer, dataset.schedule))
    trainer.train()
    texts = np.array(rows["text"][:])
    assert batches == texts[dataset.row_numbers(range(32))].reshape(8, 4).tolist()
    assert all(text.startswith("code") for batch in batches[:4] for text in batch)
    assert [row["schedule/phase"] for row in trainer.state.log_history if "schedule/phase" in row] == [0, 1]


def test_exposures_add_up():
    """Exposures reported of another phase or of other steps, or a gap that hides a wrong distribution."""
    phases = [Phase(Changing("alpha", 0, 1, 50), 70), Phase(Subset(Uniform(20), 30), 30), Phase(InversePowerLaw(9, 1))]
    schedule = Schedule(phases, 160, 32, seed=0)
    report = report_exposures(schedule)
    assert [(row["begin"], row["end"], row["individuals"]) for row in report] == [
        (0, 70, 50),
        (70, 100, 20),
        (100, 160, 9),
    ]
    for row in report:
        drawn = (row["end"] - row["begin"]) * 32
        assert row["actual_exposures"] * row["individuals"] == pytest.approx(drawn)
        assert row["expected_exposures"] * row["individuals"] == pytest.approx(drawn)
        assert row["never_drawn"] == 0 and 0.3 < row["largest_gap"] < 4
    counts = sum(np.bincount(schedule.draw_step(step).individuals, minlength=50) for step in range(100, 160))
    assert (schedule.count_exposures(100, 160) == counts).all()


@pytest.mark.parametrize("changing", [Changing("individuals", 3, 40, 40), Changing("alpha", 2, 0, 40)])
def test_sum_of_probabilities(changing):
    """A changing phase summed as if it stood still, or steps of one level counted twice."""
    schedule = Schedule([Phase(Uniform(7), 11), Phase(changing, 150), Phase(Uniform(5))], 170, 4, seed=0)
    naive = np.zeros(40)
    for step in range(11, 161):
        p = schedule.distribution_at(step).probabilities()
        naive[: len(p)] += p
    assert sum_of_probabilities(schedule, 11, 161) == pytest.approx(naive[:40])
    assert sum_of_probabilities(schedule, 0, 11) == pytest.approx(11 / 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per_device_train_batch_size": 8}, "draws 4 examples a step, the run takes 1 ranks × 8 × 1 = 8"),
        ({"gradient_accumulation_steps": 2}, "1 ranks × 4 × 2 = 8"),
        ({"train_sampling_strategy": "random"}, "set train_sampling_strategy to sequential"),
        ({"max_steps": 4}, "the schedule has 5 steps, the run 4"),
    ],
)
def test_runs_that_do_not_match_are_refused(rows, tmp_path, make_gpt2, arguments, message):
    """A run that reads other positions at a step than its schedule says, without anybody noticing."""
    dataset = ScheduledDataset(rows, "source", ONLY_SECOND, 5, 4)
    settings = {"per_device_train_batch_size": 4, "max_steps": 5, "train_sampling_strategy": "sequential"} | arguments
    training = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", **settings)
    trainer = Trainer(make_gpt2(8), training, None, dataset)
    trainer.add_callback(DistributionScheduleCallback(trainer, dataset.schedule))
    with pytest.raises(InputError, match=message):
        trainer.train()


ADAPTIVE = {"distribution": "uniform", "until": "plateau_end"}
ENDS_EARLY = {
    "last phase": [ADAPTIVE],
    "limit of the last phase": [ADAPTIVE | {"steps": 8}],
    "fixed phase behind": [ADAPTIVE | {"steps": 8}, {"distribution": "uniform", "steps": 8}],
    "groups behind": [ADAPTIVE | {"steps": 8}, {"distribution": "sequential", "groups": 2}],
}


@pytest.mark.parametrize("name", ENDS_EARLY)
def test_adaptive_schedules_last_to_the_end(name):
    """A run that crashes because its plateau ended: refused when it is planned, or the last phase goes on."""
    try:
        schedule = Schedule(build_phases(ENDS_EARLY[name], {"seen": range(64)}, 4, 16), 16, 4, seed=0)
    except InputError:
        return
    if name != "limit of the last phase":
        schedule.announce_end(0, 4)
    for step in range(16):
        schedule.draw_step(step)


def test_announcement_does_not_change_what_was_drawn():
    """A growing phase whose past, and prefetched future, is another one once its end is announced."""
    specs = [ADAPTIVE | {"individuals": [8, 800]}, {"distribution": "uniform"}]
    try:
        schedule = Schedule(build_phases(specs, {"seen": range(800)}, 4, 16), 16, 4, seed=0)
    except InputError:
        return
    before = schedule.draw_step(5).individuals
    schedule.announce_end(0, 8)
    assert (schedule.draw_step(5).individuals == before).all()
