"""Sweep files: which runs an experiment consists of, and where each one's results are kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from callbacks.history import read_history
from factdata.errors import InputError, did_you_mean
from factdata.metrics import METRICS_VERSION
from recipes.support import run_folder

ROOT = Path(__file__).parents[2]
KEYS = {"recipe", "base", "settings", "runs", "seeds", "output_dir", "results"}


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    name: str  # <run>/seed<k>
    recipe: Path
    settings: dict[str, Any]
    folder: Path
    results: Path

    @property
    def finished(self) -> bool:
        """Whether this very run, settings and all, has been kept among the results."""
        if not self.kept.exists():
            return False
        content = json.loads(self.kept.read_text(encoding="utf-8"))
        return content["settings"] == self.essentials and content["summary"]["metrics_version"] == METRICS_VERSION

    @property
    def kept(self) -> Path:
        """Where the run's small files are kept."""
        return ROOT / self.results / f"{self.name}.json"

    @property
    def essentials(self) -> dict[str, Any]:
        """The settings that decide what is computed."""
        return {key: value for key, value in self.settings.items() if key not in run_folder.OPERATIONAL}

    def start(self, threads: int) -> subprocess.Popen:
        """Start the recipe in its own process; its output goes to ``<folder>.log``."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        config = self.folder.parent / f"{self.folder.name}.yaml"
        config.write_text(yaml.safe_dump(self.settings, sort_keys=False), encoding="utf-8")
        command = [sys.executable, str(ROOT / self.recipe), "--config", str(config), "--disable_tqdm", "true"]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        with open(self.folder.parent / f"{self.folder.name}.log", "w", encoding="utf-8") as log:
            return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment)


def read_sweep(file: Path) -> list[Job]:
    """The runs of a sweep file, every seed of each."""
    if not file.is_file():
        raise InputError(f"no sweep file {file}")
    sweep = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(sweep, dict):
        raise InputError(f"{file}: wanted the keys {', '.join(sorted(KEYS))}")
    for key in sweep:
        if key not in KEYS:
            raise InputError(f"{file}: unknown key {key!r}{did_you_mean(str(key), KEYS)}")
    missing = KEYS - {"settings"} - sweep.keys()
    if missing:
        raise InputError(f"{file}: {', '.join(sorted(missing))} missing")
    base = yaml.safe_load((ROOT / sweep["base"]).read_text(encoding="utf-8"))
    jobs = []
    for name, changes in sweep["runs"].items():
        for seed in sweep["seeds"]:
            folder = ROOT / sweep["output_dir"] / name / f"seed{seed}"
            settings = base | (sweep.get("settings") or {}) | (changes or {}) | {"seed": seed, "population_seed": seed}
            settings |= {"output_dir": str(folder), "resume_from_checkpoint": "auto"}
            jobs.append(Job(f"{name}/seed{seed}", Path(sweep["recipe"]), settings, folder, Path(sweep["results"])))
    return jobs


def keep(job: Job) -> None:
    """Copy a finished run's evaluations and summary to the results: kilobytes, no weights."""
    job.kept.parent.mkdir(parents=True, exist_ok=True)
    content = {"settings": job.essentials}
    content["summary"] = json.loads((job.folder / run_folder.SUMMARY).read_text(encoding="utf-8"))
    content["environment"] = json.loads((job.folder / "environment.json").read_text(encoding="utf-8"))
    content["history"] = read_history(job.folder / "history.jsonl")
    run_folder.write_json(job.kept, content)


def load_kept(job: Job) -> dict[str, Any] | None:
    """What was kept of a run; None if it has not finished with these settings and this version of the metrics."""
    return json.loads(job.kept.read_text(encoding="utf-8")) if job.finished else None
