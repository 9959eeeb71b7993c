"""What the model knows, measured while it trains, and the plateau found on the way."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from accelerate.utils import gather_object
from tqdm.auto import tqdm
from transformers import Trainer, TrainerCallback

from factdata.metrics import FactScores, PlateauDetector, summarize
from factdata.scoring import FactBatch, score_facts

PREFIX = "knowledge"
ANNOUNCEMENTS = {
    "start": "plateau begins: the values' statistics are learnt, nobody's facts are",
    "end": "plateau ends: facts are being learnt",
}


def evaluation_steps(max_steps: int, every: int) -> set[int]:
    """Step 0, powers of two below ``every``, multiples of ``every``, and the last step."""
    log_spaced = {1 << bit for bit in range(every.bit_length()) if 1 << bit < every}
    return {0, max_steps} | {step for step in log_spaced if step < max_steps} | set(range(0, max_steps, every))


class KnowledgeCallback(TrainerCallback):
    """Scores groups of facts at set steps and logs ``knowledge/<group>/<metric>`` through the Trainer.

    ``groups`` maps a name to this rank's batches (``scoring.fact_batches`` with ``shard``); every rank must have as
    many batches as the others. The plateau is detected on ``plateau_group``. Nothing of its own needs saving:
    after a resume, detector and clocks are rebuilt from the Trainer's log history.
    """

    def __init__(
        self,
        trainer: Trainer,
        groups: Mapping[str, list[FactBatch]],
        attributes: Iterable[str],
        baseline: float,
        at_steps: set[int],
        plateau_group: str = "seen",
    ):
        self.trainer = trainer
        self.groups = {name: [batch.to(trainer.args.device) for batch in batches] for name, batches in groups.items()}
        self.attributes = tuple(attributes)
        self.at_steps = at_steps
        self.plateau_key = f"{PREFIX}/{plateau_group}/attribute_loss"
        self.detector = PlateauDetector(baseline)

    def on_train_begin(self, args, state, control, **kwargs):
        earlier = [row for row in state.log_history if self.plateau_key in row]
        self.detector = PlateauDetector(self.detector.baseline).replay(earlier, self.plateau_key)
        self._earlier_seconds = earlier[-1]["seconds"] if earlier else 0.0
        self._evaluation_seconds = earlier[-1]["evaluation_seconds"] if earlier else 0.0
        self._began = time.perf_counter()
        if not earlier and 0 in self.at_steps:
            self._evaluate(state, control)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in self.at_steps:
            self._evaluate(state, control)

    def _evaluate(self, state, control) -> None:
        self._wait_for_device()
        began = time.perf_counter()
        metrics: dict[str, float] = {}
        with self.trainer.accelerator.autocast():
            for group, batches in self.groups.items():
                local = score_facts(self.trainer.model, batches, len(self.attributes))
                scores = FactScores.concatenate(gather_object([local]))
                summary = summarize(scores, self.attributes)
                metrics |= {f"{PREFIX}/{group}/{name}": value for name, value in summary.items()}
        ended = time.perf_counter()
        self._evaluation_seconds += ended - began
        crossed = self.detector.update(state.global_step, metrics[self.plateau_key])
        metrics["seconds"] = self._earlier_seconds + ended - self._began
        metrics["evaluation_seconds"] = self._evaluation_seconds
        loss_is_due = control.should_log
        self.trainer.log(metrics)
        control.should_log = loss_is_due  # logging takes the flag down, and the training loss of this step with it
        if crossed and state.is_world_process_zero:
            loss = f"loss {metrics[self.plateau_key]:.2f}, baseline {self.detector.baseline:.2f}"
            tqdm.write(f"step {state.global_step}: {ANNOUNCEMENTS[crossed]} ({loss})")

    def _wait_for_device(self) -> None:
        """Training steps still under way must not count as evaluation."""
        if self.trainer.args.device.type == "cuda":
            import torch

            torch.cuda.synchronize()
