"""Schedules in real processes: ranks, workers, accumulation and resumes draw what the schedule says, at its step."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import time
import traceback
from multiprocessing.sharedctypes import RawArray
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset, get_worker_info
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from callbacks.distribution_schedule import SWITCH, DistributionScheduleCallback
from factdata.distributions import Uniform
from factdata.errors import InputError
from factdata.phases import build_phases
from factdata.schedules import Phase, Schedule
from factdata.stream import identity_collator

GLOBAL_BATCH, NUM_STEPS, PLATEAU_ENDS = 16, 16, 6
STATIC = [
    {"distribution": "uniform", "individuals": 16, "steps": 5},
    {"distribution": "uniform", "cohort": "new", "steps": 4},
    {"distribution": "inverse_power_law", "alpha": [0, 2]},
]
ADAPTIVE = [{"distribution": "uniform", "individuals": 16, "until": "plateau_end"}, {"distribution": "uniform"}]


def make_schedule(specs: list[dict]) -> Schedule:
    cohorts = {"seen": range(1000), "new": range(5000, 5100)}
    return Schedule(build_phases(specs, cohorts, GLOBAL_BATCH, NUM_STEPS), NUM_STEPS, GLOBAL_BATCH, seed=3)


def switched_at(step: int) -> list[int]:
    """The individuals of a run with ADAPTIVE's phases that switches at this step, known from the start."""
    schedule = Schedule([Phase(Uniform(16), step), Phase(Uniform(1000))], NUM_STEPS, GLOBAL_BATCH, seed=3)
    return schedule.draw(np.arange(NUM_STEPS * GLOBAL_BATCH)).individuals.tolist()


class Individuals(Dataset):
    """Who is drawn, without text; remembers, for all workers together, the last step that was drawn."""

    def __init__(self, schedule: Schedule):
        self.schedule = schedule
        self.furthest = RawArray(ctypes.c_int64, 9)

    def __len__(self) -> int:
        return self.schedule.num_steps * self.schedule.global_batch

    def __getitems__(self, positions: list[int]) -> dict[str, torch.Tensor]:
        reader = get_worker_info().id + 1 if get_worker_info() else 0
        self.furthest[reader] = max(self.furthest[reader], positions[-1] // self.schedule.global_batch)
        return {"individuals": torch.from_numpy(self.schedule.draw(np.asarray(positions)).individuals)}


class Recorder(torch.nn.Module):
    """A model that learns nothing and remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.shown: list[list[int]] = []

    def forward(self, individuals: torch.Tensor) -> dict[str, torch.Tensor]:
        self.shown.append(individuals.tolist())
        return {"loss": (self.weight * individuals.double().mean()).mean()}


class MadeUpLoss(TrainerCallback):
    """Logs a loss whose plateau of 1 ends at PLATEAU_ENDS, and how far data had been drawn when it was noticed."""

    def __init__(self, trainer: Trainer):
        self.trainer, self.furthest = trainer, -1

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.log({"made_up": 1.0 if state.global_step < PLATEAU_ENDS else 0.1})

    def on_log(self, args, state, control, logs=None, **kwargs):
        if SWITCH in logs:
            time.sleep(0.3)  # the workers draw ahead as far as they can
            self.furthest = max(self.trainer.train_dataset.furthest)


def make_trainer(folder: Path, schedule: Schedule, **arguments) -> Trainer:
    ranks, accumulation = int(os.environ.get("WORLD_SIZE", 1)), arguments.get("gradient_accumulation_steps", 1)
    sizes = {"per_device_train_batch_size": GLOBAL_BATCH // ranks // accumulation, "max_steps": NUM_STEPS, "seed": 3}
    quiet = {"report_to": "none", "disable_tqdm": True, "logging_strategy": "no", "dataloader_pin_memory": False}
    reading = {"train_sampling_strategy": "sequential", "remove_unused_columns": False, "use_cpu": True}
    other = {"output_dir": str(folder), "save_strategy": "no", "ddp_find_unused_parameters": False}
    training = TrainingArguments(**{**sizes, **quiet, **reading, **other, **arguments})
    trainer = Trainer(Recorder(), training, identity_collator, Individuals(schedule))
    trainer.remove_callback(PrinterCallback)
    return trainer


def train(folder: str, specs: list[dict], resume: str | None = None, **arguments) -> dict:
    """One run of the Trainer on this rank: whom the model saw, microbatch by microbatch, and the announced switch."""
    schedule = make_schedule(specs)
    trainer = make_trainer(Path(folder), schedule, **arguments)
    made_up = MadeUpLoss(trainer)
    trainer.add_callback(made_up)
    trainer.add_callback(DistributionScheduleCallback(trainer, schedule, "made_up", baseline=1.0))
    trainer.train(resume_from_checkpoint=resume)
    return {"shown": trainer.model.shown, "end": schedule.announced_end(0), "furthest": made_up.furthest}


def load(workers: int, accumulation: int) -> dict:
    """What a plain loader, prepared by accelerate, hands this rank."""
    accelerator, stream = Accelerator(cpu=True), Individuals(make_schedule(STATIC))
    batch_size = GLOBAL_BATCH // accelerator.num_processes // accumulation
    loader = DataLoader(stream, batch_size, num_workers=workers, collate_fn=identity_collator)
    return {"shown": [batch["individuals"].tolist() for batch in accelerator.prepare(loader)]}


def _rank(rank: int, ranks: int, folder: Path, jobs: list[tuple]) -> None:
    multiprocessing.set_start_method("fork", force=True)  # of data loader workers: the default outside this process
    torch.set_num_threads(1)
    if ranks > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
        os.environ |= {"ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "localhost", "GLOO_SOCKET_IFNAME": "lo"}
        torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    try:
        answer = [globals()[function](**options) for function, options in jobs]
    except BaseException:
        answer = traceback.format_exc()
    (folder / f"rank_{rank}.json").write_text(json.dumps(answer))
    os._exit(0)  # a rank whose neighbour failed would wait for it


def launch(folder: Path, ranks: int, jobs: list[tuple]) -> list[list[dict]]:
    """Run the jobs, one after the other, on every rank of one process group; returns the answers [job][rank]."""
    context = multiprocessing.get_context("forkserver")  # imports torch once, and forks before anything has run
    context.set_forkserver_preload(["accelerate", "transformers.trainer", "torch.distributed"])
    folder.mkdir(parents=True, exist_ok=True)
    processes = [context.Process(target=_rank, args=(rank, ranks, folder, jobs)) for rank in range(ranks)]
    for process in processes:
        process.start()
    deadline = time.monotonic() + 100
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0))
        process.kill()
    answers = [json.loads(path.read_text()) for path in sorted(folder.glob("rank_*.json"))]
    for answer in answers:
        assert isinstance(answer, list), answer
    assert len(answers) == ranks, "a rank did not answer"
    return [list(job) for job in zip(*answers, strict=True)]


def in_order(ranks: list[dict]) -> list[int]:
    """The individuals of all ranks in the order of their positions: microbatch by microbatch, rank by rank."""
    rows = [batch for together in zip(*[rank["shown"] for rank in ranks], strict=True) for batch in together]
    return [individual for batch in rows for individual in batch]


def static_run() -> list[int]:
    return make_schedule(STATIC).draw(np.arange(NUM_STEPS * GLOBAL_BATCH)).individuals.tolist()


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_plain_loaders_hand_out_the_stream(tmp_path, ranks):
    """A rank, worker or accumulation that repeats, skips or reorders positions, or switches at another step."""
    combinations = [{"workers": workers, "accumulation": part} for workers in (0, 2) for part in (1, 2)]
    answers = launch(tmp_path, ranks, [("load", options) for options in combinations])
    for options, answer in zip(combinations, answers, strict=True):
        assert {len(rank["shown"]) for rank in answer} == {NUM_STEPS * options["accumulation"]}
        steps = np.array(in_order(answer)).reshape(NUM_STEPS, GLOBAL_BATCH)
        assert steps.ravel().tolist() == static_run(), options
        assert (steps < 16).all(axis=1).nonzero()[0].tolist() == [0, 1, 2, 3, 4]
        assert (steps >= 5000).all(axis=1).nonzero()[0].tolist() == [5, 6, 7, 8]
        assert not (steps[9:] >= 1000).any() and (steps[9:] >= 16).any()


@pytest.mark.parametrize("ranks", [1, 2])
def test_adaptive_switch_is_exact(tmp_path, ranks):
    """A switch that reaches prefetched batches late, at different steps on two ranks, or needlessly late."""
    jobs = []
    for workers, part in ((0, 1), (2, 1), (0, 2), (2, 2)):
        options = {"dataloader_num_workers": workers, "gradient_accumulation_steps": part}
        jobs.append(("train", {"folder": str(tmp_path / "run"), "specs": ADAPTIVE, **options}))
    jobs.append(("train", {"folder": str(tmp_path / "run"), "specs": STATIC, "dataloader_num_workers": 2}))
    *adaptive, static = launch(tmp_path, ranks, jobs)
    for answer, expected in zip(adaptive, (8, 12, 8, 10), strict=True):
        ends = {rank["end"] for rank in answer}
        furthest = max(rank["furthest"] for rank in answer)
        assert ends == {expected} and furthest < expected <= furthest + 2
        assert in_order(answer) == switched_at(expected)
    assert in_order(static) == static_run()


def test_resume_draws_the_same_individuals(tmp_path):
    """A resumed run that begins a phase anew, forgets an announced switch or a plateau, or reads other positions."""
    save = {"save_strategy": "steps", "save_steps": 1}
    whole = {
        name: {
            "folder": str(tmp_path / name),
            "specs": specs,
            "dataloader_num_workers": 2 * (specs is ADAPTIVE),
            **save,
        }
        for name, specs in (("static", STATIC), ("adaptive", ADAPTIVE))
    }
    answers = launch(tmp_path / "whole", 1, [("train", options) for options in whole.values()])
    assert [answer[0]["end"] for answer in answers] == [None, 12]
    assert [in_order(answer) for answer in answers] == [static_run(), switched_at(12)]
    # Mid-phase and at a switch; a plateau half seen (5), a switch announced for later (6, 11), and one that is over.
    starts = [("static", step) for step in (3, 5)] + [("adaptive", step) for step in (5, 6, 11, 13)]
    for ranks, workers, part in ((1, 2, 1), (2, 2, 2)):
        jobs = []
        for name, step in starts:
            options = {"resume": f"{tmp_path}/{name}/checkpoint-{step}", "gradient_accumulation_steps": part}
            options |= {"dataloader_num_workers": workers, "specs": whole[name]["specs"]}
            jobs.append(("train", {"folder": str(tmp_path / "resumed"), **options}))
        for (name, step), answer in zip(starts, launch(tmp_path / f"resumed_{ranks}", ranks, jobs), strict=True):
            end = 10 if (ranks, step, name) == (2, 5, "adaptive") else 12  # not yet announced: by this run's prefetch
            expected = switched_at(end) if name == "adaptive" else static_run()
            assert in_order(answer) == expected[step * GLOBAL_BATCH :], (name, step, ranks)
            assert {rank["end"] for rank in answer} == {end if name == "adaptive" else None}


def test_adaptive_schedule_needs_its_loss():
    """A plateau that is waited for until the end of training, because nobody says which loss tells it."""
    for key, baseline in ((None, None), ("made_up", None), (None, 1.0)):
        with pytest.raises(InputError, match="needs the logged loss"):
            DistributionScheduleCallback(None, make_schedule(ADAPTIVE), key, baseline)


def test_losses_logged_before_training_begins(tmp_path):
    """A callback that works in one order only: a KnowledgeCallback added first evaluates before this one has begun."""
    schedule = make_schedule(ADAPTIVE)
    trainer = make_trainer(tmp_path, schedule)
    first = TrainerCallback()
    first.on_train_begin = lambda *_, **__: trainer.log({"made_up": 2.0})
    trainer.add_callback(first)
    trainer.add_callback(DistributionScheduleCallback(trainer, schedule, "made_up", baseline=1.0))
    trainer.train()
