"""Run one recipe many times: a base config, a grid of changes, seeds.

    python recipes/sweep.py recipes/configs/warmup/cpu.yaml              # run what is not finished yet
    python recipes/sweep.py recipes/configs/warmup/cpu.yaml --dry_run    # list the runs
    python recipes/sweep.py recipes/configs/warmup/cpu.yaml --jobs 2     # two at a time, one CPU thread each

A sweep file names the ``recipe``, its ``base`` config, ``settings`` for every run, ``runs`` (a name → what differs) and
``seeds``. Each run has a folder ``<output_dir>/<run>/seed<k>`` and resumes there; a finished run is never redone. The
small files of finished runs are copied to ``results``, from which ``recipes/report.py`` makes figures and tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from callbacks.history import read_history
from factdata.errors import InputError, did_you_mean
from recipes.support import run_folder
from recipes.support.parser import run

ROOT = Path(__file__).parents[1]
KEYS = {"recipe", "base", "settings", "runs", "seeds", "output_dir", "results"}
POLL_SECONDS = 1.0


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
        return json.loads(self.kept.read_text(encoding="utf-8"))["settings"] == self.essentials

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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, nargs="+", help="sweep files")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these seeds of the files'")
    parser.add_argument("--dry_run", action="store_true", help="list the runs and stop")
    options = parser.parse_args(arguments)
    jobs = [job for file in options.sweep for job in read_sweep(file)]
    if options.seeds is not None:
        jobs = [job for job in jobs if job.settings["seed"] in options.seeds]
    by_folder: dict[Path, Job] = {}
    for job in jobs:  # sweeps may share a run, if it is the same one
        if by_folder.setdefault(job.folder, job) != job:
            raise InputError(f"two different runs would write to {job.folder}; give one of them another name")
    jobs = list(by_folder.values())
    if options.dry_run:
        for job in jobs:
            print(f"{'finished' if job.finished else 'to do':9}{job.folder}")
        return
    run_all(jobs, options.jobs)
    failed = [job.name for job in jobs if not job.finished]
    print(
        f"{len(jobs) - len(failed)} of {len(jobs)} runs finished" + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    if failed:
        raise InputError(f"{len(failed)} runs failed; see {jobs[0].folder.parent}/*.log, then start the sweep again")


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
            folder = Path(sweep["output_dir"]) / name / f"seed{seed}"
            settings = base | (sweep.get("settings") or {}) | (changes or {}) | {"seed": seed, "population_seed": seed}
            settings |= {"output_dir": str(folder), "resume_from_checkpoint": "auto"}
            jobs.append(Job(f"{name}/seed{seed}", Path(sweep["recipe"]), settings, folder, Path(sweep["results"])))
    return jobs


def run_all(jobs: Sequence[Job], at_a_time: int) -> None:
    """Run what is unfinished, seed by seed, so that every question has an early answer."""
    waiting = sorted((job for job in jobs if not job.finished), key=lambda job: job.settings["seed"])
    total, running = len(waiting), []
    while waiting or running:
        while waiting and len(running) < at_a_time:
            job = waiting.pop(0)
            running.append((job, job.start(threads=1), time.monotonic()))
        for item in list(running):
            job, process, began = item
            if process.poll() is not None:
                running.remove(item)
                if process.returncode == 0:
                    keep(job)
                state = "finished" if job.finished else f"failed with exit code {process.returncode}"
                left = total - len(waiting) - len(running)
                print(f"[{left}/{total}] {job.folder} {state} after {time.monotonic() - began:.0f} s", flush=True)
        time.sleep(POLL_SECONDS)


def keep(job: Job) -> None:
    """Copy a finished run's evaluations and summary to the results: kilobytes, no weights."""
    job.kept.parent.mkdir(parents=True, exist_ok=True)
    content = {"settings": job.essentials}
    content["summary"] = json.loads((job.folder / run_folder.SUMMARY).read_text(encoding="utf-8"))
    content["environment"] = json.loads((job.folder / "environment.json").read_text(encoding="utf-8"))
    content["history"] = read_history(job.folder / "history.jsonl")
    run_folder.write_json(job.kept, content)


if __name__ == "__main__":
    run(main)
