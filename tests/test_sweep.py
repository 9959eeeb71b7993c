"""Sweeps and the report made from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

import recipes.report as report
from factdata.errors import InputError
from factdata.facts import Facts
from factdata.phases import build_phases
from factdata.population import cohort_ranges
from factdata.schedules import Schedule
from recipes.pretrain import PretrainArguments
from recipes.support.arguments import ModelArguments, PopulationArguments, RecipeTrainingArguments
from recipes.support.parser import StrictParser
from recipes.support.sweeps import read_sweep
from recipes.sweep import main as sweep

ROOT = Path(__file__).parents[1]
SWEEPS = sorted(f for f in (ROOT / "recipes" / "configs").glob("*/*.yaml") if f.stem in ("cpu", "paper"))


def write_sweep(folder: Path, **changes) -> Path:
    content = {
        "recipe": "recipes/pretrain.py",
        "base": "recipes/configs/debug.yaml",
        "settings": {"max_steps": 4, "evaluate_every": 2, "use_cpu": True},
        "output_dir": str(folder / "outputs"),
        "results": str(folder / "results"),
        "seeds": [0, 1],
        "runs": {"uniform": {}, "warmup": {"schedule": [{"distribution": "uniform", "individuals": 8, "steps": 2}]}},
    } | changes
    content["runs"]["warmup"]["schedule"].append({"distribution": "uniform"})
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    return folder / "sweep.yaml"


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_shipped_sweeps_are_runs_of_the_recipe(file, tmp_path):
    """A run that fails hours into a sweep because its settings or its schedule do not parse."""
    for job in read_sweep(file):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(job.settings | {"bf16": False, "torch_compile": False}))
        parser = StrictParser((PretrainArguments, PopulationArguments, ModelArguments, RecipeTrainingArguments))
        recipe, people, _, training = parser.parse(["--config", str(tmp_path / "config.yaml")])
        facts = Facts.load(people.facts, people.attributes, people.pool_sizes, people.num_templates)
        cohorts = cohort_ranges(facts, people.seen_individuals, people.held_out_individuals, people.new_individuals)
        phases = build_phases(recipe.schedule, cohorts, recipe.global_batch_size, training.max_steps)
        Schedule(phases, training.max_steps, recipe.global_batch_size, training.seed).draw_step(0)


def test_sweep_runs_once_and_keeps_results(tmp_path, capsys):
    """Finished runs done again, results that lack a seed, or a changed run that is taken for the finished one."""
    file = write_sweep(tmp_path, seeds=[0])
    sweep([str(file), "--jobs", "2"])
    kept = sorted((tmp_path / "results").rglob("*.json"))
    assert [str(path.relative_to(tmp_path / "results")) for path in kept] == ["uniform/seed0.json", "warmup/seed0.json"]
    content = json.loads(kept[1].read_text())
    assert [row["step"] for row in content["history"]] == [0, 1, 2, 4]
    phases = content["summary"]["schedule"]
    assert [(phase["begin"], phase["end"], phase["individuals"]) for phase in phases] == [(0, 2, 8), (2, 4, 64)]
    assert sum(phase["actual_exposures"] * phase["individuals"] for phase in phases) == 4 * 16
    before = kept[0].stat().st_mtime_ns
    sweep([str(file)])
    assert kept[0].stat().st_mtime_ns == before
    capsys.readouterr()
    file = write_sweep(tmp_path, seeds=[0], settings={"max_steps": 5, "use_cpu": True})
    sweep([str(file), "--dry_run"])
    assert capsys.readouterr().out.count("to do") == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"seed": [0]}, "unknown key 'seed'; did you mean 'seeds'"), ({"base": None}, "base missing")],
)
def test_bad_sweep_files(tmp_path, changes, message):
    """A misspelt key that is passed over."""
    file = write_sweep(tmp_path, **changes)
    content = {key: value for key, value in yaml.safe_load(file.read_text()).items() if value is not None}
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=message):
        sweep([str(file)])


def test_two_runs_in_one_folder_are_refused(tmp_path):
    """Two sweeps whose runs share a name and overwrite each other."""
    (tmp_path / "other").mkdir()
    other = write_sweep(tmp_path / "other", settings={"max_steps": 3}, output_dir=str(tmp_path / "outputs"))
    with pytest.raises(InputError, match="two different runs would write to"):
        sweep([str(write_sweep(tmp_path)), str(other), "--dry_run"])


def test_failed_run_is_named(tmp_path):
    """A failure that is taken for success, or ends the runs after it."""
    file = write_sweep(tmp_path, seeds=[0], settings={"max_steps": 4, "hidden_size": 33})
    with pytest.raises(InputError, match="2 runs failed"):
        sweep([str(file), "--jobs", "2"])


def test_committed_pages_are_those_of_the_committed_summaries(tmp_path, monkeypatch):
    """A number typed by hand, or a page that is older than its summaries."""
    shutil.copytree(ROOT / "results", tmp_path / "results")
    shutil.copyfile(ROOT / "README.md", tmp_path / "README.md")
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    report.main([])
    for page in ("README.md", "results/cpu/README.md"):
        assert (tmp_path / page).read_text() == (ROOT / page).read_text(), page
