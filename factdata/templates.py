"""How a fact is said: sentence templates, their checks, and each individual's own train/evaluation split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from factdata.errors import InputError, read_lines
from factdata.hashing import derive_key, hash_words, scale_to

TRAIN_FRACTION = 0.8  # paper App. B.2: 20 of 25 templates for training, 5 for evaluation
NUM_SPLITS = 4096  # different random splits; each individual draws one an attribute

_SLOTS = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True)
class Template:
    """A sentence cut at its slots: ``opening`` name ``link`` value ``ending``."""

    opening: str
    link: str
    ending: str

    @classmethod
    def parse(cls, sentence: str) -> Template:
        """Cut a sentence such as ``{name} was born in {value}.``; raises InputError that names the fault."""
        slots = _SLOTS.findall(sentence)
        for slot in ("{name}", "{value}"):
            if slots.count(slot) != 1:
                raise InputError(f"needs {slot} exactly once, has it {slots.count(slot)} times")
        if len(slots) != 2 or set("".join(_SLOTS.split(sentence))) & set("{}"):
            raise InputError("has a slot or brace other than {name} and {value}")
        if sentence != " ".join(sentence.split()):
            raise InputError("has spaces at its ends or doubled")
        opening, link, ending = _SLOTS.split(sentence)
        if slots[0] == "{value}":
            raise InputError("states {value} before {name}: a model could not know whose value it is")
        if (opening and not opening.endswith(" ")) or not link.endswith(" "):
            raise InputError("has a slot that neither begins the sentence nor follows a space")
        if link[0].isalnum() or ending[:1].isalnum():
            raise InputError("has a letter or digit right behind a slot")
        # The space before a slot belongs to the name or value: byte-level tokens carry it (" Paris").
        return cls(opening.removesuffix(" "), link.removesuffix(" "), ending)

    def fill(self, name: str, value: str) -> str:
        """The sentence about one individual."""
        return " ".join(filter(None, (self.opening, f"{name}{self.link} {value}{self.ending}")))


def load_templates(path: Path, num_templates: int | None = None) -> tuple[Template, ...]:
    """Read one template a line; the first ``num_templates`` of them. Errors say file, line and fault."""
    if not path.is_file():
        raise InputError(f"no template file {path}")
    templates: dict[Template, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        try:
            template = Template.parse(line)
        except InputError as fault:
            raise InputError(f"{path}:{number}: the template {fault}") from None
        if template in templates:
            raise InputError(f"{path}:{number}: the template stands already on line {templates[template]}")
        templates[template] = number
    wanted = len(templates) if num_templates is None else num_templates
    if not 2 <= wanted <= len(templates):
        raise InputError(
            f"{path}: {wanted} templates wanted, {len(templates)} there; at least 2, one to train and one to evaluate"
        )
    return tuple(templates)[:wanted]


class TemplateSplits:
    """Which templates of each attribute an individual is trained on, and which are kept for its evaluation.

    The split differs from individual to individual (paper App. B.2) and is a pure function of (seed, attribute,
    individual): for each attribute an individual points to one of NUM_SPLITS random orders of the templates, of
    which the first 80 % are its training templates.
    """

    def __init__(self, attributes: Sequence[tuple[str, int]], seed: int):
        """``attributes``: name and number of templates of each; its name alone decides an attribute's splits."""
        self.num_templates = np.array([number for _, number in attributes])
        self.num_train = np.clip(np.rint(TRAIN_FRACTION * self.num_templates), 1, self.num_templates - 1).astype(int)
        self._keys = np.array([derive_key(seed, f"split of {name}") for name, _ in attributes], dtype=np.uint64)
        sizes = NUM_SPLITS * self.num_templates
        self._starts = np.cumsum(sizes) - sizes
        self._orders = np.concatenate(
            [
                np.random.default_rng(key).permuted(np.tile(np.arange(number), (NUM_SPLITS, 1)), axis=1).ravel()
                for key, number in zip(self._keys, self.num_templates, strict=True)
            ]
        ).astype(np.min_scalar_type(self.num_templates.max()))

    def choose(self, individuals: np.ndarray, words: np.ndarray, part: str) -> np.ndarray:
        """One template of each individual's part ('train' or 'evaluation') for every attribute, int64 [n, A].

        ``words``: random uint64 [n, A] that pick it.
        """
        if part == "train":
            slots = scale_to(words, self.num_train)
        else:
            slots = self.num_train + scale_to(words, self.num_templates - self.num_train)
        return self._orders[self._rows(individuals) + slots].astype(np.int64)

    def templates(self, individuals: np.ndarray, part: str) -> list[np.ndarray]:
        """All templates of each individual's part: for every attribute int64 [n, number in the part]."""
        rows, chosen = self._rows(individuals), []
        for index, (number, train) in enumerate(zip(self.num_templates, self.num_train, strict=True)):
            slots = np.arange(train) if part == "train" else np.arange(train, number)
            chosen.append(self._orders[rows[:, index, None] + slots].astype(np.int64))
        return chosen

    def orders(self, individuals: np.ndarray) -> np.ndarray:
        """Which of its NUM_SPLITS orders each individual points to, for every attribute: int64 [n, A]."""
        return scale_to(hash_words(self._keys, np.asarray(individuals)[:, None]), NUM_SPLITS)

    def tables(self, part: str) -> list[np.ndarray]:
        """The part of every order, for every attribute [NUM_SPLITS, number in the part]: see ``orders``."""
        tables = []
        for start, number, train in zip(self._starts, self.num_templates, self.num_train, strict=True):
            orders = self._orders[start : start + NUM_SPLITS * number].reshape(NUM_SPLITS, number)
            tables.append(orders[:, :train] if part == "train" else orders[:, train:])
        return tables

    def _rows(self, individuals: np.ndarray) -> np.ndarray:
        """Where each individual's order begins in the flat table, [n, A]."""
        return self._starts + self.orders(individuals) * self.num_templates
