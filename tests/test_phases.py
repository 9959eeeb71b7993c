"""Phases as people write them: durations, cohorts, distributions, and an error for every slip of the pen."""

import math

import numpy as np
import pytest

from factdata.distributions import Celebrities, Changing, InversePowerLaw, Subset, Uniform, Weighted
from factdata.distributions import WithinBatchRepetition as Repetition
from factdata.errors import InputError
from factdata.phases import build_phases
from factdata.schedules import Phase, Schedule

COHORTS = {"seen": range(64), "held_out": range(900, 950), "new": range(500, 532), "nobody": range(0)}
GLOBAL_BATCH, NUM_STEPS = 16, 100
UNIFORM = {"distribution": "uniform"}
SEQUENTIAL = {"distribution": "sequential", "groups": 4}
POWER = {"distribution": "inverse_power_law", "alpha": 1}
FAMOUS = {"distribution": "celebrities", "celebrities": 4, "weight": 8}
WEIGHTED = {"distribution": "weighted", "individuals": 2, "weights": [1, 3]}


def build(*specs) -> list[Phase]:
    return build_phases(specs, COHORTS, GLOBAL_BATCH, NUM_STEPS)


def distribution(**spec):
    (phase,) = build(spec)
    return phase.distribution


@pytest.mark.parametrize(
    ("spec", "steps"),
    [
        (UNIFORM, None),
        (UNIFORM | {"steps": 7}, 7),
        (UNIFORM | {"epochs": 5}, 20),  # 5 × 64 / 16
        (UNIFORM | {"epochs": 0.3}, 2),  # 1.2 steps, rounded up
        (UNIFORM | {"epochs": 5, "individuals": 8}, 20),  # an epoch is that of the whole cohort
        (UNIFORM | {"epochs": 5, "cohort": "new"}, 10),  # 5 × 32 / 16
        (UNIFORM | {"exposures": 10}, 40),  # 10 × 64 / 16
        (UNIFORM | {"exposures": 10, "individuals": 8}, 5),  # 10 × 8 / 16
        (UNIFORM | {"exposures": 2.5, "individuals": 10}, 2),  # 25 / 16, rounded up
        (UNIFORM | {"exposures": 4, "cohort": "held_out"}, 13),  # 4 × 50 / 16 = 12.5
        (UNIFORM | {"exposures": 4, "individuals": [8, 32]}, 8),  # 4 × 32 / 16: of the largest population
        (POWER | {"exposures": 10, "individuals": 8, "within_batch_repeats": 4}, 5),
    ],
)
def test_durations(spec, steps):
    """A phase shorter or longer than written: epochs of the wrong population, or a fraction rounded down."""
    (phase,) = build(spec)
    assert phase.steps == steps


def test_exposures_add_up():
    """Ten exposures written down and another number drawn."""
    phases = build(UNIFORM | {"individuals": 8, "exposures": 10}, UNIFORM | {"cohort": "new"})
    schedule = Schedule(phases, NUM_STEPS, GLOBAL_BATCH, seed=0)
    counts = schedule.count_exposures(0, 5)
    assert counts[:8].mean() == 10 and counts[8:].sum() == 0
    assert schedule.ends() == [5, 100]


def test_distributions():
    """A key that is read for another distribution, or dropped."""
    assert distribution(**UNIFORM) == Uniform(64)
    assert distribution(**UNIFORM, individuals=5) == Uniform(5)
    assert distribution(**POWER) == InversePowerLaw(64, 1)
    assert distribution(**POWER | {"alpha": 0.5}, individuals=9) == InversePowerLaw(9, 0.5)
    assert distribution(**FAMOUS) == Celebrities(64, 4, 8)
    assert distribution(**FAMOUS, individuals=20) == Celebrities(20, 4, 8)
    assert distribution(**WEIGHTED) == Weighted((1, 3))
    assert distribution(**UNIFORM, within_batch_repeats=4) == Repetition(Uniform(64), 4)
    assert distribution(**POWER, within_batch_repeats=2) == Repetition(InversePowerLaw(64, 1), 2)


def test_moving_parameters():
    """A growth, an exponent or a mixture that stands still, or moves backwards."""
    growing = distribution(**UNIFORM, individuals=[8, 32])
    assert growing == Changing("individuals", 8, 32, 32)
    assert distribution(**UNIFORM, individuals=[32, 8]) == Changing("individuals", 32, 8, 32)
    assert distribution(**POWER | {"alpha": [2, 0.5]}) == Changing("alpha", 2, 0.5, 64)
    moving = distribution(**WEIGHTED | {"weights": [[1, 0], [0, 1]]})
    assert moving == Changing("weights", (1, 0), (0, 1), 2)
    assert (growing.at(0), growing.at(1)) == (Uniform(8), Uniform(32))
    assert (moving.at(0), moving.at(1)) == (Weighted((1, 0)), Weighted((0, 1)))


def test_growth_over_the_steps_of_its_phase():
    """A population that grows over the whole training instead of over its phase."""
    phases = build(UNIFORM | {"individuals": [8, 64], "steps": 80}, UNIFORM | {"individuals": 4})
    schedule = Schedule(phases, NUM_STEPS, GLOBAL_BATCH, seed=0)
    sizes = [schedule.distribution_at(step).size for step in range(NUM_STEPS)]
    assert sizes[0] == 8 and sizes[79] == 64 and sizes[80:] == [4] * 20
    assert sizes[:80] == sorted(sizes[:80]) and abs(sizes[40] - 36) <= 1


def test_plateau_end():
    """An adaptive phase without its limit, or with one it was not given."""
    one, other = build(UNIFORM | {"until": "plateau_end"}, UNIFORM | {"until": "plateau_end", "steps": 9})
    assert (one.until, one.steps) == ("plateau_end", None)
    assert (other.until, other.steps) == ("plateau_end", 9)
    assert build(UNIFORM)[0].until is None


def test_new_cohort_is_disjoint_from_seen():
    """Individuals of the second population who were trained on before: forgetting would not be measured."""
    phases = build(UNIFORM | {"steps": 50}, POWER | {"cohort": "new", "individuals": 10, "within_batch_repeats": 2})
    assert phases[1].distribution.support == range(500, 510)
    schedule = Schedule(phases, NUM_STEPS, GLOBAL_BATCH, seed=0)
    drawn = schedule.draw(np.arange(NUM_STEPS * GLOBAL_BATCH)).individuals.reshape(NUM_STEPS, -1)
    assert set(drawn[:50].ravel()) == set(range(64))
    assert set(drawn[50:].ravel()) == set(range(500, 510))
    for spec in (UNIFORM, POWER, FAMOUS, WEIGHTED):
        (phase,) = build(spec | {"cohort": "new"})
        assert phase.distribution == Subset(distribution(**{"individuals": 32} | spec), 500)


@pytest.mark.parametrize("cohort", ["seen", "new"])
def test_sequential_groups(cohort):
    """Turns out of order, of the wrong group, or steps lost where lengths do not divide."""
    phases = build(SEQUENTIAL | {"groups": 3, "repeats": 2, "steps": 20, "cohort": cohort}, UNIFORM)
    assert [phase.name for phase in phases[:-1]] == ["group 1", "group 2", "group 3"] * 2
    assert [phase.steps for phase in phases] == [3, 3, 4, 3, 3, 4, None]  # edges 0 3 6 10 13 16 20
    everybody = COHORTS[cohort]
    cuts = [everybody.start + len(everybody) * group // 3 for group in range(4)]
    supports = [phase.distribution.support for phase in phases[:-1]]
    assert supports == [range(cuts[0], cuts[1]), range(cuts[1], cuts[2]), range(cuts[2], cuts[3])] * 2
    assert Schedule(phases, NUM_STEPS, GLOBAL_BATCH, seed=0).ends() == [3, 6, 10, 13, 16, 20, 100]


def test_sequential_takes_the_steps_that_are_left():
    """A last phase of groups that ends before training does, or forgets what came before it."""
    phases = build(UNIFORM | {"steps": 10}, SEQUENTIAL | {"individuals": 10})
    assert [phase.steps for phase in phases] == [10, 22, 23, 22, None]  # 90 steps: edges 0 22 45 67 90
    assert [phase.distribution.support for phase in phases[1:]] == [range(2), range(2, 5), range(5, 7), range(7, 10)]
    repeated = build(SEQUENTIAL | {"within_batch_repeats": 4})
    assert {phase.distribution.repeats for phase in repeated} == {4}


def test_names():
    """Phases that the log cannot tell apart."""
    assert build(UNIFORM)[0].name == "uniform over 64 seen"
    assert build(POWER | {"cohort": "new", "individuals": 7})[0].name == "inverse_power_law over 7 new"


ERRORS = [
    (UNIFORM | {"stpes": 3}, r"uniform takes no 'stpes'; did you mean 'steps'\?"),
    (UNIFORM | {"alpha": 1}, "uniform takes no 'alpha'"),
    (UNIFORM | {3: 4}, "uniform takes no 3"),
    ({"steps": 3}, "wanted keys such as"),
    ("uniform", "wanted keys such as"),
    ({"distribution": "unifrom"}, r"unknown distribution 'unifrom'; did you mean 'uniform'\?"),
    ({"distribution": None}, "unknown distribution None; known: uniform, inverse_power_law"),
    ({"distribution": "inverse_power_law"}, "inverse_power_law needs alpha"),
    ({"distribution": "celebrities"}, "celebrities needs celebrities and weight"),
    ({"distribution": "celebrities", "weight": 3}, "celebrities needs celebrities$"),
    ({"distribution": "sequential"}, "sequential needs groups"),
    ({"distribution": "weighted"}, "weighted needs weights"),
    (UNIFORM | {"steps": 3, "epochs": 1}, "has steps and epochs; one of them says"),
    (UNIFORM | {"exposures": 3, "epochs": 1}, "has epochs and exposures"),
    (UNIFORM | {"steps": 0}, "steps 0: wanted more than 0"),
    (UNIFORM | {"steps": -2}, "steps -2: wanted"),
    (UNIFORM | {"steps": 2.5}, "steps 2.5: wanted a whole number"),
    (UNIFORM | {"steps": "9"}, "steps '9': wanted a number"),
    (UNIFORM | {"steps": True}, "steps True: wanted a number"),
    (UNIFORM | {"steps": None}, "steps None: wanted a number"),
    (UNIFORM | {"cohort": "sean"}, r"no cohort 'sean'; did you mean 'seen'\?"),
    (UNIFORM | {"cohort": "nobody"}, "no cohort 'nobody'; known: seen, held_out, new"),
    (UNIFORM | {"individuals": 65}, "individuals 65: wanted 1 to 64"),
    (UNIFORM | {"individuals": 33, "cohort": "new"}, "individuals 33: wanted 1 to 32"),
    (UNIFORM | {"individuals": 0}, "individuals 0: wanted 1 to 64"),
    (UNIFORM | {"individuals": "many"}, "individuals 'many': wanted a whole number"),
    (UNIFORM | {"individuals": [8, 65]}, "individuals 65: wanted 1 to 64"),
    (UNIFORM | {"individuals": [8]}, r"individuals: wanted \[from, to\], found \[8\]"),
    (UNIFORM | {"individuals": [8, 9, 10]}, r"individuals: wanted \[from, to\]"),
    (POWER | {"individuals": [8, 9]}, "works with the uniform distribution only"),
    (UNIFORM | {"individuals": [8, 9], "cohort": "new"}, "works on the seen cohort"),
    (UNIFORM | {"individuals": [8, 9], "within_batch_repeats": 2}, "without within_batch_repeats"),
    (UNIFORM | {"within_batch_repeats": 0}, "repeats 0: wanted 1 or more"),
    (UNIFORM | {"within_batch_repeats": "2"}, "repeats '2': wanted a whole number"),
    (POWER | {"alpha": -1}, "alpha -1: wanted 0 or more"),
    (POWER | {"alpha": "steep"}, "alpha 'steep': wanted a number"),
    (POWER | {"alpha": [1]}, r"alpha: wanted \[from, to\], found \[1\]"),
    (POWER | {"alpha": [1, -2]}, "alpha -2: wanted 0 or more"),
    (POWER | {"alpha": math.nan}, "alpha nan"),
    (FAMOUS | {"celebrities": 5, "individuals": 4}, "celebrities 5: wanted 1 to 4"),
    (FAMOUS | {"celebrities": 0}, "celebrities 0: wanted 1 to 64"),
    (FAMOUS | {"weight": 0}, "weight 0: wanted more than 0"),
    (FAMOUS | {"weight": "x"}, "weight 'x': wanted a number"),
    (SEQUENTIAL | {"groups": 65}, "groups 65: wanted 1 to 64"),
    (SEQUENTIAL | {"repeats": 0}, "repeats 0: wanted 1 or more"),
    (SEQUENTIAL | {"repeats": 3, "steps": 11}, "12 turns of groups do not fit 11 steps"),
    (WEIGHTED | {"weights": [1, 2, 3]}, r"weights \[1, 2, 3\]: wanted a list of 2 numbers"),
    (WEIGHTED | {"weights": [[1, 2], [3]]}, r"weights \[3\]: wanted a list of 2 numbers"),
    (WEIGHTED | {"weights": [[1, 2], [2, 1], [1, 1]]}, r"weights: wanted \[from, to\]"),
    (WEIGHTED | {"weights": [1, -2]}, r"weights \[1, -2\]"),
    (WEIGHTED | {"weights": [[0, 0], [1, 2]]}, "at least one above 0"),
]


@pytest.mark.parametrize(("spec", "message"), ERRORS)
def test_errors_name_the_phase(spec, message):
    """A slip that is read as something else, or an error that does not say which phase is meant."""
    with pytest.raises(InputError, match=f"^schedule, phase 1: .*{message}"):
        build(spec)
    with pytest.raises(InputError, match=r"^schedule, phase 3: "):
        build(UNIFORM | {"steps": 20}, SEQUENTIAL | {"steps": 40}, spec, UNIFORM)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([UNIFORM, UNIFORM], "phase 1 lasts to the end of training, but 1 follow it"),
        ([UNIFORM | {"steps": 40}, UNIFORM | {"steps": 59}], "the phases last 99 of 100 steps"),
        ([UNIFORM | {"epochs": 25}, UNIFORM], "the last phase would begin at step 100, but training has 100"),
        ([UNIFORM | {"until": "plateau"}, UNIFORM], "ends until 'plateau'; known: plateau_end"),
    ],
)
def test_phases_must_fill_training(specs, message):
    """Training that runs out of phases, or never comes to the last one."""
    with pytest.raises(InputError, match=message):
        Schedule(build(*specs), NUM_STEPS, GLOBAL_BATCH, seed=0)


UNCAUGHT = {
    "batch that repeats do not divide": UNIFORM | {"within_batch_repeats": 3},
    "until of groups, ignored": SEQUENTIAL | {"until": "plateau_end"},
    "growth of groups, ignored": SEQUENTIAL | {"individuals": [8, 16]},
    "growth until plateau_end": UNIFORM | {"individuals": [8, 16], "until": "plateau_end"},
    "empty growth": UNIFORM | {"individuals": []},
    "growth from a word": UNIFORM | {"individuals": ["a", 4]},
    "weights no list": WEIGHTED | {"weights": 3},
    "weights of words": WEIGHTED | {"weights": ["a", "b"]},
    "weights half moving": WEIGHTED | {"weights": [[1, 2], 3]},
    "alpha to infinity": POWER | {"alpha": [0, math.inf]},
    "epochs without end": UNIFORM | {"epochs": math.inf},
    "epochs no number": UNIFORM | {"epochs": math.nan},
    "cohort a list": UNIFORM | {"cohort": ["seen"]},
    "distribution a list": {"distribution": ["uniform"]},
}


@pytest.mark.parametrize("name", UNCAUGHT)
def test_errors_that_are_not_found(name):
    """A phase that is not what was written, or crashes in the middle of a run, or a traceback in place of one line."""
    with pytest.raises(InputError, match=r"^schedule, phase 1: "):
        build(UNCAUGHT[name])
