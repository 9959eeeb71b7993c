"""Individuals + random words → biographies: token ids with their roles, or text with the span of every value.

Every string a biography can be made of (a *piece*: a template fragment, a part of a name, a part of a value) is
listed once. Laying a batch out is choosing pieces; rendering is one ragged gather from a flat array, of token ids
or of UTF-8 bytes. Tokens and text come from the same layout, so they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from factdata.errors import InputError
from factdata.hashing import expand_words
from factdata.population import Population
from factdata.templates import TemplateSplits

# Token roles: what a token belongs to. Values of attribute k have the role FIRST_VALUE + k.
PADDING, TEXT, NAME, FIRST_VALUE = -1, 0, 1, 2

EMPTY, BEGIN, END = 0, 1, 2  # the first three pieces: nothing, and the tokenizer's begin and end tokens
ROW_MULTIPLE = 8  # row lengths are rounded up to this, which matrix units like


class PieceTable:
    """Pieces of different lengths in one flat array, gathered many at a time."""

    def __init__(self, pieces: list[np.ndarray]):
        self.lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        self.flat = np.concatenate(pieces)
        self.starts = np.cumsum(self.lengths) - self.lengths

    def gather(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The elements of pieces ``ids`` one after the other; ``lengths`` is ``self.lengths[ids]``."""
        lengths = lengths.ravel()
        ends = np.cumsum(lengths)
        shifts = self.starts[ids].ravel() - (ends - lengths)
        return self.flat[np.arange(ends[-1] if len(ends) else 0) + np.repeat(shifts, lengths)]


@dataclass(frozen=True)
class Layout:
    """Which pieces make up each biography of a batch of B, with S pieces a biography and A attributes."""

    pieces: np.ndarray  # int64 [B, S]
    templates: np.ndarray  # int64 [B, A]: the template of each attribute
    order: np.ndarray  # int64 [B, A]: the attribute of each sentence, first sentence first


class Biographies:
    """Biographies of a population: one sentence an attribute, in random order (paper App. B.2)."""

    def __init__(self, population: Population):
        self.population = population
        self.facts = population.facts
        templates = [(attribute.name, len(attribute.templates)) for attribute in self.facts.attributes]
        self.splits = TemplateSplits(templates, population.seed)
        self._list_pieces()
        self._lay_sentence()

    def _list_pieces(self) -> None:
        """Every string once. ``initial`` holds the ids of those that begin a text: they lack the leading space."""
        facts, strings = self.facts, ["", "", ""]
        self.pool_starts: dict[str, int] = {}  # pool → the piece of its first value
        for pool in dict.fromkeys([*facts.name_pools, *(p for a in facts.attributes for p in a.pools)]):
            self.pool_starts[pool] = len(strings)
            strings += [f" {value}" for value in facts.pools[pool]]
        first_names = facts.pools[facts.name_pools[0]]
        initial_names = range(len(strings), len(strings) + len(first_names))
        strings += first_names

        fragments: dict[str, int] = {"": EMPTY}

        def fragment(text: str) -> int:
            if text not in fragments:
                fragments[text] = len(strings)
                strings.append(text)
            return fragments[text]

        # Template t of attribute a is entry first_template[a] + t of these.
        templates = [template for attribute in facts.attributes for template in attribute.templates]
        counts = np.array([len(attribute.templates) for attribute in facts.attributes])
        self._first_template = np.cumsum(counts) - counts
        self._openings = np.array([fragment(f" {t.opening}" if t.opening else "") for t in templates])
        self._initial_openings = np.array([fragment(t.opening) for t in templates])
        self._links = np.array([fragment(t.link) for t in templates])
        self._endings = np.array([fragment(t.ending) for t in templates])

        self.strings = strings
        self.initial = set(initial_names) | set(self._initial_openings.tolist()) - {EMPTY}
        self._initial_name_shift = initial_names.start - self.pool_starts[facts.name_pools[0]]
        self._name_starts = np.array([self.pool_starts[pool] for pool in facts.name_pools])
        self._value_starts = np.array([self.pool_starts[pool] for a in facts.attributes for pool in a.pools])

    def _lay_sentence(self) -> None:
        """Every sentence has the same columns: opening, name parts, link, value parts, ending."""
        attributes, num_names = self.facts.attributes, len(self.facts.name_pools)
        self._value_columns = max(len(attribute.pools) for attribute in attributes)
        self._first_value = 1 + num_names + 1  # column of a value's first part
        self._width = self._first_value + self._value_columns + 1
        self._roles = np.full((len(attributes), self._width), TEXT, dtype=np.int8)
        self._roles[:, 1 : 1 + num_names] = NAME
        for index in range(len(attributes)):
            self._roles[index, self._first_value : -1] = FIRST_VALUE + index
        parts = [(index, part) for index, attribute in enumerate(attributes) for part in range(len(attribute.pools))]
        self._part_attribute = np.array([index for index, _ in parts])
        self._part_column = np.array([self._first_value + part for _, part in parts])

    def lay_out(self, individuals: np.ndarray, words: np.ndarray, part: str = "train") -> Layout:
        """Choose templates and order of sentences by one random 64-bit word a biography.

        ``part`` is 'train' or 'evaluation': which of each individual's own templates may be used.
        """
        batch, num_attributes = len(individuals), len(self.facts.attributes)
        randoms = expand_words(words, 2 * num_attributes)
        chosen = self.splits.choose(individuals, randoms[:, :num_attributes], part)
        template = self._first_template + chosen
        names = self._name_starts + self.population.name_parts(individuals)
        values = self._value_starts + self.population.value_parts(individuals)

        sentences = np.full((batch, num_attributes, self._width), EMPTY, dtype=np.int64)
        sentences[:, :, 0] = self._openings[template]
        sentences[:, :, 1 : 1 + names.shape[1]] = names[:, None]
        sentences[:, :, self._first_value - 1] = self._links[template]
        sentences[:, self._part_attribute, self._part_column] = values
        sentences[:, :, -1] = self._endings[template]

        order = np.argsort(randoms[:, num_attributes:], axis=1)
        rows = np.arange(batch)
        sentences = sentences[rows[:, None], order]
        opening = sentences[:, 0, 0] = self._initial_openings[template[rows, order[:, 0]]]
        sentences[:, 0, 1] += np.where(opening == EMPTY, self._initial_name_shift, 0)

        pieces = np.full((batch, 2 + num_attributes * self._width), BEGIN, dtype=np.int64)
        pieces[:, 1:-1] = sentences.reshape(batch, -1)
        pieces[:, -1] = END
        return Layout(pieces, chosen, order)

    def roles(self, layout: Layout) -> np.ndarray:
        """The role of every piece, int8 [B, S]."""
        roles = np.full(layout.pieces.shape, TEXT, dtype=np.int8)
        roles[:, 1:-1] = self._roles[layout.order].reshape(len(roles), -1)
        return roles

    def texts(self, layout: Layout) -> TextBatch:
        """The layout as text, with the character span of every value."""
        ends = np.cumsum(self._characters[layout.pieces], axis=1)
        value_column = 1 + np.argsort(layout.order, axis=1) * self._width + self._first_value
        begin = np.take_along_axis(ends, value_column - 1, axis=1) + 1  # + 1: the space belongs to no value
        end = np.take_along_axis(ends, value_column + self._value_columns - 1, axis=1)
        lengths = self._bytes.lengths[layout.pieces]
        utf8 = self._bytes.gather(layout.pieces, lengths)
        offsets = np.concatenate([[0], np.cumsum(lengths.sum(axis=1))])
        return TextBatch(utf8, offsets, begin, end)

    @cached_property
    def _bytes(self) -> PieceTable:
        return PieceTable([np.frombuffer(text.encode(), dtype=np.uint8) for text in self.strings])

    @cached_property
    def _characters(self) -> np.ndarray:
        return np.array([len(text) for text in self.strings])


@dataclass(frozen=True)
class TextBatch:
    """Texts as Arrow wants them (bytes and offsets), and where in each text the values stand."""

    utf8: np.ndarray  # uint8 [total bytes]
    offsets: np.ndarray  # int64 [B + 1]
    value_begin: np.ndarray  # int64 [B, A], in characters
    value_end: np.ndarray  # int64 [B, A], one past the last character

    def to_list(self) -> list[str]:
        data = self.utf8.tobytes()
        return [data[i:j].decode() for i, j in zip(self.offsets, self.offsets[1:], strict=False)]


@dataclass(frozen=True)
class TokenBatch:
    """Rows of tokens, padded on the right to one length L."""

    input_ids: np.ndarray  # int64 [B, L]
    labels: np.ndarray  # int64 [B, L]: the input ids, -100 at padding
    roles: np.ndarray | None  # int8 [B, L]: PADDING, TEXT, NAME or FIRST_VALUE + attribute


class TokenizedBiographies:
    """Renders a population's biographies as rows of token ids."""

    def __init__(self, biographies: Biographies, tokens: PieceTable, pad_token_id: int, row_length: int | None = None):
        """``tokens`` holds the token ids of ``biographies.strings`` (see tokenization.encode_pieces).

        Rows have ``row_length`` tokens, or, by default, those of the longest possible biography, rounded up.
        """
        self.biographies = biographies
        self.tokens = tokens
        self.pad_token_id = pad_token_id
        longest = self._longest()
        self.row_length = -(-longest // ROW_MULTIPLE) * ROW_MULTIPLE if row_length is None else row_length
        if self.row_length < longest:
            raise InputError(f"row_length {self.row_length} is shorter than the longest biography, {longest} tokens")

    def _longest(self) -> int:
        """Tokens of the longest biography that these pools and templates can make."""
        b, lengths, facts = self.biographies, self.tokens.lengths, self.biographies.facts

        def longest_of(pool: str, shift: int = 0) -> int:
            start = b.pool_starts[pool] + shift
            return lengths[start : start + len(facts.pools[pool])].max()

        first = facts.name_pools[0]
        total = lengths[BEGIN] + lengths[END]
        total += max(longest_of(first, b._initial_name_shift) - longest_of(first), 0)
        openings = np.maximum(lengths[b._openings], lengths[b._initial_openings])
        frames = openings + lengths[b._links] + lengths[b._endings]
        total += np.maximum.reduceat(frames, b._first_template).sum()
        for attribute in facts.attributes:
            total += sum(longest_of(pool) for pool in (*facts.name_pools, *attribute.pools))
        return int(total)

    def render(
        self, individuals: np.ndarray, words: np.ndarray, part: str = "train", with_roles: bool = False
    ) -> TokenBatch:
        """One biography an individual, decided by one random 64-bit word each (see Biographies.lay_out)."""
        layout = self.biographies.lay_out(individuals, words, part)
        lengths = self.tokens.lengths[layout.pieces]
        filled = np.arange(self.row_length) < lengths.sum(axis=1)[:, None]
        labels = np.full(filled.shape, -100, dtype=np.int64)
        labels[filled] = self.tokens.gather(layout.pieces, lengths)
        input_ids = np.where(filled, labels, self.pad_token_id)
        roles = None
        if with_roles:
            roles = np.full(filled.shape, PADDING, dtype=np.int8)
            roles[filled] = np.repeat(self.biographies.roles(layout).ravel(), lengths.ravel())
        return TokenBatch(input_ids, labels, roles)
