"""SyntheticBiographies: what its rows say, that no way of making them changes them, and when they are made anew."""

import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
from conftest import ATTRIBUTES, POOL_SIZES

from factdata import examples
from factdata.builder import OPTIONS, SyntheticBiographies, load_biographies
from factdata.errors import InputError
from factdata.facts import Facts
from factdata.population import Population
from factdata.templates import TemplateSplits

CONFIGS = ("population", "biographies", "questions")
SIZES = {"seen_individuals": 60, "held_out_individuals": 20, "new_individuals": 10}
SMALL = {"attributes": ATTRIBUTES, "pool_sizes": POOL_SIZES, "population_seed": 1, **SIZES}
NUMBERS = {"seen": 60, "held_out": 20, "new": 10}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    datasets.disable_progress_bars()
    # Several tables a split that begin in the middle of an individual, so that rows can be wrong where tables meet.
    monkeypatch.setattr(examples, "ROWS_PER_TABLE", 13)


@pytest.fixture
def load(tmp_path):
    """Rows of a config about a small population."""

    def make(config_name: str, **options) -> datasets.DatasetDict:
        return load_biographies(config_name, **{"cache_dir": tmp_path / "cache"} | SMALL | options)

    return make


@pytest.fixture
def values(facts):
    """(individual, attribute) → the value, by the population itself."""
    population, everyone = Population(facts, seed=1), np.arange(facts.num_names)
    columns = population.values(everyone)
    return lambda individual, attribute: columns[attribute][individual]


def rows_of(dataset: datasets.DatasetDict) -> list[dict]:
    return [row for split in dataset.values() for row in split]


def test_population_says_what_population_and_splits_say(load, facts):
    """A second way of making names, values or template splits that drifts from the one that training uses."""
    data, population = load("population"), Population(facts, seed=1)
    splits = TemplateSplits([(a.name, len(a.templates)) for a in facts.attributes], seed=1)
    assert {cohort: split.num_rows for cohort, split in data.items()} == NUMBERS
    for cohort, split in data.items():
        individuals = np.array(split["individual"])
        assert set(split["cohort"]) == {cohort}
        assert split["name"][:] == population.names(individuals)
        for attribute, column in population.values(individuals).items():
            assert split[attribute][:] == column
        for part in ("train", "evaluation"):
            for i, attribute in enumerate(ATTRIBUTES):
                wanted = np.sort(splits.templates(individuals, part)[i], axis=1).tolist()
                assert [row[attribute] for row in split[f"{part}_templates"]] == wanted


def test_schemas():
    """A column that goes missing or becomes a class label, and tables that datasets must cast one by one."""
    columns = {}
    for config in CONFIGS:
        builder = SyntheticBiographies(config_name=config, **SMALL)
        made = builder.tables.table(config, "seen", range(5))
        assert made.schema.equals(builder.info.features.arrow_schema)
        assert builder.info.citation and builder.info.license and builder.info.description
        columns[config] = list(builder.info.features)
        columns[f"{config} text"] = [name for name, f in builder.info.features.items() if f == datasets.Value("string")]
    fixed = ["individual", "cohort", "name"]
    assert columns["population"] == [*fixed, *ATTRIBUTES, "train_templates", "evaluation_templates"]
    assert columns["population text"] == ["cohort", "name", *ATTRIBUTES]
    assert columns["biographies"] == ["individual", "text", "value_spans", "template_ids"]
    assert columns["questions"] == ["individual", "attribute", "question", "answer"]


def test_cohorts_are_disjoint_and_empty_ones_have_no_split(load):
    """Held-out individuals that are trained on, and splits without rows, which datasets cannot write."""
    data = load("population")
    names = [row["name"] for row in rows_of(data)]
    assert len(set(names)) == len(names) == sum(NUMBERS.values())
    assert list(load("population", held_out_individuals=0, new_individuals=0)) == ["seen"]


@pytest.mark.parametrize("part", ["train", "evaluation"])
def test_biographies(load, facts, values, part):
    """Spans that do not cut out the value, and evaluation with templates that the individual was trained on."""
    data = load("biographies", biographies_per_individual=3, template_part=part)
    people = {row["individual"]: row for row in rows_of(load("population"))}
    assert {cohort: split.num_rows for cohort, split in data.items()} == {c: 3 * n for c, n in NUMBERS.items()}
    for row in rows_of(data):
        person, text = people[row["individual"]], row["text"]
        for attribute in facts.attributes:
            span, template = row["value_spans"][attribute.name], row["template_ids"][attribute.name]
            value = values(row["individual"], attribute.name)
            assert text[span["begin"] : span["end"]] == value == person[attribute.name]
            assert template in person[f"{part}_templates"][attribute.name]
            sentence = attribute.templates[template].fill(person["name"], value)
            assert sentence in text and text.index(sentence) < span["begin"] < text.index(sentence) + len(sentence)
        assert len(text) == sum(
            len(a.templates[row["template_ids"][a.name]].fill(person["name"], person[a.name])) + 1
            for a in facts.attributes
        ) - 1  # fmt: skip


def test_biographies_depend_on_seed_individual_and_number_only(load):
    """Texts that change when more are made of each individual or more individuals exist, or that repeat."""
    three = load("biographies", biographies_per_individual=3)["seen"]["text"][:]
    two = load("biographies", biographies_per_individual=2, seen_individuals=70)["seen"]["text"][:]
    assert [t for i, t in enumerate(three) if i % 3 < 2] == two[:120]
    assert len(set(three)) > 170  # of 180; a chance repetition would need the same templates in the same order
    assert len(set(three) & set(load("biographies", biographies_per_individual=3, seed=1)["seen"]["text"])) < 10


def test_questions(load, values):
    """Answers that belong to another individual or attribute, where a table begins in the middle of an individual."""
    data = load("questions")
    people = {row["individual"]: row for row in rows_of(load("population"))}
    rows = rows_of(data)
    assert [row["attribute"] for row in rows] == ATTRIBUTES * sum(NUMBERS.values())
    assert [row["individual"] for row in rows] == [person for person in people for _ in ATTRIBUTES]
    for row in rows:
        assert row["answer"] == values(row["individual"], row["attribute"])
        assert people[row["individual"]]["name"] in row["question"] and "{" not in row["question"]


@pytest.mark.parametrize("config", CONFIGS)
def test_prepared_streamed_and_two_processes_agree(load, tmp_path, config):
    """Rows or their order that depend on how they are made; streaming's patches of the builder's module."""
    data = load(config, biographies_per_individual=2)
    prepared = {cohort: split[:] for cohort, split in data.items()}
    two = load(config, biographies_per_individual=2, cache_dir=tmp_path / "two", num_proc=2)
    assert {cohort: split[:] for cohort, split in two.items()} == prepared

    builder = SyntheticBiographies(tmp_path / "none", config_name=config, **SMALL, biographies_per_individual=2)
    streams = builder.as_streaming_dataset()
    assert {cohort: list(stream) for cohort, stream in streams.items()} == {c: list(d) for c, d in data.items()}
    stream = builder.as_streaming_dataset(split="seen")
    assert stream.num_shards > 2 and list(stream.take(5)) == list(data["seen"].take(5))
    halves = [row for index in range(2) for row in stream.shard(num_shards=2, index=index, contiguous=True)]
    assert halves == list(data["seen"])


@pytest.mark.parametrize("config", CONFIGS)
def test_parquet_round_trip(load, tmp_path, config):
    """Columns that change their type on the way to the Hub, where datasets are Parquet."""
    data = load(config)["seen"]
    data.to_parquet(tmp_path / "seen.parquet")
    back = datasets.load_dataset("parquet", data_files=str(tmp_path / "seen.parquet"), cache_dir=str(tmp_path / "back"))
    assert back["train"].features == data.features and back["train"][:] == data[:]


def test_own_facts(facts_folder, tmp_path):
    """Spans counted in bytes where names are not ASCII, and facts of a user's own that are ignored."""
    sizes = {"seen_individuals": 3, "held_out_individuals": 2}
    data = load_biographies(
        "biographies", cache_dir=tmp_path, facts=facts_folder, biographies_per_individual=9, **sizes
    )
    population = Population(Facts.load(facts_folder))
    for row in rows_of(data):
        for attribute, column in population.values(np.array([row["individual"]])).items():
            span = row["value_spans"][attribute]
            assert row["text"][span["begin"] : span["end"]] == column[0]
    assert any("Zoë" in row["text"] for row in rows_of(data))
    assert data["seen"].info.license == ""


def test_second_call_reads_the_cache(load, monkeypatch):
    """Rows that are made anew at every call."""
    first = load("biographies")["seen"][:]
    monkeypatch.setattr(examples.ExampleTables, "table", lambda *_: pytest.fail("made again"))
    assert load("biographies", template_part="train", seed=0)["seen"][:] == first


CHANGES = {
    "attributes": ATTRIBUTES[::-1],
    "pool_sizes": POOL_SIZES | {"cities": 19},
    "num_templates": 20,
    "population_seed": 2,
    "seen_individuals": 61,
    "held_out_individuals": 0,
    "new_individuals": 11,
    "biographies_per_individual": 2,
    "seed": 3,
    "template_part": "evaluation",
}


def test_every_option_has_its_own_cache(tmp_path, facts_folder):
    """One option's rows read from another's cache; the same options in another form cached twice."""

    def cache(**options):
        return SyntheticBiographies(tmp_path, config_name="biographies", **SMALL | options).cache_dir

    assert set(CHANGES) | {"facts"} == set(OPTIONS)
    folders = [cache(), cache(facts=facts_folder, attributes=["river"], pool_sizes={}, **dict.fromkeys(SIZES, 1))]
    folders += [cache(**{option: value}) for option, value in CHANGES.items()]
    assert len(set(folders)) == len(folders)
    same = {"attributes": tuple(ATTRIBUTES), "pool_sizes": dict(reversed(POOL_SIZES.items())), "num_templates": None}
    assert cache(**same, template_part="train") == cache()


def test_changed_facts_or_sources_make_new_rows(tmp_path, facts_folder, monkeypatch):
    """An edited template, pool or generator that goes on giving the rows of before from the cache."""

    def cache(folder: Path) -> str:
        sizes = {"seen_individuals": 3, "held_out_individuals": 2}
        return SyntheticBiographies(tmp_path, config_name="biographies", facts=folder, **sizes).cache_dir

    before = cache(facts_folder)
    copy = shutil.copytree(facts_folder, tmp_path / "elsewhere")
    assert cache(copy) == before
    template = copy / "templates" / "river.txt"
    template.write_text(template.read_text(encoding="utf-8").replace("swims", "bathes"), encoding="utf-8")
    assert cache(copy) != before

    sources = shutil.copytree(Path(examples.__file__).parent, tmp_path / "sources")
    monkeypatch.setattr(examples, "__file__", str(sources / "examples.py"))
    assert cache(facts_folder) == before
    (sources / "hashing.py").write_text("# changed\n", encoding="utf-8")
    assert cache(facts_folder) != before


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ("biography", {}, "no config 'biography'; did you mean 'biographies'?"),
        (None, {}, "no config None; known: population, biographies, questions"),
        ("population", {"seen_individual": 5}, "unknown option 'seen_individual'; did you mean 'seen_individuals'?"),
        ("population", {"seen_individuals": 70_000}, "allow 60,000 full names; use larger name pools"),
        ("population", {"seen_individuals": "60"}, "seen_individuals '60': wanted a whole number, 0 or more"),
        ("biographies", {"biographies_per_individual": 0}, "wanted a whole number, 1 or more"),
        ("biographies", {"seed": -1}, "seed -1: wanted a whole number, 0 or more"),
        ("biographies", {"template_part": "eval"}, "template_part 'eval'; known: train, evaluation"),
        ("biographies", {"num_templates": 99}, "99 templates wanted, 25 there"),
        ("questions", {"attributes": ["birth_town"]}, "unknown attribute 'birth_town'"),
        ("questions", {"pool_sizes": {"cities": 1.5}}, "pool_sizes['cities'] 1.5: wanted a whole number"),
        ("questions", {"facts": "no/such/folder"}, "no attributes.yaml in the facts folder no/such/folder"),
    ],
)
def test_bad_options(tmp_path, config, options, message):
    """A mistake that shows as a stack trace of datasets, or only after something was written."""
    with pytest.raises(InputError) as error:
        load_biographies(config, cache_dir=tmp_path / "cache", **SMALL | options)
    assert message in str(error.value)
    assert not (tmp_path / "cache").exists()


def test_attribute_with_the_name_of_a_column(tmp_path, facts_folder):
    """An attribute called 'name' that silently replaces the individual's name."""
    attributes = facts_folder / "attributes.yaml"
    attributes.write_text(attributes.read_text(encoding="utf-8").replace("river:", "name:"), encoding="utf-8")
    (facts_folder / "templates" / "river.txt").rename(facts_folder / "templates" / "name.txt")
    with pytest.raises(InputError, match="'name' has the name of another column"):
        load_biographies("population", cache_dir=tmp_path, facts=facts_folder, seen_individuals=3)
