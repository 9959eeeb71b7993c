"""Templates: cutting a sentence at its slots, and each individual's own split into training and evaluation."""

import numpy as np
import pytest

from factdata.facts import DEFAULT_FACTS
from factdata.templates import Template, TemplateSplits

ATTRIBUTES = [("birth_city", 25), ("university", 25), ("few", 2), ("odd", 7)]
SIZES = {"train": [20, 20, 1, 6], "evaluation": [5, 5, 1, 1]}
INDIVIDUALS = np.arange(2000)


@pytest.fixture(scope="module")
def splits() -> TemplateSplits:
    return TemplateSplits(ATTRIBUTES, seed=3)


def random_words(rows: int, columns: int) -> np.ndarray:
    return np.random.Philox(key=7).random_raw(rows * columns).reshape(rows, columns)


@pytest.mark.parametrize(
    "sentence",
    ["{name} {value}", "{name}'s city: {value}!", "In {name}'s time, {value} was new.", "{name} saw {value} today."],
)
def test_fill_gives_the_sentence_back(sentence):
    """A space lost or doubled at a slot."""
    assert Template.parse(sentence).fill("{name}", "{value}") == sentence
    expected = sentence.replace("{name}", "Zoë Wu").replace("{value}", "Łódź")
    assert Template.parse(sentence).fill("Zoë Wu", "Łódź") == expected


def test_shipped_templates_are_given_back():
    """A shipped sentence that the cutting changes."""
    lines = [line for file in (DEFAULT_FACTS / "templates").glob("*.txt") for line in file.read_text().splitlines()]
    assert [Template.parse(line).fill("{name}", "{value}") for line in lines] == lines
    assert len(lines) == 150


def test_parts_are_disjoint_and_complete(splits):
    """An evaluation template that was trained on: accuracy would measure memorised sentences, not facts."""
    parts = {part: splits.templates(INDIVIDUALS, part) for part in SIZES}
    for index, (_, number) in enumerate(ATTRIBUTES):
        for part, sizes in SIZES.items():
            assert parts[part][index].shape == (len(INDIVIDUALS), sizes[index])
        both = np.concatenate([parts["train"][index], parts["evaluation"][index]], axis=1)
        assert (np.sort(both, axis=1) == np.arange(number)).all()


def test_each_individual_has_its_own_split(splits, chi_square_p):
    """One split for all individuals or all attributes, or some templates held out more often than others."""
    held_out = splits.templates(INDIVIDUALS, "evaluation")[:2]
    city, university = ([frozenset(row) for row in column.tolist()] for column in held_out)
    assert len(set(city)) > 1500
    assert sum(one == other for one, other in zip(city, university, strict=True)) < 5
    for column in held_out:
        assert chi_square_p(np.bincount(column[:, 0], minlength=25)) > 1e-4


def test_splits_depend_on_seed_and_attribute_name_alone(splits):
    """A split that moves when an attribute is left out or others are evaluated: held-out templates would be seen."""
    alone = TemplateSplits([("university", 25)], seed=3).templates(INDIVIDUALS[::-1], "evaluation")[0][::-1]
    assert (alone == splits.templates(INDIVIDUALS, "evaluation")[1]).all()
    other_seed = TemplateSplits([("university", 25)], seed=4).templates(INDIVIDUALS, "evaluation")[0]
    assert (other_seed == alone).mean() < 0.1


@pytest.mark.parametrize("part", SIZES)
def test_choose_takes_every_template_of_the_part_equally_often(splits, part, chi_square_p):
    """A choice off by one at the border between the parts, or templates never or too often chosen."""
    words = random_words(20_000, len(ATTRIBUTES))
    chosen = splits.choose(np.full(len(words), 42), words, part)
    for index, templates in enumerate(splits.templates(np.array([42]), part)):
        counts = np.bincount(chosen[:, index], minlength=ATTRIBUTES[index][1])
        assert set(np.flatnonzero(counts)) == set(templates[0].tolist())
        if len(templates[0]) > 1:
            assert chi_square_p(counts[templates[0]]) > 1e-4


def test_choose_follows_each_row(splits):
    """Rows that mix up individuals, so that somebody is evaluated by another's split."""
    words = random_words(len(INDIVIDUALS), len(ATTRIBUTES))
    chosen = splits.choose(INDIVIDUALS, words, "train")
    for index, templates in enumerate(splits.templates(INDIVIDUALS, "train")):
        assert (templates == chosen[:, [index]]).any(axis=1).all()
    backwards = splits.choose(INDIVIDUALS[::-1], words[::-1], "train")
    assert (backwards[::-1] == chosen).all()
