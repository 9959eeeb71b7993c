"""A progress bar that shows the few numbers one watches, instead of printing every logged row."""

from __future__ import annotations

from typing import ClassVar

from transformers import Trainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback


class KnowledgeProgressCallback(ProgressCallback):
    """Training loss, and attribute loss and accuracy of seen individuals, beside the bar."""

    SHOWN: ClassVar = {
        "loss": "loss",
        "knowledge/seen/attribute_loss": "attribute loss",
        "knowledge/seen/attribute_accuracy": "accuracy",
    }

    def __init__(self):
        super().__init__()
        self._latest: dict[str, str] = {}

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or self.training_bar is None:
            return
        self._latest |= {shown: f"{logs[key]:.3f}" for key, shown in self.SHOWN.items() if key in logs}
        self.training_bar.set_postfix(self._latest, refresh=False)


def use_knowledge_progress(trainer: Trainer) -> None:
    """Put this bar in the place of the Trainer's own."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if not trainer.args.disable_tqdm:
        trainer.add_callback(KnowledgeProgressCallback())
