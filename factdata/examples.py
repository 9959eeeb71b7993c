"""A population, its biographies and its questions as Arrow tables, with no Python per row.

Row r of a table is computed from r alone, so that any range of rows can be made at any time, by any process.
This is apart from ``builder.py`` because datasets patches names such as ``np`` in a builder's own module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from factdata.biographies import Biographies
from factdata.facts import DEFAULT_FACTS, Facts
from factdata.hashing import derive_key, hash_words
from factdata.population import Population

TEMPLATE_PARTS = ("train", "evaluation")
POPULATION_COLUMNS = ("individual", "cohort", "name", *(f"{part}_templates" for part in TEMPLATE_PARTS))

# Rows made at a time. More does not fit a core's caches (16,384 biographies take a quarter longer a row), and
# fewer rows a shard let more processes share a small split.
ROWS_PER_TABLE = 8_192


def split_rows(num_rows: int) -> list[range]:
    """The rows 0 … ``num_rows`` - 1 in ranges of at most ROWS_PER_TABLE."""
    return [range(i, min(i + ROWS_PER_TABLE, num_rows)) for i in range(0, num_rows, ROWS_PER_TABLE)]


class ExampleTables:
    """Tables about one population: the three configs of ``factdata.builder.SyntheticBiographies``."""

    def __init__(
        self,
        facts: Facts,
        cohorts: Mapping[str, range],
        population_seed: int = 0,
        seed: int = 0,
        biographies_per_individual: int = 1,
        template_part: str = "train",
    ):
        """``cohorts``: the individuals of each (see ``population.cohort_ranges``); the rest as in BiographiesConfig."""
        self.facts = facts
        self.cohorts = cohorts
        self.seed = seed
        self.population = Population(facts, population_seed)
        self.template_part = template_part
        self.rows_per_individual = {
            "population": 1,
            "biographies": biographies_per_individual,
            "questions": len(facts.attributes),
        }
        self._pools = {pool: pa.array(values, pa.string()) for pool, values in facts.pools.items()}

    def num_rows(self, config_name: str, cohort: str) -> int:
        return len(self.cohorts[cohort]) * self.rows_per_individual[config_name]

    def table(self, config_name: str, cohort: str, rows: range) -> pa.Table:
        """A range of the rows that a config has about a cohort."""
        individuals, numbers = np.divmod(np.arange(rows.start, rows.stop), self.rows_per_individual[config_name])
        individuals += self.cohorts[cohort].start
        if config_name == "population":
            return self._population_table(individuals, cohort)
        if config_name == "biographies":
            return self._biography_table(individuals, numbers)
        return self._question_table(individuals, numbers)

    def _population_table(self, individuals: np.ndarray, cohort: str) -> pa.Table:
        """One row an individual: its name, its values, and which templates it is trained and evaluated on."""
        columns = {
            "individual": pa.array(individuals),
            "cohort": pa.repeat(cohort, len(individuals)),
            "name": self._names(individuals),
        }
        columns |= self._values(individuals)
        orders = self.biographies.splits.orders(individuals)
        for part, tables in self._template_lists.items():
            lists = [table.take(pa.array(orders[:, i])) for i, table in enumerate(tables)]
            columns[f"{part}_templates"] = self._by_attribute(lists)
        return pa.table(columns)

    def _biography_table(self, individuals: np.ndarray, numbers: np.ndarray) -> pa.Table:
        """Biographies as text, with the span and the template of every value; ``numbers`` counts an individual's."""
        words = biography_words(self.seed, individuals, numbers)
        layout = self.biographies.lay_out(individuals, words, self.template_part)
        texts = self.biographies.texts(layout)
        # The cast raises, where astype would wrap around, if the texts of one table passed 2 GiB.
        offsets = pa.array(texts.offsets).cast(pa.int32()).buffers()[1]
        spans = []
        for i in range(len(self.facts.attributes)):
            ends = [pa.array(end[:, i], pa.int32()) for end in (texts.value_begin, texts.value_end)]
            spans.append(pa.StructArray.from_arrays(ends, names=["begin", "end"]))
        templates = [pa.array(column, pa.int16()) for column in layout.templates.T]
        return pa.table(
            {
                "individual": pa.array(individuals),
                "text": pa.StringArray.from_buffers(len(individuals), offsets, pa.py_buffer(texts.utf8)),
                "value_spans": self._by_attribute(spans),
                "template_ids": self._by_attribute(templates),
            }
        )

    def _question_table(self, individuals: np.ndarray, attributes: np.ndarray) -> pa.Table:
        """One row a fact: the question about it, and its value as the answer. ``individuals`` ascend without a gap."""
        asked = np.arange(individuals[0], individuals[-1] + 1)
        place = individuals - asked[0]
        attribute = pa.array(attributes)
        before, after = (part.take(attribute) for part in self._question_parts)
        values = pa.concat_arrays(self._values(asked).values())
        return pa.table(
            {
                "individual": pa.array(individuals),
                "attribute": pa.array(self.facts.attribute_names).take(attribute),
                "question": pc.binary_join_element_wise(before, self._names(asked).take(pa.array(place)), after, ""),
                "answer": values.take(pa.array(attributes * len(asked) + place)),
            }
        )

    @cached_property
    def biographies(self) -> Biographies:
        return Biographies(self.population)

    @cached_property
    def _template_lists(self) -> dict[str, list[pa.ListArray]]:
        """Part → for every attribute the list of templates of each order of ``TemplateSplits``, in ascending order."""
        return {part: [_lists(table) for table in self.biographies.splits.tables(part)] for part in TEMPLATE_PARTS}

    @cached_property
    def _question_parts(self) -> list[pa.Array]:
        """What stands before and after the name in the question of each attribute."""
        parts = [attribute.question.split("{name}") for attribute in self.facts.attributes]
        return [pa.array(side, pa.string()) for side in zip(*parts, strict=True)]

    def _names(self, individuals: np.ndarray) -> pa.Array:
        return self._join(self.facts.name_pools, self.population.name_parts(individuals))

    def _values(self, individuals: np.ndarray) -> dict[str, pa.Array]:
        parts, columns, start = self.population.value_parts(individuals), {}, 0
        for attribute in self.facts.attributes:
            stop = start + len(attribute.pools)
            columns[attribute.name] = self._join(attribute.pools, parts[:, start:stop])
            start = stop
        return columns

    def _join(self, pools: tuple[str, ...], parts: np.ndarray) -> pa.Array:
        """Entries ``parts`` [n, number of pools] of the pools, joined by spaces."""
        columns = [self._pools[pool].take(pa.array(parts[:, i])) for i, pool in enumerate(pools)]
        return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, " ")

    def _by_attribute(self, columns: list[pa.Array]) -> pa.StructArray:
        return pa.StructArray.from_arrays(columns, names=self.facts.attribute_names)


def biography_words(seed: int, individuals: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The random word of each individual's ``numbers``-th biography: uint64 [n], for ``Biographies.lay_out``."""
    return hash_words(hash_words(derive_key(seed, "biography"), individuals), numbers)


def _lists(table: np.ndarray) -> pa.ListArray:
    """The rows of ``table`` [n, k], each sorted, as Arrow lists."""
    offsets = np.arange(len(table) + 1, dtype=np.int32) * table.shape[1]
    return pa.ListArray.from_arrays(offsets, np.sort(table, axis=1).ravel().astype(np.int16))


def hash_facts(folder: str | Path | None) -> str:
    """Hash of the files that a facts folder consists of (the paper's facts by default): 16 hexadecimal digits."""
    folder = DEFAULT_FACTS if folder is None else Path(folder)
    return _hash_files(folder, ["attributes.yaml", "pools/*.txt", "templates/*.txt"])


def hash_sources() -> str:
    """Hash of this package's modules: rows made by other code must not come out of a cache. 16 hexadecimal digits."""
    return _hash_files(Path(__file__).parent, ["*.py"])


def _hash_files(folder: Path, patterns: list[str]) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]
