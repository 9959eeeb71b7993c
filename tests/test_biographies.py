"""Biographies: text, tokens and roles agree with sentences put together the slow way."""

import itertools
import math

import numpy as np
import pytest

from factdata.biographies import FIRST_VALUE, NAME, PADDING, TEXT, Biographies, TokenizedBiographies
from factdata.errors import InputError
from factdata.facts import Facts
from factdata.population import Population
from factdata.tokenization import encode_pieces, tokenize_biographies, train_tokenizer

INDIVIDUALS = np.random.default_rng(0).integers(0, 60_000, size=300)
WORDS = np.random.Philox(key=11).random_raw(300)


@pytest.fixture(scope="module", params=["train", "evaluation"])
def layout(request, biographies):
    return biographies.lay_out(INDIVIDUALS, WORDS, request.param)


@pytest.fixture
def tiny(facts_folder):
    """Few enough to write down every biography, and a tokenizer whose pieces differ in length: nearly bytes."""
    biographies = Biographies(Population(Facts.load(facts_folder), seed=0))
    return biographies, train_tokenizer(biographies, vocab_size=270)


def runs_of(role: int, tokens: np.ndarray, roles: np.ndarray) -> list[np.ndarray]:
    """The stretches of tokens that have this role."""
    groups = itertools.groupby(zip(roles.tolist(), tokens.tolist(), strict=True), key=lambda pair: pair[0])
    return [np.array([token for _, token in run]) for found, run in groups if found == role]


def test_text_is_the_filled_templates_in_order(facts, biographies, layout):
    """A piece in the wrong column, a value of somebody else, a space too many: everything but the slow way itself."""
    names = biographies.population.names(INDIVIDUALS)
    values = biographies.population.values(INDIVIDUALS)
    texts, began_with_name = biographies.texts(layout).to_list(), 0
    for row, text in enumerate(texts):
        sentences = []
        for index in layout.order[row]:
            attribute = facts.attributes[index]
            template = attribute.templates[layout.templates[row, index]]
            sentences.append(template.fill(names[row], values[attribute.name][row]))
        assert text == " ".join(sentences)
        began_with_name += text.startswith(names[row])
    assert 50 < began_with_name < 250  # both kinds of beginning were checked
    assert (np.sort(layout.order, axis=1) == np.arange(4)).all()


def test_value_spans_cut_out_the_values(facts, biographies, layout):
    """Spans counted in bytes, or shifted by the space before a value."""
    batch = biographies.texts(layout)
    values = biographies.population.values(INDIVIDUALS)
    texts = batch.to_list()
    assert sum(not text.isascii() for text in texts) > 20
    for index, attribute in enumerate(facts.attribute_names):
        spans = zip(texts, batch.value_begin[:, index], batch.value_end[:, index], strict=True)
        assert [text[begin:end] for text, begin, end in spans] == values[attribute]


def test_every_order_of_sentences_occurs_equally_often(biographies, chi_square_p):
    """A fixed or lopsided order: a model could tell the attribute from its place."""
    words = np.random.Philox(key=12).random_raw(20_000)
    order = biographies.lay_out(np.arange(20_000), words).order
    counts = np.unique(order, axis=0, return_counts=True)[1]
    assert len(counts) == math.factorial(4)
    assert chi_square_p(counts) > 1e-4


def test_order_and_templates_are_independent(biographies, chi_square_p):
    """Order and templates from the same random bits."""
    words = np.random.Philox(key=13).random_raw(20_000)
    layout = biographies.lay_out(np.zeros(20_000, dtype=int), words)
    chosen = np.unique(layout.templates[:, 0], return_inverse=True)[1]
    table = np.bincount(layout.order[:, 0] * 20 + chosen, minlength=80).reshape(4, 20)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    assert chi_square_p(table, expected, 3 * 19) > 1e-4


def test_biography_does_not_depend_on_its_batch(tokenized):
    """An example that changes with the batch size, the rank or a resume."""
    whole = tokenized.render(INDIVIDUALS, WORDS, with_roles=True)
    backwards = tokenized.render(INDIVIDUALS[::-1], WORDS[::-1])
    assert (backwards.input_ids[::-1] == whole.input_ids).all()
    for row in (0, 17, 299):
        alone = tokenized.render(INDIVIDUALS[[row]], WORDS[[row]], with_roles=True)
        assert (alone.labels[0] == whole.labels[row]).all()
        assert (alone.roles[0] == whole.roles[row]).all()
    other_words = tokenized.render(INDIVIDUALS, WORDS[::-1])
    assert (other_words.labels != whole.labels).any(axis=1).mean() > 0.99


@pytest.mark.parametrize("part", ["train", "evaluation"])
def test_tokens_decode_to_the_text(biographies, tokenizer, tokenized, part):
    """Tokens and text that disagree, so that what is trained on is not what is shown."""
    texts = biographies.texts(biographies.lay_out(INDIVIDUALS, WORDS, part)).to_list()
    for labels, text in zip(tokenized.render(INDIVIDUALS, WORDS, part).labels, texts, strict=True):
        assert tokenizer.decode(labels[labels >= 0], skip_special_tokens=True) == text


@pytest.mark.parametrize("part", ["train", "evaluation"])
def test_roles_mark_exactly_names_and_values(facts, biographies, tokenizer, tokenized, part):
    """Attribute loss measured on other tokens than the value's, or a value token that carries its full stop."""
    batch = tokenized.render(INDIVIDUALS, WORDS, part, with_roles=True)
    names = biographies.population.names(INDIVIDUALS)
    values = biographies.population.values(INDIVIDUALS)
    for row, (labels, roles) in enumerate(zip(batch.labels, batch.roles, strict=True)):
        assert [tokenizer.decode(run) for run in runs_of(NAME, labels, roles)] == [names[row]] * 4
        for index, attribute in enumerate(facts.attribute_names):
            (run,) = runs_of(FIRST_VALUE + index, labels, roles)
            assert tokenizer.decode(run) == values[attribute][row]
        after_value = 1 + np.flatnonzero((roles[:-1] >= FIRST_VALUE) & (roles[1:] < FIRST_VALUE))
        assert tokenizer.convert_ids_to_tokens(labels[after_value]) == ["."] * 4
        assert (roles[after_value] == TEXT).all()
    assert ((batch.roles == PADDING) == (batch.labels == -100)).all()


def test_a_name_has_the_same_tokens_everywhere(tokenizer, tokenized):
    """A name that reads differently at the beginning of a biography: two names to learn in place of one."""
    batch = tokenized.render(INDIVIDUALS, WORDS, with_roles=True)
    for labels, roles in zip(batch.labels, batch.roles, strict=True):
        assert len({tuple(run) for run in runs_of(NAME, labels, roles)}) == 1


def test_training_never_uses_an_evaluation_template(biographies):
    """Held-out templates that are trained on, or evaluation by templates that were."""
    words = np.random.Philox(key=14).random_raw(3000)
    for individual in (0, 1, 59_999):
        used = {
            part: biographies.lay_out(np.full(len(words), individual), words, part).templates
            for part in ("train", "evaluation")
        }
        for index in range(4):
            trained, evaluated = (set(used[part][:, index].tolist()) for part in ("train", "evaluation"))
            assert (len(trained), len(evaluated)) == (20, 5)
            assert not trained & evaluated


def all_texts(facts: Facts) -> list[str]:
    """Every biography that anybody could have: all names, values, templates and orders."""
    texts = []
    for name in facts.pools[facts.name_pools[0]]:
        sentences = [
            [t.fill(name, value) for t in attribute.templates for value in facts.pools[attribute.pools[0]]]
            for attribute in facts.attributes
        ]
        for chosen in itertools.product(*sentences):
            texts += [" ".join(order) for order in itertools.permutations(chosen)]
    return texts


def test_row_length_is_that_of_the_longest_biography(tiny):
    """Rows too short for some biography months into a run, or longer than any: compute spent on padding."""
    biographies, tokenizer = tiny
    texts = all_texts(biographies.facts)
    assert len(texts) == 5 * (3 * 4) * (3 * 8) * 2
    longest = max(len(ids) for ids in tokenizer(texts)["input_ids"]) + 2  # the begin and end tokens

    assert tokenize_biographies(biographies, tokenizer).row_length == math.ceil(longest / 8) * 8
    tokens = encode_pieces(biographies, tokenizer)
    exact = TokenizedBiographies(biographies, tokens, tokenizer.eos_token_id, row_length=longest)
    words = np.random.Philox(key=15).random_raw(5000)
    for part in ("train", "evaluation"):
        labels = exact.render(np.arange(5000) % 5, words, part).labels
        decoded = tokenizer.batch_decode([row[row >= 0] for row in labels], skip_special_tokens=True)
        assert set(decoded) <= set(texts)
    with pytest.raises(InputError, match=f"row_length {longest - 1} is shorter than .* {longest} tokens"):
        TokenizedBiographies(biographies, tokens, tokenizer.eos_token_id, row_length=longest - 1)


def test_text_after_the_value_belongs_to_the_sentence(tiny):
    """An ending longer than a full stop that is lost, or counted as part of the value."""
    biographies, tokenizer = tiny
    tokenized = tokenize_biographies(biographies, tokenizer)
    words = np.random.Philox(key=16).random_raw(200)
    individuals = np.arange(200) % 5
    texts = biographies.texts(biographies.lay_out(individuals, words)).to_list()
    assert any("last year. " in text for text in texts)
    batch = tokenized.render(individuals, words, with_roles=True)
    colours = biographies.population.values(individuals)["colour"]
    for labels, roles, colour in zip(batch.labels, batch.roles, colours, strict=True):
        assert tokenizer.decode(labels[roles == FIRST_VALUE]) == colour
