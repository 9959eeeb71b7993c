"""`SyntheticBiographies`: the individuals, biographies and questions as Hugging Face datasets.

    from factdata.builder import load_biographies
    biographies = load_biographies("biographies", seen_individuals=1000, biographies_per_individual=5)
    print(biographies["seen"][0]["text"])

Three configs, each with one split a cohort (``seen``, ``held_out``, ``new``; empty cohorts have none):

- ``population``: one row an individual: its name, its values, which templates it is trained and evaluated on;
- ``biographies``: texts, with the span of each value (``text[begin:end]``) and the template of each sentence;
- ``questions``: one row a fact: a question and its answer.

All configs take the same options (``BiographiesConfig``); with the same options they describe the same individuals.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import datasets
from datasets.builder import Key

from factdata.errors import InputError, did_you_mean
from factdata.examples import POPULATION_COLUMNS, TEMPLATE_PARTS, ExampleTables, hash_facts, hash_sources, split_rows
from factdata.facts import Facts
from factdata.population import cohort_ranges

if TYPE_CHECKING:
    import pyarrow

CITATION = """\
@misc{zucchet2025language,
  title = {How do language models learn facts? Dynamics, curricula and hallucinations},
  author = {Nicolas Zucchet and J{\\"o}rg Bornschein and Stephanie Chan and Andrew Lampinen and
            Razvan Pascanu and Soham De},
  year = {2025},
  eprint = {2503.21676},
  archivePrefix = {arXiv}
}"""
DESCRIPTION = (
    "Biographies of individuals who do not exist, after Zucchet et al. 2025 (arXiv 2503.21676): every individual has "
    "a unique name and one value for each attribute, stated in sentences made from templates. Each individual has its "
    "own split of the templates into those to train and those to evaluate on. Any likeness to a real person is chance."
)
LICENSE = "Templates MIT; city names from GeoNames, CC BY 4.0; personal names from Faker, MIT; other values CC0"


@dataclass
class BiographiesConfig(datasets.BuilderConfig):
    """Which population, and for the config ``biographies`` which texts; the defaults are those of paper App. B."""

    version: datasets.Version | str = "1.0.0"
    facts: str | os.PathLike | None = None  # a facts folder (see factdata.facts); None for the paper's facts
    attributes: Sequence[str] | None = None  # only these, in this order; None for all
    pool_sizes: Mapping[str, int] | None = None  # pool → its first n values only
    num_templates: int | None = None  # the first n templates of each attribute; None for all
    population_seed: int = 0  # who exists, and which templates are whose
    seen_individuals: int = 64_000
    held_out_individuals: int = 16_000
    new_individuals: int = 0
    biographies_per_individual: int = 1
    seed: int = 0  # templates and order of sentences of each biography
    template_part: str = "train"  # biographies are made of each individual's 'train' or 'evaluation' templates

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """The name of the cache folder: every option that is not at its default, facts by content and not by path."""
        options = {name: getattr(self, name) for name, default in OPTIONS.items() if getattr(self, name) != default}
        if "attributes" in options:
            options["attributes"] = list(options["attributes"])
        if "pool_sizes" in options:
            options["pool_sizes"] = sorted(options["pool_sizes"].items())
        if "facts" in options:
            options["facts"] = hash_facts(options["facts"])
        return super().create_config_id(options, custom_features)

    def check(self) -> None:
        """Raise InputError for an option of the wrong kind; what needs the facts is checked when they are loaded."""
        for name in (name for name, default in OPTIONS.items() if isinstance(default, int)):
            least = 1 if name == "biographies_per_individual" else 0
            _check_number(name, getattr(self, name), least)
        if self.num_templates is not None:
            _check_number("num_templates", self.num_templates, 2)
        for pool, size in (self.pool_sizes or {}).items():
            _check_number(f"pool_sizes[{pool!r}]", size, 1)
        if self.template_part not in TEMPLATE_PARTS:
            raise InputError(
                f"template_part {self.template_part!r}{did_you_mean(str(self.template_part), TEMPLATE_PARTS)}"
            )


# Option → default: what BiographiesConfig adds to a BuilderConfig.
OPTIONS = {
    field.name: field.default
    for field in fields(BiographiesConfig)
    if field.name not in {base.name for base in fields(datasets.BuilderConfig)}
}


def _check_number(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} {value!r}: wanted a whole number, {least} or more")


class SyntheticBiographies(datasets.ArrowBasedBuilder):
    """Builder of the configs ``population``, ``biographies`` and ``questions``; takes BiographiesConfig's options.

    Bad options raise InputError here, before anything is written. The cache is keyed by the options, the content of
    the facts folder and the source of this package.
    """

    BUILDER_CONFIG_CLASS = BiographiesConfig
    BUILDER_CONFIGS = [  # noqa: RUF012 (what datasets looks for)
        BiographiesConfig("population", description="One row an individual: name, values, template split."),
        BiographiesConfig("biographies", description="Biographies as text, with the span of every value."),
        BiographiesConfig("questions", description="One row a fact: a question and its answer."),
    ]

    def __init__(self, cache_dir: str | None = None, *, config_name: str | None = None, **options):
        known = [config.name for config in self.BUILDER_CONFIGS]
        if config_name not in known:
            raise InputError(f"no config {config_name!r}{did_you_mean(str(config_name), known)}")
        arguments = inspect.signature(datasets.ArrowBasedBuilder).parameters
        for option in options:
            if option not in OPTIONS and option not in arguments:
                raise InputError(f"unknown option {option!r}{did_you_mean(option, OPTIONS)}")
        options.setdefault("dataset_name", "synthetic_biographies")
        if options.get("hash") is None:
            options["hash"] = f"{hash_sources()}{hash_facts(options.get('facts'))}"
        super().__init__(str(cache_dir) if cache_dir else None, config_name=config_name, **options)

    @cached_property
    def tables(self) -> ExampleTables:
        """What makes the rows. Whatever is wrong with the options is raised here."""
        config = self.config
        config.check()
        facts = Facts.load(config.facts, config.attributes, config.pool_sizes, config.num_templates)
        if config.name == "population":
            for attribute in facts.attribute_names:
                if attribute in POPULATION_COLUMNS:
                    raise InputError(f"attribute {attribute!r} has the name of another column; call it otherwise")
        cohorts = cohort_ranges(facts, config.seen_individuals, config.held_out_individuals, config.new_individuals)
        return ExampleTables(
            facts,
            {cohort: individuals for cohort, individuals in cohorts.items() if individuals},
            config.population_seed,
            config.seed,
            config.biographies_per_individual,
            config.template_part,
        )

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=DESCRIPTION,
            citation=CITATION,
            license=LICENSE if self.config.facts is None else "",
            features=_features(self.config.name, self.tables.facts.attribute_names),
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        return [
            datasets.SplitGenerator(
                name=datasets.NamedSplit(cohort),
                # datasets deals the elements of a list out to processes, in order.
                gen_kwargs={"cohort": cohort, "rows": split_rows(self.tables.num_rows(self.config.name, cohort))},
            )
            for cohort in self.tables.cohorts
        ]

    def _generate_tables(self, cohort: str, rows: list[range]) -> Iterator[tuple[Key, pyarrow.Table]]:
        for shard, span in enumerate(rows):
            yield Key(shard, 0), self.tables.table(self.config.name, cohort, span)


def _features(config_name: str, attributes: Sequence[str]) -> datasets.Features:
    """Plain strings throughout: a thousand class labels would fill the head of a dataset's README."""
    string, number = datasets.Value("string"), datasets.Value("int64")
    if config_name == "population":
        templates = {attribute: datasets.List(datasets.Value("int16")) for attribute in attributes}
        return datasets.Features(
            {"individual": number, "cohort": string, "name": string}
            | dict.fromkeys(attributes, string)
            | {"train_templates": templates, "evaluation_templates": templates}
        )
    if config_name == "biographies":
        span = {"begin": datasets.Value("int32"), "end": datasets.Value("int32")}
        return datasets.Features(
            {
                "individual": number,
                "text": string,
                "value_spans": dict.fromkeys(attributes, span),
                "template_ids": dict.fromkeys(attributes, datasets.Value("int16")),
            }
        )
    return datasets.Features({"individual": number, "attribute": string, "question": string, "answer": string})


def load_biographies(
    config_name: str, *, cache_dir: str | None = None, num_proc: int | None = None, **options
) -> datasets.DatasetDict:
    """Make a config's rows, or find them in the cache: a dataset for each cohort.

    ``options`` are those of BiographiesConfig; raises InputError where one is bad. ``num_proc`` processes give the
    same rows in the same order as one.
    """
    builder = SyntheticBiographies(cache_dir, config_name=config_name, **options)
    builder.download_and_prepare(num_proc=num_proc)
    return builder.as_dataset()
