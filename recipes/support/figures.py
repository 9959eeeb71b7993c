"""Figures from saved histories, in the paper's arrangement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SEEN, HELD_OUT, BASELINE = "#1f5fa8", "#c2571a", "#444444"


def plot_three_phases(history: list[dict[str, Any]], summary: dict[str, Any], path: Path) -> None:
    """Attribute loss of seen and held-out individuals above, accuracy below, phases shaded (paper Fig. 2 left)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps = [row["step"] for row in history]

    def series(group: str, metric: str) -> list[float]:
        return [row[f"knowledge/{group}/{metric}"] for row in history]

    figure, (loss, accuracy) = plt.subplots(
        2, 1, sharex=True, figsize=(6.4, 5.2), height_ratios=(2, 1), layout="constrained"
    )
    loss.plot(steps, series("seen", "attribute_loss"), color=SEEN, label="seen individuals, evaluation templates")
    loss.plot(
        steps,
        series("seen_train_templates", "attribute_loss"),
        color=SEEN,
        ls=":",
        label="seen individuals, training templates",
    )
    if summary["held_out_individuals"]:
        loss.plot(steps, series("held_out", "attribute_loss"), color=HELD_OUT, label="held-out individuals")
        accuracy.plot(steps, [100 * a for a in series("held_out", "attribute_accuracy")], color=HELD_OUT)
    loss.axhline(
        summary["baseline"],
        color=BASELINE,
        ls="--",
        lw=1,
        label="no-knowledge baseline",
    )
    loss.set_ylabel("attribute loss (nats)")
    loss.set_ylim(0, 2 * summary["baseline"])
    loss.legend(frameon=False, fontsize=8)
    accuracy.plot(steps, [100 * a for a in series("seen", "attribute_accuracy")], color=SEEN)
    accuracy.set_ylabel("attribute accuracy (%)")
    accuracy.set_ylim(-3, 103)
    accuracy.set_xlabel(f"training step ({summary['global_batch_size']} biographies each)")
    for axis in (loss, accuracy):
        _shade_phases(axis, summary, steps[-1])
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlim(0, steps[-1])
    model = f"{summary['model_type']} with {summary['parameters'] / 1e6:.2g}M parameters"
    loss.set_title(f"{summary['seen_individuals']:,} individuals, {model}, seed {summary['seed']}", fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _shade_phases(axis: Any, summary: dict[str, Any], last_step: int) -> None:
    start, end = summary["plateau_start"], summary["plateau_end"]
    edges = [0] + [edge for edge in (start, end) if edge is not None] + [last_step]
    names = ("value statistics", "plateau", "knowledge")
    colors = ("#efefef", "#fbeed5", "#e3f1e1")
    for name, color, left, right in zip(names, colors, edges, edges[1:], strict=False):
        axis.axvspan(left, right, color=color, lw=0, zorder=0)
        if axis.get_subplotspec().is_first_row():
            axis.text(
                (left + right) / 2,
                axis.get_ylim()[1] * 0.02,
                name,
                ha="center",
                va="bottom",
                fontsize=8,
                color="#666666",
            )
