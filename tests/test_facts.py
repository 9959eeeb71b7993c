"""Facts: the shipped tables are the paper's, a user's own folder works, and every fault in one is named."""

import math
import re
import unicodedata
from pathlib import Path

import pytest

from factdata.errors import InputError
from factdata.facts import DEFAULT_FACTS, Facts
from factdata.metrics import no_knowledge_baseline

PAPER_POOLS = {
    "first_names": 900,
    "middle_names": 900,
    "last_names": 1000,
    "cities": 800,
    "universities": 200,
    "majors": 100,
    "companies": 500,
    "days": 31,
    "months": 12,
    "years": 201,
}
# Of each list, one begins a word before the value, so that the text says which attribute comes.
WORDS_THAT_NAME = {
    "birth_date": ["birth born newborn delivered life world older", "birthday date day calendar year on"],
    "birth_city": [
        "birth born native baby infant life hails",
        "city place birthplace native hospital clinic geograph in from",
    ],
    "university": [
        "universit alma diploma graduat undergraduate academic alumni education institution tuition commence"
    ],
    "major": ["major field degree subject special disciplin course academic classes"],
    "company": [
        "compan employ salar corporat career job wages work firm staff professional offices recruit colleagues"
    ],
    "current_city": ["live living resid home household house dwell inhabit rents"],
}
PRONOUNS = {"he", "she", "him", "her", "his", "hers", "himself", "herself"}


@pytest.fixture(scope="module")
def shipped() -> Facts:
    return Facts.load()


def plain(text: str) -> str:
    """Without case and accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def begins_a_word(stems: str, text: str) -> bool:
    return any(word.startswith(tuple(stems.split())) for word in words(text))


def test_sizes_of_shipped_facts(shipped):
    """A pool or template file that lost lines, and with them the paper's baseline and number of names."""
    assert {pool: len(values) for pool, values in shipped.pools.items()} == PAPER_POOLS
    assert [len(attribute.templates) for attribute in shipped.attributes] == [25] * 6
    assert shipped.attribute_names == ("birth_date", "birth_city", "university", "major", "company", "current_city")
    assert shipped.num_names == 810_000_000


@pytest.mark.parametrize("pool", PAPER_POOLS)
def test_shipped_values_differ_in_more_than_case_and_accents(shipped, pool):
    """Two spellings of one value, which a tokenizer or a reader would confuse."""
    assert len({plain(value) for value in shipped.pools[pool]}) == PAPER_POOLS[pool]


def test_baseline_is_the_papers(shipped):
    """A baseline over tokens, or with a pool forgotten: every plateau would be read off against a wrong line."""
    sizes = [31 * 12 * 201, 800, 200, 100, 500, 800]
    assert [shipped.num_values(attribute) for attribute in shipped.attributes] == sizes
    assert shipped.baseline() == pytest.approx(sum(math.log(size) for size in sizes) / 6)
    assert shipped.baseline() == pytest.approx(6.785, abs=5e-4)
    assert no_knowledge_baseline(sizes) == pytest.approx(shipped.baseline())


@pytest.mark.parametrize("attribute", WORDS_THAT_NAME)
def test_shipped_templates_state_the_fact_before_the_value(attribute):
    """A template whose attribute is told only after the value, or never, or that gives the individual a gender."""
    for line in (DEFAULT_FACTS / "templates" / f"{attribute}.txt").read_text(encoding="utf-8").splitlines():
        before, after = line.split("{value}")
        assert after == ".", line
        assert before.count("{name}") == 1, line
        assert not PRONOUNS & set(words(line.replace("{name}", ""))), line
        for stems in WORDS_THAT_NAME[attribute]:
            assert begins_a_word(stems, before), (line, stems)


def test_shipped_templates_do_not_confuse_the_two_cities(shipped):
    """A sentence that fits both cities, which share a pool, or stands in two files: nobody could learn from it."""
    lines = {a.name: [t.fill("", "") for t in a.templates] for a in shipped.attributes}
    for attribute, other in (("birth_city", "current_city"), ("current_city", "birth_city")):
        assert not [line for line in lines[attribute] if begins_a_word(WORDS_THAT_NAME[other][0], line)]
    assert len({line for attribute in lines.values() for line in attribute}) == 6 * 25


def test_limits_keep_the_first_values_and_templates(facts_folder):
    """Limits that take other entries, so that a smaller pool is no part of the larger one."""
    facts = Facts.load(facts_folder, attributes=["river"], pool_sizes={"rivers": 3}, num_templates=2)
    assert facts.attribute_names == ("river",)
    assert facts.pools == {"people": ("Al", "Zoë", "Ida", "Bartholomew", "Meg"), "rivers": ("Nile", "Rhine", "Po")}
    assert [t.fill("Al", "Po") for t in facts.attributes[0].templates] == [
        "Al swims in the Po.",
        "Fish know Al from the Po.",
    ]


def test_users_own_facts(facts_folder):
    """Something of the shipped facts wired in: six attributes, three name pools, values followed by a full stop."""
    facts = Facts.load(facts_folder)
    assert (facts.attribute_names, facts.num_names) == (("colour", "river"), 5)
    assert facts.attributes[0].question == "Which colour does {name} like?"
    assert facts.attributes[0].templates[2].fill("Zoë", "red") == "Zoë's bike was painted red last year."
    assert facts.baseline() == pytest.approx((math.log(4) + math.log(8)) / 2)
    reordered = Facts.load(facts_folder, attributes=["river", "colour"])
    assert reordered.attribute_names == ("river", "colour")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attributes": ["colr"]}, "unknown attribute 'colr'; did you mean 'colour'?"),
        ({"attributes": ["xyz"]}, "unknown attribute 'xyz'; known: colour, river"),
        ({"attributes": ["river", "river"]}, "an attribute is named twice: river, river"),
        ({"attributes": []}, "no attributes: name at least one"),
        ({"pool_sizes": {"rivers": 9}}, "pool_sizes asks for 9 of the 8 values in rivers.txt"),
        ({"pool_sizes": {"rivers": 0}}, "pool_sizes asks for 0 of the 8"),
        ({"pool_sizes": {"river": 3}}, "unused pool 'river'; did you mean 'rivers'?"),
        ({"attributes": ["colour"], "pool_sizes": {"rivers": 3}}, "unused pool 'rivers'"),
        ({"num_templates": 4}, "colour.txt: 4 templates wanted, 3 there"),
        ({"num_templates": 1}, "at least 2, one to train and one to evaluate"),
    ],
)
def test_wrong_arguments(facts_folder, arguments, message):
    """A wrong argument that passes silently, or an error that does not say what would be right."""
    with pytest.raises(InputError, match=re.escape(message)):
        Facts.load(facts_folder, **arguments)


HEAD, ENTRY = "name: [people]\nattributes:\n", "  colour: {value: [colours], question: 'What does {name} like?'}\n"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("attributes.yaml", None, "no attributes.yaml in the facts folder"),
        ("attributes.yaml", "name: [people", "not valid YAML"),
        ("attributes.yaml", "- people\n", "wanted exactly the keys 'name' and 'attributes'"),
        ("attributes.yaml", HEAD + ENTRY + "seed: 1\n", "wanted exactly the keys 'name' and 'attributes'"),
        ("attributes.yaml", "name: people\nattributes:\n" + ENTRY, "'name' must be a list of pools"),
        ("attributes.yaml", HEAD, "'attributes' must map each attribute"),
        ("attributes.yaml", HEAD + "  colour: [colours]\n", "attribute 'colour' needs"),
        ("attributes.yaml", HEAD + ENTRY.replace("[colours]", "colours"), "attribute 'colour' needs"),
        ("attributes.yaml", HEAD + ENTRY.replace("{name}", "Al"), "must contain {name} exactly once"),
        ("pools/colours.txt", None, "no pool file"),
        ("pools/colours.txt", "", "colours.txt: no values"),
        ("pools/colours.txt", "red\nblue\nred\n", "colours.txt:3: 'red' stands already on line 1"),
        ("pools/colours.txt", "red\n\nblue\n", "colours.txt:2: empty line"),
        ("pools/colours.txt", "red \n", "colours.txt:1: empty line, or spaces at the ends or doubled"),
        ("pools/colours.txt", "red\ndark  blue\n", "colours.txt:2: empty line, or spaces"),
        ("templates/colour.txt", None, "no template file"),
        ("templates/colour.txt", "{name} likes {value}.\n", "1 templates wanted, 1 there; at least 2"),
        ("templates/colour.txt", "{name} likes it.\n", "colour.txt:1: the template needs {value} exactly once"),
        (
            "templates/colour.txt",
            "He likes {value}.\n",
            "colour.txt:1: the template needs {name} exactly once, has it 0",
        ),
        ("templates/colour.txt", "{name}: {name} is {value}.\n", "needs {name} exactly once, has it 2 times"),
        ("templates/colour.txt", "{value} pleases {name}.\n", "states {value} before {name}"),
        ("templates/colour.txt", "{name} likes {value} and {this}.\n", "slot or brace other than"),
        ("templates/colour.txt", "{name} likes {value}}.\n", "slot or brace other than"),
        ("templates/colour.txt", "{name} likes-{value}.\n", "neither begins the sentence nor follows a space"),
        ("templates/colour.txt", "Mc{name} likes {value}.\n", "neither begins the sentence nor follows a space"),
        ("templates/colour.txt", "{name}  likes {value}.\n", "has spaces at its ends or doubled"),
        (
            "templates/colour.txt",
            "{name} is {value}.\n{name} is {value}.\n",
            "colour.txt:2: the template stands already",
        ),
    ],
)
def test_wrong_files(facts_folder: Path, file, text, message):
    """A slip in a user's file that passes silently, or whose error names neither file nor line."""
    (facts_folder / file).unlink()
    if text is not None:
        (facts_folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(message)):
        Facts.load(facts_folder)
