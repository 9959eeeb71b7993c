"""The strict parser: precedence, and one clear line for every kind of bad input."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from factdata.errors import InputError
from recipes.pretrain import PretrainArguments
from recipes.support.arguments import ModelArguments, PopulationArguments, RecipeTrainingArguments
from recipes.support.parser import StrictParser

ROOT = Path(__file__).parents[1]
SWEEPS = sorted(f for f in (ROOT / "recipes" / "configs").glob("*/*.yaml") if f.stem in ("cpu", "paper"))
CONFIGS = sorted(set((ROOT / "recipes" / "configs").rglob("*.yaml")) - set(SWEEPS))
PRETRAIN = (PretrainArguments, PopulationArguments, ModelArguments, RecipeTrainingArguments)


@dataclass
class Settings:
    rate: float = 0.1
    steps: int = 10
    name: str | None = None
    flag: bool = False
    sizes: dict | str | None = None
    pools: list[str] | None = None
    family: str = field(default="gpt2", metadata={"choices": ["gpt2", "llama"]})


def parse(tmp_path: Path, text: str | None, *flags: str) -> Settings:
    arguments = list(flags)
    if text is not None:
        (tmp_path / "c.yaml").write_text(text)
        arguments += ["--config", str(tmp_path / "c.yaml")]
    return StrictParser([Settings]).parse(arguments)[0]


def test_precedence_is_default_then_yaml_then_command_line(tmp_path):
    """A YAML value that beats the command line, or is lost."""
    settings = parse(tmp_path, "rate: 1e-4\nsteps: 5\nsizes: {a: 1}\npools: [a, b]", "--steps", "7")
    assert settings == Settings(rate=1e-4, steps=7, sizes={"a": 1}, pools=["a", "b"])


def test_config_with_equals_sign(tmp_path):
    """``--config=x.yaml`` taken for an unknown flag."""
    (tmp_path / "c.yaml").write_text("steps: 3")
    assert StrictParser([Settings]).parse([f"--config={tmp_path / 'c.yaml'}"])[0].steps == 3


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("stepz: 3", [], "unknown key 'stepz'; did you mean 'steps'"),
        ("steps: three", [], "steps: wanted int, found 'three'"),
        ("steps: true", [], "steps: wanted int, found True"),
        ("steps: 1.5", [], "steps: wanted int, found 1.5"),
        ("rate: fast", [], "rate: wanted float"),
        ("flag: 1", [], "flag: wanted bool"),
        ("name: 3", [], "name: wanted str, found 3"),
        ("family: bert", [], "family: 'bert' is none of gpt2, llama"),
        ("pools: [1]", [], "pools: wanted list"),
        ("steps: 3\nsteps: 4", [], "line 2: the key 'steps' stands twice"),
        ("- a", [], "found list"),
        ("a: [", [], "c.yaml"),
        (None, ["--stepz", "3"], "unknown argument --stepz; did you mean '--steps'"),
        (None, ["--step", "3"], "unknown argument --step"),
        (None, ["--steps", "x"], "invalid int value: 'x'"),
        (None, ["--family", "bert"], "invalid choice: 'bert'"),
        (None, ["--config", "nowhere.yaml"], "cannot read the config nowhere.yaml"),
    ],
)
def test_bad_input_is_one_line(tmp_path, text, flags, message):
    """Bad settings that are accepted, or answered with a traceback or a page of usage."""
    with pytest.raises(InputError) as error:
        parse(tmp_path, text, *flags)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_resolved_config_repeats_the_run(tmp_path):
    """Settings that are lost because they equal the library's default, where ours is another."""
    chosen = ["--weight_decay", "0", "--learning_rate", "5e-5", "--lr_scheduler_type", "linear"]
    chosen += ["--pool_sizes", '{"cities": 9}', "--output_dir", str(tmp_path)]
    first = StrictParser(PRETRAIN)
    first.parse(chosen)
    (tmp_path / "resolved.yaml").write_text(yaml.safe_dump(first.resolved))
    _, people, _, training = StrictParser(PRETRAIN).parse(["--config", str(tmp_path / "resolved.yaml")])
    assert (training.weight_decay, training.learning_rate, people.pool_sizes) == (0, 5e-5, {"cities": 9})
    assert getattr(training.lr_scheduler_type, "value", training.lr_scheduler_type) == "linear"


def test_number_of_shipped_configs():
    """A config that no test reads."""
    assert (len(CONFIGS), len(SWEEPS)) == (4, 14)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_parse_and_survive_resolving(path, tmp_path):
    """A shipped config that no longer parses; a resolved config that is not the same run."""
    flags = ["--use_cpu", "--bf16", "false", "--output_dir", str(tmp_path)]
    first = StrictParser(PRETRAIN)
    first.parse(["--config", str(path), *flags])
    (tmp_path / "resolved.yaml").write_text(yaml.safe_dump(first.resolved))
    second = StrictParser(PRETRAIN)
    second.parse(["--config", str(tmp_path / "resolved.yaml")])
    assert second.resolved == first.resolved
    header = path.read_text().split("\n\n")[0]
    assert "accelerate launch" in header and "Hardware:" in header and "Expected" in header


def test_accelerate_configs_load():
    """A launcher key that the installed accelerate does not know, or a precision that overrides the recipe's."""
    from accelerate.commands.config.config_args import load_config_from_file

    files = sorted((ROOT / "accelerate_configs").glob("*.yaml"))
    assert len(files) == 6
    for file in files:
        assert load_config_from_file(str(file)).mixed_precision in (None, "no")
        assert 3 <= len(yaml.safe_load(file.read_text())) <= 6
        assert file.read_text().startswith("# ")
