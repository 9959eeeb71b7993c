"""Which facts there are: attributes, the values they can take, and the sentences that state them.

Facts are data. A facts folder holds ``attributes.yaml``, ``pools/<pool>.txt`` (one value a line) and
``templates/<attribute>.txt`` (one sentence a line); the one shipped here has the six attributes of
Zucchet et al. 2025, App. B.2.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from factdata.errors import InputError, did_you_mean, read_lines, read_text
from factdata.metrics import no_knowledge_baseline
from factdata.templates import Template, load_templates

DEFAULT_FACTS = Path(__file__).parent


@dataclass(frozen=True)
class Attribute:
    """One thing that is known about every individual, for instance the birth city.

    ``pools`` names the pools whose values, drawn independently and joined by spaces, make the value.
    """

    name: str
    pools: tuple[str, ...]
    templates: tuple[Template, ...]
    question: str


@dataclass(frozen=True)
class Facts:
    """Everything that can be said: the pools of names and values, and the attributes with their templates."""

    name_pools: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    pools: Mapping[str, tuple[str, ...]]

    @classmethod
    def load(
        cls,
        folder: str | Path | None = None,
        attributes: Sequence[str] | None = None,
        pool_sizes: Mapping[str, int] | None = None,
        num_templates: int | None = None,
    ) -> Facts:
        """Read a facts folder (the paper's six attributes by default).

        ``attributes`` keeps only these, in this order; ``pool_sizes`` keeps the first n values of a pool;
        ``num_templates`` the first n templates of every attribute. Raises InputError with file and line.
        """
        if isinstance(attributes, str):
            raise InputError(f"attributes must be a list, such as [{attributes}]")
        folder = Path(folder) if folder is not None else DEFAULT_FACTS
        name_pools, entries = _read_attributes(folder / "attributes.yaml")
        for attribute in attributes or ():
            if attribute not in entries:
                raise InputError(f"unknown attribute {attribute!r}{did_you_mean(attribute, entries)}")
        if attributes is not None and len(set(attributes)) != len(attributes):
            raise InputError(f"an attribute is named twice: {', '.join(attributes)}")
        chosen = list(attributes) if attributes is not None else list(entries)
        if not chosen:
            raise InputError("no attributes: name at least one")

        used_pools = dict.fromkeys([*name_pools, *(pool for a in chosen for pool in entries[a]["value"])])
        for pool in pool_sizes or ():
            if pool not in used_pools:
                raise InputError(f"pool_sizes names an unused pool {pool!r}{did_you_mean(pool, used_pools)}")
        pools = {
            pool: _read_pool(folder / "pools" / f"{pool}.txt", (pool_sizes or {}).get(pool)) for pool in used_pools
        }

        with_spaces = [pool for pool in name_pools if any(" " in value for value in pools[pool])]
        if len(with_spaces) > 1:
            raise InputError(
                f"the name pools {' and '.join(with_spaces)} both have values with spaces: two individuals could get "
                "the same full name (Anna + Maria Smith, Anna Maria + Smith); leave spaces to one of them"
            )

        loaded = []
        for attribute in chosen:
            templates = load_templates(folder / "templates" / f"{attribute}.txt", num_templates)
            value, question = tuple(entries[attribute]["value"]), entries[attribute]["question"]
            loaded.append(Attribute(attribute, value, templates, question))
        return cls(tuple(name_pools), tuple(loaded), pools)

    @property
    def attribute_names(self) -> tuple[str, ...]:
        return tuple(attribute.name for attribute in self.attributes)

    @property
    def num_names(self) -> int:
        """How many different full names the name pools allow."""
        return math.prod(len(self.pools[pool]) for pool in self.name_pools)

    def num_values(self, attribute: Attribute) -> int:
        """How many different values an attribute can take."""
        return math.prod(len(self.pools[pool]) for pool in attribute.pools)

    def baseline(self) -> float:
        """No-knowledge baseline in nats: mean over attributes of log(number of values) (paper §1.3)."""
        return no_knowledge_baseline(self.num_values(attribute) for attribute in self.attributes)


def _read_attributes(path: Path) -> tuple[list[str], dict[str, dict]]:
    """``attributes.yaml`` as (name pools, attribute → {value: [pools], question}), checked."""
    if not path.is_file():
        raise InputError(f"no attributes.yaml in the facts folder {path.parent}")
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or set(content) != {"name", "attributes"}:
        raise InputError(f"{path}: wanted exactly the keys 'name' and 'attributes'")
    name_pools, entries = content["name"], content["attributes"]
    if not _is_list_of_names(name_pools):
        raise InputError(f"{path}: 'name' must be a list of pools, such as [first_names, last_names]")
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"{path}: 'attributes' must map each attribute to its value pools and question")
    for attribute, entry in entries.items():
        if not isinstance(entry, dict) or set(entry) != {"value", "question"} or not _is_list_of_names(entry["value"]):
            raise InputError(
                f"{path}: attribute {attribute!r} needs 'value: [pool, …]' and 'question: …', nothing else"
            )
        if not isinstance(entry["question"], str) or entry["question"].count("{name}") != 1:
            raise InputError(f"{path}: the question of {attribute!r} must contain {{name}} exactly once")
    return name_pools, entries


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) and item for item in value)


def _read_pool(path: Path, size: int | None) -> tuple[str, ...]:
    """One value a line; ``size`` keeps the first values only."""
    if not path.is_file():
        raise InputError(f"no pool file {path}")
    if not path.stat().st_size:
        raise InputError(f"{path}: no values")
    seen: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line or line != " ".join(line.split()):
            raise InputError(f"{path}:{number}: empty line, or spaces at the ends or doubled")
        line = unicodedata.normalize("NFC", line)
        if line in seen:
            raise InputError(f"{path}:{number}: {line!r} stands already on line {seen[line]}")
        seen[line] = number
    if size is not None and (not isinstance(size, int) or not 1 <= size <= len(seen)):
        raise InputError(f"pool_sizes asks for {size!r} of the {len(seen)} values in {path.name}")
    return tuple(seen)[:size]
