"""Checks that a run draws what its schedule says, reports it, and announces the switches of adaptive phases.

Nothing that has been drawn is ever changed: a callback that swapped a sampler's weights would be late by whatever the
data loader holds ahead, which differs with workers and ranks, and would forget its switch on resume.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from accelerate.utils import broadcast_object_list
from tqdm.auto import tqdm
from transformers import TrainerCallback

from factdata.distributions import entropy
from factdata.errors import InputError
from factdata.metrics import PlateauDetector
from factdata.schedules import SWITCH, SWITCH_STEP, Schedule

if TYPE_CHECKING:
    from transformers import Trainer


class DistributionScheduleCallback(TrainerCallback):
    """For any Trainer whose training set is drawn from ``schedule`` (a BiographyStream or ScheduledDataset).

    ``plateau_key`` names the logged attribute loss on which the end of an adaptive phase is detected, ``baseline`` the
    no-knowledge baseline of the same facts; both are needed only by adaptive schedules. Announcements are logged, so
    that the trainer state saves them, and taken up again from there after a resume.
    """

    def __init__(
        self, trainer: Trainer, schedule: Schedule, plateau_key: str | None = None, baseline: float | None = None
    ):
        if any(phase.until for phase in schedule.phases) and (plateau_key is None or baseline is None):
            raise InputError("an adaptive schedule needs the logged loss that tells the plateau, and its baseline")
        self.trainer = trainer
        self.schedule = schedule
        self.plateau_key = plateau_key
        self.baseline = baseline
        self._detectors: dict[int, PlateauDetector] = {}

    def on_train_begin(self, args, state, control, **kwargs):
        self._check_run(args, state)
        self._detectors.clear()  # an evaluation logged just now by another callback is in the history as well
        self.schedule.take_up_announcements(state.log_history)
        for row in state.log_history:
            if self.plateau_key in row and row["step"] < self.schedule.num_steps:
                self._watch(row["step"], row[self.plateau_key])
        self._report_phase(state, control)

    def on_step_end(self, args, state, control, **kwargs):
        step = state.global_step
        if step < self.schedule.num_steps and self.schedule.phase_index(step) != self.schedule.phase_index(step - 1):
            self._report_phase(state, control)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.plateau_key is None or self.plateau_key not in (logs or {}):
            return
        step = state.global_step
        if step >= self.schedule.num_steps or not self._watch(step, logs[self.plateau_key]):
            return
        index = self.schedule.phase_index(step)
        switch_step = broadcast_object_list([self._first_free_step(args, step)])[0]
        if switch_step >= self.schedule.ends()[index]:
            return  # the phase ends by itself before
        self.schedule.announce_end(index, switch_step)
        loss_is_due = control.should_log
        self.trainer.log({SWITCH: index, SWITCH_STEP: switch_step})
        control.should_log = loss_is_due
        if state.is_world_process_zero:
            tqdm.write(f"step {step}: the plateau has ended; phase {index + 1} ends before step {switch_step}")

    def _watch(self, step: int, loss: float) -> bool:
        """Whether this evaluation ends the active phase: an adaptive one whose plateau is over."""
        index = self.schedule.phase_index(step)
        if self.schedule.phases[index].until is None or self.schedule.announced_end(index) is not None:
            return False
        detector = self._detectors.setdefault(index, PlateauDetector(self.baseline))
        detector.update(step, loss)
        return detector.end is not None

    @staticmethod
    def _first_free_step(args, step: int) -> int:
        """The first step of which no example can have been drawn yet, with one step to spare.

        The data loader holds one batch ahead, and workers prefetch more.
        """
        batches_ahead = 1 + args.dataloader_num_workers * (args.dataloader_prefetch_factor or 2)
        return step + math.ceil(batches_ahead / args.gradient_accumulation_steps) + 1

    def _check_run(self, args, state) -> None:
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        if batch != self.schedule.global_batch:
            raise InputError(
                f"the schedule draws {self.schedule.global_batch} examples a step, the run takes {args.world_size} "
                f"ranks × {args.per_device_train_batch_size} × {args.gradient_accumulation_steps} = {batch}; make "
                "them equal"
            )
        if getattr(args.train_sampling_strategy, "value", args.train_sampling_strategy) != "sequential":
            raise InputError("a schedule is read in order: set train_sampling_strategy to sequential")
        if state.max_steps != self.schedule.num_steps:
            raise InputError(
                f"the schedule has {self.schedule.num_steps} steps, the run {state.max_steps}: set --max_steps alike"
            )

    def _report_phase(self, state, control) -> None:
        step = min(state.global_step, self.schedule.num_steps - 1)
        index = self.schedule.phase_index(step)
        phase, distribution = self.schedule.phases[index], self.schedule.distribution_at(step)
        nats = entropy(distribution)
        row = {"schedule/phase": index, "schedule/entropy": nats, "schedule/effective_individuals": math.exp(nats)}
        loss_is_due = control.should_log
        self.trainer.log(row)
        control.should_log = loss_is_due
        if state.is_world_process_zero and len(self.schedule.phases) > 1:
            name = phase.name or type(distribution).__name__
            tqdm.write(f"step {step}: phase {index + 1} of {len(self.schedule.phases)}, {name}")


def report_exposures(schedule: Schedule) -> list[dict]:
    """Phase by phase what was drawn: steps, entropy, and expected and actual exposures of an individual.

    ``expected_exposures`` and ``actual_exposures`` are means over the individuals who can be drawn, ``largest_gap`` is
    the largest difference between an individual's two, in standard deviations of a Poisson count.
    """
    report, begin = [], 0
    for phase, end in zip(schedule.phases, schedule.ends(), strict=True):
        if end > begin:
            expected = sum_of_probabilities(schedule, begin, end) * schedule.global_batch
            actual = schedule.count_exposures(begin, end)[: len(expected)]
            possible = expected > 0
            gaps = np.abs(actual - expected)[possible] / np.sqrt(expected[possible])
            report.append(
                {
                    "phase": phase.name,
                    "begin": begin,
                    "end": end,
                    "entropy": entropy(schedule.distribution_at(begin)),
                    "individuals": int(possible.sum()),
                    "expected_exposures": float(expected[possible].mean()),
                    "actual_exposures": float(actual[possible].mean()),
                    "never_drawn": int((actual[possible] == 0).sum()),
                    "largest_gap": float(gaps.max()),
                }
            )
        begin = end
    return report


def expected_exposures(schedule: Schedule, cohort: range) -> float:
    """How often the schedule is expected to draw an individual of the cohort, on average.

    A phase whose end is still to be announced counts as if it lasted to the end of training.
    """
    total, begin = 0.0, 0
    for end in schedule.ends():
        if end > begin:
            p = schedule.distribution_at(begin).probabilities()
            total += (end - begin) * schedule.global_batch * float(p[cohort.start : cohort.stop].sum())
        begin = end
    return total / len(cohort)


def sum_of_probabilities(schedule: Schedule, begin: int, end: int) -> np.ndarray:
    """Each individual's probabilities, summed over steps ``begin`` … ``end`` - 1 of one phase."""
    total, first = np.zeros(0), begin
    while first < end:
        distribution, last = schedule.distribution_at(first), first
        while last < end and schedule.distribution_at(last) is distribution:
            last += 1
        p = distribution.probabilities() * (last - first)
        total = np.pad(total, (0, max(len(p) - len(total), 0)))
        total[: len(p)] += p
        first = last
    return total
