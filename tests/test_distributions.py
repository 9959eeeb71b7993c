"""Distributions: what is drawn is what ``probabilities`` says, for every kind and at every end."""

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from factdata.distributions import (
    LEVELS,
    Celebrities,
    Changing,
    InversePowerLaw,
    Subset,
    Uniform,
    Weighted,
    WithinBatchRepetition,
    entropy,
    sequential_groups,
)
from factdata.errors import InputError

SIZE = 10_000
LARGEST = 1 - 2.0**-53  # the largest random number a stream can hand out
LAWS = [(0, 0.0), (0.5, -0.5), (1, -1.0), (1.5, -1.5), (3, -3.0)]
DISTRIBUTIONS = {
    "uniform": Uniform(SIZE),
    **{f"power_law_{alpha}": InversePowerLaw(SIZE, alpha) for alpha, _ in LAWS},
    "celebrities": Celebrities(SIZE, 100, 20),
    "celebrities_rarer": Celebrities(SIZE, 2500, 0.25),
    "all_celebrities": Celebrities(SIZE, SIZE, 3),
    "weighted": Weighted(tuple(float(w) for w in range(SIZE))),
    "weighted_sources": Weighted((0, 1, 0, 2.5, 0)),
    "subset": Subset(InversePowerLaw(SIZE, 1), 500),
    "subset_of_subset": Subset(Subset(Uniform(SIZE), 300), 200),
    "repetition": WithinBatchRepetition(Uniform(SIZE), 1),
    "growing": Changing("individuals", 100, SIZE, SIZE).at(0.5),
    "steeper": Changing("alpha", 0, 2, SIZE).at(0.7),
    "mixture": Changing("weights", (1.0, 0.0, 3.0), (0.0, 5.0, 1.0), 3).at(0.3),
    "group": sequential_groups(3 * SIZE, 3)[1],
}


def merge(counts: np.ndarray, expected: np.ndarray, least: float = 10) -> tuple[np.ndarray, np.ndarray]:
    """Neighbouring bins joined until each expects ``least`` draws."""
    bins = np.minimum(np.floor(np.cumsum(expected) / least), round(expected.sum() / least) - 1).astype(int)
    keep = np.bincount(bins, weights=expected) > 0
    return np.bincount(bins, weights=counts)[keep], np.bincount(bins, weights=expected)[keep]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_frequencies_are_the_probabilities(name, chi_square_p):
    """Individuals drawn more or less often than reported: exposures and entropies in every table would be wrong."""
    distribution, draws = DISTRIBUTIONS[name], 20 * SIZE
    p = distribution.probabilities()
    assert p.shape == (distribution.size,) and p.dtype == np.float64
    assert (p >= 0).all() and p.sum() == pytest.approx(1, abs=1e-12)
    drawn = distribution.individuals(np.random.default_rng(0).random(draws))
    assert drawn.shape == (draws,) and drawn.dtype == np.int64
    counts = np.bincount(drawn, minlength=distribution.size)
    assert counts.size == distribution.size
    assert not counts[p == 0].any()
    assert chi_square_p(*merge(counts, p * draws)) > 1e-3
    assert chi_square_p(*merge(counts, p * draws, least=draws / 10)) > 1e-3  # few large bins see a slow drift


@pytest.mark.parametrize("alpha", [0.8, 1.2])
def test_frequency_test_has_power(alpha, chi_square_p):
    """A chi-square test too weak to tell one power law from the next: the test above would prove nothing."""
    drawn = InversePowerLaw(SIZE, alpha).individuals(np.random.default_rng(0).random(20 * SIZE))
    expected = InversePowerLaw(SIZE, 1).probabilities() * 20 * SIZE
    assert chi_square_p(*merge(np.bincount(drawn, minlength=SIZE), expected)) < 1e-6


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_support_holds_the_ends(name):
    """The largest random number that falls on an individual past the end, or the smallest on one before the begin."""
    distribution, p = DISTRIBUTIONS[name], DISTRIBUTIONS[name].probabilities()
    support = distribution.support
    possible = np.flatnonzero(p)
    assert support.step == 1 and support.stop == distribution.size
    assert support.start <= possible[0] and possible[-1] < support.stop
    first, last = distribution.individuals(np.array([0.0, LARGEST])).tolist()
    assert (first, last) == (possible[0], possible[-1])


@pytest.mark.parametrize("seed", range(20))
def test_ends_of_uneven_sizes(seed):
    """Rounding that lets the last of an odd number of individuals spill over."""
    random = np.random.default_rng(seed)
    size, ends = int(random.integers(2, 2**20)), np.array([0.0, LARGEST])
    celebrities, weight = int(random.integers(1, size)), float(random.uniform(1e-3, 1e3))
    weights = tuple(random.uniform(0.1, 7, size=1 + size % 999).tolist())
    for distribution in (InversePowerLaw(size, 1.1), Celebrities(size, celebrities, weight), Weighted(weights)):
        assert distribution.individuals(ends).tolist() == [0, distribution.size - 1]


def test_supports():
    """A subset that says it starts at 0: its individuals would be evaluated as those of another cohort."""
    assert Uniform(7).support == InversePowerLaw(7, 1).support == Celebrities(7, 1, 2).support == range(7)
    assert Weighted((1, 0, 2)).support == range(3)
    assert Subset(Uniform(7), 5).support == range(5, 12)
    assert Subset(Subset(Uniform(7), 5), 100).support == range(105, 112)
    assert WithinBatchRepetition(Subset(Uniform(7), 5), 2).support == range(5, 12)


def test_alpha_zero_is_uniform():
    """Two arms of an experiment, uniform and alpha 0, that differ by chance."""
    uniforms = np.random.default_rng(0).random(100_000)
    for size in (1, 2, 977, 64_000):
        assert (InversePowerLaw(size, 0).individuals(uniforms) == Uniform(size).individuals(uniforms)).all()
        assert InversePowerLaw(size, 0).probabilities() == pytest.approx(1 / size)


@pytest.mark.parametrize(("alpha", "slope"), LAWS)
def test_power_law_has_its_exponent(alpha, slope):
    """Ranks counted from the wrong individual, or an exponent of the wrong sign."""
    p = InversePowerLaw(1000, alpha).probabilities()
    ranks = np.arange(1, 1001)
    assert np.log(p[:100] / p[0]) == pytest.approx(slope * np.log(ranks[:100]), abs=1e-9)
    assert InversePowerLaw(4, 1).probabilities() == pytest.approx(np.array([12, 6, 4, 3]) / 25)


@pytest.mark.parametrize("weight", [0.1, 1, 3, 1000])
def test_celebrities_have_exactly_their_weight(weight):
    """A weight that is shared by the celebrities, or that counts draws of all of them together."""
    p = Celebrities(50, 8, weight).probabilities()
    assert p[:8] / p[8] == pytest.approx(weight, rel=1e-12)
    assert (p[:8] == p[0]).all() and (p[8:] == p[8]).all()
    grid = (np.arange(1_000_000) + 0.5) / 1_000_000  # evenly spaced numbers show the inverse CDF without noise
    counts = np.bincount(Celebrities(50, 8, weight).individuals(grid), minlength=50)
    assert np.abs(counts - p * 1_000_000).max() <= 2


@pytest.mark.parametrize(
    ("base", "repeats"), [(Uniform(10**9), 4), (Uniform(10**9), 1), (Subset(Uniform(10**9), 7), 32)]
)
def test_repetition_within_a_batch(base, repeats):
    """A batch with an individual once more or less than asked for, or repeats that the next step carries on."""
    distribution = WithinBatchRepetition(base, repeats)
    uniforms = np.random.default_rng(0).random(64)
    drawn, counts = np.unique(distribution.individuals(uniforms), return_counts=True)
    assert drawn.size == 64 // repeats and (counts == repeats).all()
    assert set(drawn.tolist()) <= set(base.individuals(uniforms).tolist())
    assert distribution.size == base.size
    assert (WithinBatchRepetition(Uniform(9), repeats).probabilities() == Uniform(9).probabilities()).all()


def test_repetition_keeps_the_marginals(chi_square_p):
    """Repetition that draws some individuals more often over many steps, not only together."""
    distribution, random = WithinBatchRepetition(InversePowerLaw(40, 1), 8), np.random.default_rng(0)
    steps = [distribution.individuals(random.random(64)) for _ in range(1000)]
    counts = np.bincount(np.concatenate(steps), minlength=40) / 8  # the draws that were independent
    assert chi_square_p(counts, distribution.probabilities() * 8000) > 1e-3


def test_repetition_needs_a_divisor():
    """A batch filled up with somebody who is there less often than the others."""
    with pytest.raises(InputError, match="global batch of 10 does not hold individuals 4 times each"):
        WithinBatchRepetition(Uniform(5), 4).individuals(np.zeros(10))


def test_changing_begins_and_ends_where_it_says():
    """A parameter that stops one level before its end, or begins after its begin."""
    growing, law = Changing("individuals", 16, 512, 512), Changing("alpha", 2, 0.5, 9)
    mixture = Changing("weights", (1.0, 0.0), (1.0, 3.0), 2)
    assert [growing.at(progress) for progress in (0, 1, 0.9999)] == [Uniform(16), Uniform(512), Uniform(512)]
    assert [law.at(progress) for progress in (0, 1)] == [InversePowerLaw(9, 2), InversePowerLaw(9, 0.5)]
    assert [mixture.at(progress).weights for progress in (0, 1)] == [(1, 0), (1, 3)]
    assert Changing("individuals", 512, 16, 512).at(1) == Uniform(16)


def test_changing_moves_evenly_one_way():
    """A parameter that goes back on its way, jumps, or does not move until late."""
    ways = np.linspace(0, 1, 10 * LEVELS + 1)
    sizes = np.array([Changing("individuals", 100, 6400, 6400).at(way).size for way in ways])
    alphas = np.array([Changing("alpha", 2, 0, 9).at(way).alpha for way in ways])
    shares = np.array([Changing("weights", (1.0, 0.0), (0.0, 1.0), 2).at(way).probabilities()[1] for way in ways])
    for values, begin, end in ((sizes, 100, 6400), (alphas, 2, 0), (shares, 0, 1)):
        part = (values - begin) / (end - begin)
        assert (np.diff(part) >= 0).all() and np.unique(part).size == LEVELS
        assert np.abs(part - ways).max() < 1.1 / LEVELS


def test_changing_keeps_its_levels():
    """A table of 64 levels built anew for every batch, which would make each step as slow as the first."""
    changing = Changing("alpha", 0, 1, 1000)
    assert changing.at(0.5) is changing.at(0.5)
    assert changing.at(0.5) is not changing.at(0.6)


def test_groups_are_even_and_complete():
    """An individual in two groups or in none, or a last group that is far smaller than the others."""
    for size, groups in ((10, 3), (64, 4), (7, 7), (1000, 1), (100, 64)):
        supports = [group.support for group in sequential_groups(size, groups)]
        assert len(supports) == groups and supports[0].start == 0 and supports[-1].stop == size
        assert all(one.stop == other.start for one, other in pairwise(supports))
        assert max(map(len, supports)) - min(map(len, supports)) <= 1


def test_entropy():
    """Entropy in bits, of individuals who are never drawn (not a number), or of the wrong distribution."""
    assert entropy(Uniform(1000)) == pytest.approx(math.log(1000))
    assert entropy(Subset(Uniform(1000), 9000)) == pytest.approx(math.log(1000))
    assert entropy(InversePowerLaw(1000, 0)) == pytest.approx(math.log(1000))
    assert entropy(Weighted((1, 0, 3))) == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))
    assert entropy(Uniform(1)) == 0


def test_ten_million_individuals_fit():
    """A power law whose tables outgrow the memory of a data loader worker."""
    law, uniforms = InversePowerLaw(10_000_000, 1), np.random.default_rng(0).random(1000)
    tracemalloc.start()
    drawn = law.individuals(uniforms)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6
    harmonic = math.log(1e7) + np.euler_gamma
    assert (drawn < 1000).mean() == pytest.approx((math.log(1000) + np.euler_gamma) / harmonic, abs=0.06)
    assert law.individuals(np.array([LARGEST])).tolist() == [9_999_999]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InversePowerLaw(5, -0.1), "alpha -0.1: wanted 0"),
        (lambda: InversePowerLaw(5, math.inf), "alpha inf"),
        (lambda: InversePowerLaw(5, math.nan), "alpha nan"),
        (lambda: Celebrities(5, 0, 2), "0 celebrities: wanted 1 to all 5"),
        (lambda: Celebrities(5, 6, 2), "6 celebrities: wanted 1 to all 5"),
        (lambda: Celebrities(5, 2, 0), "weight 0: wanted more than 0"),
        (lambda: Celebrities(5, 2, math.inf), "weight inf"),
        (lambda: Weighted(()), r"weights \[\]: wanted"),
        (lambda: Weighted((1, -1, 3)), r"weights \[1, -1, 3\]"),
        (lambda: Weighted((0, 0)), "at least one above 0"),
        (lambda: Weighted((1, math.nan)), "weights .*nan"),
        (lambda: Weighted((1, math.inf)), "weights .*inf"),
        (lambda: WithinBatchRepetition(Uniform(5), 0), "0 repeats within a batch: wanted 1"),
        (lambda: sequential_groups(5, 0), "0 groups of 5 individuals: wanted 1 to 5"),
        (lambda: sequential_groups(5, 6), "6 groups of 5"),
    ],
)
def test_parameters_are_checked(make, message):
    """A parameter without sense that shows only as NaN probabilities in the middle of a run."""
    with pytest.raises(InputError, match=message):
        make()
