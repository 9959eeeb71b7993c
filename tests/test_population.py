"""Population: unique names, uniform and independent values, cohorts that stay where they are."""

import itertools

import numpy as np
import pytest

from factdata.errors import InputError
from factdata.facts import Facts
from factdata.hashing import derive_key, permute
from factdata.population import Population, cohort_ranges, spread

KEY = derive_key(0, "test")
NAME_SIZES = {"first_names": 40, "middle_names": 30, "last_names": 50}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 9973])
def test_permute_is_a_bijection(size):
    """Two individuals with one name, or a name that nobody can have."""
    permuted = permute(np.arange(size), size, KEY)
    assert (np.sort(permuted) == np.arange(size)).all()


def test_permute_of_all_names(chi_square_p):
    """A network that overflows, repeats itself or leaves gaps at the paper's 810 million names."""
    size = 810_000_000
    permuted = permute(np.arange(0, size, 4001), size, KEY)
    assert 0 <= permuted.min() <= permuted.max() < size
    assert len(np.unique(permuted)) == len(permuted) > 200_000
    assert chi_square_p(np.bincount(permuted * 100 // size, minlength=100)) > 1e-4


def test_permute_shuffles():
    """A permutation that is (nearly) the identity, or the same for every key: neighbours would share their names."""
    one, other = (permute(np.arange(1000), 1000, derive_key(seed, "test")) for seed in (0, 1))
    assert abs(np.corrcoef(one, np.arange(1000))[0, 1]) < 0.1
    assert (one == np.arange(1000)).mean() < 0.01
    assert (one == other).mean() < 0.01


@pytest.mark.parametrize("index", [-1, 10, 11])
def test_permute_refuses_what_lies_outside(index):
    """An individual beyond the last name, who would silently get somebody else's."""
    with pytest.raises(ValueError, match=r"leave range\(10\)"):
        permute(np.array([3, index]), 10, KEY)


def test_names_are_unique():
    """Two individuals of one full name but different facts: the task could not be learnt."""
    names = Population(Facts.load(), seed=0).names(np.arange(200_000))
    assert len(set(names)) == 200_000


def test_names_are_unique_whatever_the_pools(facts_folder):
    """Names of several words that read alike when joined: Anna Maria + Smith and Anna + Maria Smith."""
    attributes = facts_folder / "attributes.yaml"
    attributes.write_text(attributes.read_text(encoding="utf-8").replace("[people]", "[first, last]"), encoding="utf-8")
    (facts_folder / "pools" / "first.txt").write_text("Anna\nAnna Maria\n", encoding="utf-8")
    (facts_folder / "pools" / "last.txt").write_text("Smith\nMaria Smith\n", encoding="utf-8")
    with pytest.raises(InputError, match="first and last both have values with spaces"):
        Facts.load(facts_folder)
    (facts_folder / "pools" / "first.txt").write_text("Anna\nBo\n", encoding="utf-8")
    assert len(set(Population(Facts.load(facts_folder)).names(np.arange(4)))) == 4


def test_individual_does_not_depend_on_the_others(facts):
    """An individual who changes when more of them are asked for, or in another order."""
    population, some = Population(facts, seed=5), np.array([59_999, 0, 77])
    names, values = population.names(np.arange(60_000)), population.values(np.arange(60_000))
    assert population.names(some) == [names[k] for k in some]
    assert population.values(some) == {a: [column[k] for k in some] for a, column in values.items()}


def test_individual_does_not_depend_on_other_attributes(facts):
    """Values keyed by column number: leaving an attribute out would give everybody new facts."""
    fewer = Facts.load(attributes=["current_city", "birth_date"], pool_sizes={"cities": 20, "years": 30} | NAME_SIZES)
    some = np.arange(500)
    everything = Population(facts, seed=5).values(some)
    assert Population(fewer, seed=5).values(some) == {a: everything[a] for a in ("current_city", "birth_date")}
    assert Population(fewer, seed=5).names(some) == Population(facts, seed=5).names(some)


def test_values_join_their_parts(facts):
    """Parts of a value in the wrong order, or from another attribute's columns."""
    population = Population(facts, seed=5)
    parts, values = population.value_parts(np.arange(300)), population.values(np.arange(300))
    pools = [facts.pools[pool] for attribute in facts.attributes for pool in attribute.pools]
    for row, date, city in zip(parts.tolist(), values["birth_date"], values["current_city"], strict=True):
        assert date == f"{pools[0][row[0]]} {pools[1][row[1]]} {pools[2][row[2]]}"
        assert city == facts.pools["cities"][row[-1]]


def test_values_are_uniform(chi_square_p):
    """Values that are more frequent than others: the baseline log(number of values) would be wrong."""
    facts = Facts.load()
    parts = Population(facts, seed=0).value_parts(np.arange(200_000))
    pools = [pool for attribute in facts.attributes for pool in attribute.pools]
    assert parts.shape == (200_000, len(pools))
    for column, pool in zip(parts.T, pools, strict=True):
        counts = np.bincount(column)
        assert len(counts) == len(facts.pools[pool])
        assert chi_square_p(counts) > 1e-4, pool


def test_attributes_are_independent(facts, chi_square_p):
    """One attribute (or the name) that gives away another: birth city and current city from one hash, for instance."""
    population = Population(facts, seed=0)
    columns = np.concatenate([f(np.arange(60_000)) for f in (population.name_parts, population.value_parts)], axis=1)
    for one, other in itertools.combinations(columns.T, 2):
        table = np.bincount(one * (other.max() + 1) + other).reshape(one.max() + 1, -1)
        expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
        assert chi_square_p(table, expected, (table.shape[0] - 1) * (table.shape[1] - 1)) > 1e-4


def test_seeds_differ(facts):
    """Repetitions with different seeds that share their population: the spread over seeds would be too small."""
    one, other = Population(facts, seed=0), Population(facts, seed=1)
    some = np.arange(1000)
    assert len(set(one.names(some)) & set(other.names(some))) < 50
    assert (one.value_parts(some) == other.value_parts(some)).mean() < 0.1


def test_a_million_individuals():
    """Something that grows with the square of the population, or cannot count so far."""
    population = Population(Facts.load(), seed=0)
    parts = population.value_parts(np.arange(1_000_000))
    assert parts.shape == (1_000_000, 8)
    assert (parts[-3:] == population.value_parts(np.array([999_997, 999_998, 999_999]))).all()


def test_cohorts_neither_overlap_nor_move(facts):
    """Somebody in two cohorts, or a larger cohort that changes who is in another."""
    small, large = cohort_ranges(facts, 100, 50, 20), cohort_ranges(facts, 30_000, 20_000, 10_000)
    assert {name: len(cohort) for name, cohort in small.items()} == {"seen": 100, "held_out": 50, "new": 20}
    assert sum(map(len, large.values())) == len(set().union(*large.values())) == 60_000
    for name, cohort in small.items():
        assert set(cohort) <= set(large[name]) <= set(range(60_000))
        grown = cohort_ranges(facts, **{"seen": 100, "held_out": 50, "new": 20, name: 5000})
        assert all(grown[other] == small[other] for other in small if other != name)
    assert not cohort_ranges(facts, 60_000)["new"]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"seen": 60_001},
            "60,001 individuals wanted, but 40 first_names × 30 middle_names × 50 last_names allow 60,000",
        ),
        ({"seen": 59_000, "held_out": 1001}, "60,001 individuals wanted"),
        ({"seen": 30_001, "new": 1}, "overlap: seen is individuals 0–30,000, new begins at 30,000 of 60,000"),
        (
            {"seen": 1, "held_out": 10_001, "new": 20_000},
            "overlap: new is individuals 30,000–49,999, held_out begins at",
        ),
        ({"seen": 0}, "0 seen individuals"),
        ({"seen": 1, "held_out": -1}, "-1 held_out individuals"),
        ({"seen": 1, "new": 10_000_001}, "10000001 new individuals: wanted 1 to 10,000,000"),
    ],
)
def test_impossible_cohorts(facts, sizes, message):
    """Cohorts that silently share individuals, or an error without the numbers."""
    with pytest.raises(InputError, match=message):
        cohort_ranges(facts, **sizes)


@pytest.mark.parametrize(("size", "count"), [(1, 5), (5, 5), (768, 128), (64_000, 1024), (3, 1)])
def test_spread_is_even_and_unique(size, count):
    """Evaluating only the first individuals, who are the frequent ones under a power law, or one of them twice."""
    chosen = spread(range(100, 100 + size), count)
    assert len(set(chosen.tolist())) == min(size, count)
    assert chosen[0] == 100 and chosen[-1] <= 99 + size
    if count > 1 < size:
        assert chosen[-1] == 99 + size
        assert np.ptp(np.diff(chosen)) <= 1
