"""Run one recipe many times: a base config, a grid of changes, seeds.

    python recipes/sweep.py recipes/configs/warmup/cpu.yaml              # run what is not finished yet
    python recipes/sweep.py recipes/configs/warmup/cpu.yaml --dry_run    # list the runs
    python recipes/sweep.py recipes/configs/warmup/cpu.yaml --jobs 2     # two at a time, one CPU thread each

A sweep file names the ``recipe``, its ``base`` config, ``settings`` for every run, ``runs`` (a name → what differs) and
``seeds``, which decide the population too. Each run has a folder ``<output_dir>/<run>/seed<k>`` and resumes there; a
finished run is never redone. The small files of finished runs are copied to ``results``, from which
``recipes/report.py`` makes figures and tables.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from factdata.errors import InputError
from recipes.support.parser import run
from recipes.support.sweeps import Job, keep, read_sweep

POLL_SECONDS = 1.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, nargs="+", help="sweep files")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these seeds of the files'")
    parser.add_argument("--dry_run", action="store_true", help="list the runs and stop")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        raise InputError(f"--jobs {options.jobs}: wanted 1 or more")
    jobs = [job for file in options.sweep for job in read_sweep(file)]
    if options.seeds is not None:
        jobs = [job for job in jobs if job.settings["seed"] in options.seeds]
    if not jobs:
        raise InputError(f"no runs with the seeds {options.seeds}")
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


def run_all(jobs: Sequence[Job], at_a_time: int) -> None:
    """Run what is unfinished, seed by seed, so that every question has an early answer."""
    waiting = sorted((job for job in jobs if not job.finished), key=lambda job: job.settings["seed"])
    total, running = len(waiting), []
    try:
        _run_waiting(waiting, running, total, at_a_time)
    finally:
        for _, process, _ in running:  # a run left behind would write beside its successor
            process.terminate()


def _run_waiting(waiting: list[Job], running: list, total: int, at_a_time: int) -> None:
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


if __name__ == "__main__":
    run(main)
