"""What a run prints and leaves behind: the plan at its beginning, the summary at its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from callbacks.knowledge import PREFIX
from factdata.metrics import METRICS_VERSION, PlateauDetector
from recipes.support.run_folder import SUMMARY

GROUP_NAMES = {
    "seen": "seen individuals, evaluation templates",
    "seen_train_templates": "seen individuals, training templates",
    "held_out": "held-out individuals",
}


def describe_plan(plan: dict[str, Any]) -> str:
    """Two lines: the model and its batches, the individuals and their exposures."""
    filled = plan["tokens_per_step"] / plan["token_slots_per_step"]
    return (
        f"model: {plan['model_type']}, {plan['parameters']:,} parameters; {plan['steps']:,} steps of "
        f"{plan['global_batch_size']} biographies, {plan['tokens_per_step']:,} tokens a step ({filled:.0%} of slots)"
        f"\npopulation: {plan['seen_individuals']:,} seen individuals, {plan['exposures_per_individual']:.1f} exposures"
        f" each; {plan['held_out_individuals']:,} held out; no-knowledge baseline {plan['baseline']:.3f} nats"
    )


def summarize_pretraining(plan: dict[str, Any], history: list[dict], detector: PlateauDetector) -> dict[str, Any]:
    """The content of summary.json: the plan, the plateau, the clock, and the last metrics of every group."""
    last = history[-1]
    training_seconds = last["seconds"] - last["evaluation_seconds"]
    metrics: dict[str, dict[str, float]] = {}
    for key, value in last.items():
        if key.startswith(f"{PREFIX}/"):
            _, group, name = key.split("/", 2)
            metrics.setdefault(group, {})[name] = value
    return {
        "metrics_version": METRICS_VERSION,
        **plan,
        "plateau_start": detector.start,
        "plateau_end": detector.end,
        "wall_seconds": last["seconds"],
        "evaluation_share": last["evaluation_seconds"] / last["seconds"],
        "tokens_per_second": plan["tokens_per_step"] * plan["steps"] / training_seconds,
        "metrics": metrics,
    }


def report(folder: Path, aloud: bool) -> dict[str, Any]:
    """Read a finished run's summary and, if ``aloud``, print the closing block."""
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    if aloud:
        print(closing_block(folder, summary))
    return summary


def closing_block(folder: Path, summary: dict[str, Any]) -> str:
    lines = ["", f"{'':40}attribute loss   accuracy"]
    for group, name in GROUP_NAMES.items():
        if group in summary["metrics"]:
            metrics = summary["metrics"][group]
            lines.append(f"{name:40}{metrics['attribute_loss']:>9.3f} nats{metrics['attribute_accuracy']:>11.1%}")
    lines.append(f"{'no-knowledge baseline':40}{summary['baseline']:>9.3f} nats")

    def step(value: int | None) -> str:
        return "not reached" if value is None else f"step {value:,}"

    lines += [
        f"plateau: begins {step(summary['plateau_start'])}, ends {step(summary['plateau_end'])}",
        f"time: {summary['wall_seconds']:.0f} s, {summary['evaluation_share']:.1%} of it evaluation; "
        f"{summary['tokens_per_second']:,.0f} tokens/s",
        f"figure:  {folder / 'figure.png'}",
        f"summary: {folder / SUMMARY}   (every evaluation: {folder / 'history.jsonl'})",
        f"model:   {folder / 'model'}",
    ]
    return "\n".join(lines)
