"""One experiment's table and figure, from what was kept of its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from factdata.metrics import PlateauDetector
from recipes.support.sweeps import load_kept, read_sweep

Arms = dict[str, list[dict[str, Any]]]  # run name → what was kept of each finished seed


def load_arms(sweep: Path) -> Arms:
    """The finished runs of a sweep file, by name; a run without any finished seed has an empty list."""
    arms: Arms = {}
    for job in read_sweep(sweep):
        kept = load_kept(job)
        arms.setdefault(job.name.split("/")[0], []).extend([kept] if kept else [])
    return arms


def question_and_rule(sweep: Path) -> tuple[str, str]:
    """What an experiment asks, and by which rule it is answered: the first line and the 'Rule:' of its header."""
    header = [
        line.removeprefix("#").strip() for line in sweep.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    ]
    start = next(i for i, line in enumerate(header) if line.startswith("Rule:"))
    return header[0], " ".join(header[start:]).removeprefix("Rule: ")


def arms_table(arms: Arms) -> str:
    """Mean ± standard deviation over seeds of the final metrics of seen individuals, and of the plateau's end."""
    lines = [
        "| run | seeds | individuals | attribute accuracy | individuals known | attribute loss (nats) | plateau end |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in arms.items():
        if not runs:
            lines.append(f"| {name} | not run yet | | | | | |")
            continue
        summaries = [run["summary"] for run in runs]
        people = summaries[0]["seen_individuals"]
        accuracy = np.array([summary["metrics"]["seen"]["attribute_accuracy"] for summary in summaries])
        loss = np.array([summary["metrics"]["seen"]["attribute_loss"] for summary in summaries])
        ends = [plateau_end(run) for run in runs]
        reached = [end for end in ends if end is not None]
        end = spread_of(np.array(reached), "{:.0f}") if reached else "not reached"
        if reached and len(reached) < len(ends):
            end += f" ({len(ends) - len(reached)} not reached)"
        seeds = ", ".join(str(run["settings"]["seed"]) for run in runs)
        lines.append(
            f"| {name} | {seeds} | {people:,} | {spread_of(100 * accuracy, '{:.1f}')} % "
            f"| {spread_of(people * accuracy, '{:,.0f}')} | {spread_of(loss, '{:.2f}')} | {end} |"
        )
    return "\n".join(lines)


def plateau_end(run: dict[str, Any]) -> int | None:
    """Where the plateau of *all* seen individuals ends, also where a warm-up had one of its own."""
    return PlateauDetector(run["summary"]["baseline"]).replay(run["history"], "knowledge/seen/attribute_loss").end


def spread_of(values: np.ndarray, form: str) -> str:
    """'mean ± standard deviation' (n - 1), or the value alone where there is one."""
    mean = form.format(values.mean())
    return f"{mean} ± {form.format(values.std(ddof=1))}" if len(values) > 1 else mean


def plot_arms(arms: Arms, title: str, path: Path) -> None:
    """Attribute loss above and accuracy below, over steps: mean over seeds, shaded from the lowest to the highest."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (loss, accuracy) = plt.subplots(2, 1, sharex=True, figsize=(6.4, 6), layout="constrained")
    for name, runs in arms.items():
        if not runs:
            continue
        steps = [row["step"] for row in runs[0]["history"]]
        for axis, metric, scale in ((loss, "attribute_loss", 1), (accuracy, "attribute_accuracy", 100)):
            curves = scale * np.array([[row[f"knowledge/seen/{metric}"] for row in run["history"]] for run in runs])
            (line,) = axis.plot(steps, curves.mean(axis=0), label=f"{name} ({len(runs)} seeds)")
            axis.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=line.get_color(), alpha=0.2, lw=0)
        baseline, batch = runs[0]["summary"]["baseline"], runs[0]["summary"]["global_batch_size"]
    loss.axhline(baseline, color="#444444", ls="--", lw=1)
    loss.set_ylim(0, 1.6 * baseline)
    loss.set_ylabel("attribute loss, seen individuals,\nevaluation templates (nats)")
    accuracy.set_ylabel("attribute accuracy (%)")
    accuracy.set_xlabel(f"training step ({batch} biographies each)")
    accuracy.legend(frameon=False, fontsize=8)
    loss.set_title(title, fontsize=9, wrap=True)
    for axis in (loss, accuracy):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
