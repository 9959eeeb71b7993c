"""Who exists: individuals with unique full names and attribute values, in cohorts that never overlap.

Nothing is stored. Individual k is a pure function of (facts, seed, k): its name is the k-th entry of a random
permutation of all possible names, its values are hashes of k. A population of ten million costs no memory, and
individual k is the same however many others there are.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from factdata.errors import InputError
from factdata.facts import Facts
from factdata.hashing import derive_key, hash_words, permute, scale_to

MAX_INDIVIDUALS = 10_000_000


class Population:
    """Individuals 0 … ``facts.num_names`` - 1; cohorts are ranges of them."""

    def __init__(self, facts: Facts, seed: int = 0):
        self.facts = facts
        self.seed = seed
        self._name_key = derive_key(seed, "name")
        self._name_sizes = tuple(len(facts.pools[pool]) for pool in facts.name_pools)
        self._value_pools = tuple(pool for attribute in facts.attributes for pool in attribute.pools)
        self._value_sizes = tuple(len(facts.pools[pool]) for pool in self._value_pools)

    @cached_property
    def _value_keys(self) -> list[np.uint64]:
        # Keyed by attribute name and part, so that leaving an attribute out changes no other's values.
        return [
            derive_key(self.seed, f"value of {attribute.name}", part)
            for attribute in self.facts.attributes
            for part in range(len(attribute.pools))
        ]

    def name_parts(self, individuals: np.ndarray) -> np.ndarray:
        """Index into each name pool, shape [n, number of name pools]."""
        number = permute(individuals, self.facts.num_names, self._name_key)
        return np.stack(np.unravel_index(number, self._name_sizes), axis=-1)

    def value_parts(self, individuals: np.ndarray) -> np.ndarray:
        """Index into the pool of each part of each value, attributes in order, shape [n, number of parts]."""
        keys = np.array(self._value_keys, dtype=np.uint64)
        words = hash_words(keys, np.asarray(individuals)[:, None])
        return scale_to(words, np.array(self._value_sizes))

    def names(self, individuals: np.ndarray) -> list[str]:
        """Full names as text."""
        return self._join(self.facts.name_pools, self.name_parts(individuals))

    def values(self, individuals: np.ndarray) -> dict[str, list[str]]:
        """Values as text: attribute → one value an individual."""
        parts, columns, first = self.value_parts(individuals), {}, 0
        for attribute in self.facts.attributes:
            last = first + len(attribute.pools)
            columns[attribute.name] = self._join(attribute.pools, parts[:, first:last])
            first = last
        return columns

    def _join(self, pools: tuple[str, ...], parts: np.ndarray) -> list[str]:
        columns = [np.array(self.facts.pools[pool], dtype=object)[parts[:, i]] for i, pool in enumerate(pools)]
        joined = columns[0]
        for column in columns[1:]:
            joined = joined + " " + column
        return joined.tolist()


def cohort_ranges(facts: Facts, seen: int, held_out: int = 0, new: int = 0) -> dict[str, range]:
    """The cohorts as ranges of individuals, none of which moves when another grows.

    *Seen* individuals count upwards from 0, *held-out* ones downwards from the last possible name, *new* ones
    upwards from the middle. Raises InputError when the names do not suffice or cohorts would overlap.
    """
    names = facts.num_names
    sizes = {"seen": seen, "held_out": held_out, "new": new}
    for cohort, size in sizes.items():
        if not (1 if cohort == "seen" else 0) <= size <= MAX_INDIVIDUALS:
            raise InputError(f"{size} {cohort} individuals: wanted 1 to {MAX_INDIVIDUALS:,} (0 for a cohort left out)")
    wanted = sum(sizes.values())
    if wanted > names:
        pools = " × ".join(f"{len(facts.pools[pool])} {pool}" for pool in facts.name_pools)
        raise InputError(
            f"{wanted:,} individuals wanted, but {pools} allow {names:,} full names; use larger name pools"
        )
    middle = names // 2
    ranges = {
        "seen": range(seen),
        "held_out": range(names - held_out, names),
        "new": range(middle, middle + new),
    }
    for one, other in (("seen", "new"), ("new", "held_out")):
        if ranges[one] and ranges[other] and ranges[one].stop > ranges[other].start:
            raise InputError(
                f"cohorts overlap: {one} is individuals {ranges[one].start:,}–{ranges[one].stop - 1:,}, {other} begins "
                f"at {ranges[other].start:,} of {names:,} possible names; use fewer individuals or larger name pools"
            )
    return ranges


def spread(individuals: range, count: int) -> np.ndarray:
    """At most ``count`` of the individuals, evenly spread: where some are drawn more often, they stand for all."""
    places = np.linspace(0, len(individuals) - 1, min(count, len(individuals)))
    return individuals.start + np.rint(places).astype(np.int64)
