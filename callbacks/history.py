"""``history.jsonl``: one row an evaluation, complete and free of doubles however often a run was interrupted."""

from __future__ import annotations

import json
import os
from pathlib import Path

from transformers import TrainerCallback


class HistoryCallback(TrainerCallback):
    """Writes every logged row that has ``key`` (its presence marks an evaluation) on the first rank.

    The Trainer's log history is the truth: when training begins or resumes the file is written anew from it, so
    that rows of steps that were lost with a crash disappear and come again.
    """

    def __init__(self, path: str | Path, key: str):
        self.path = Path(path)
        self.key = key

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            rows = [row for row in state.log_history if self.key in row]
            partial = self.path.with_suffix(".partial")
            partial.write_text("".join(map(self._line, rows)), encoding="utf-8")
            os.replace(partial, self.path)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and self.key in (logs or {}) and self.path.exists():
            with self.path.open("a", encoding="utf-8") as file:
                file.write(self._line({**logs, "step": state.global_step}))

    @staticmethod
    def _line(row: dict) -> str:
        return json.dumps({"step": row["step"]} | {k: v for k, v in row.items() if k not in ("step", "epoch")}) + "\n"


def read_history(path: str | Path) -> list[dict]:
    """The rows of a history file, in order of steps."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
