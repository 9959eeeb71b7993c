"""The folder of one run: never mixed with another experiment, resumed only from whole checkpoints."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from factdata.errors import InputError

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from factdata.schedules import Schedule

T = TypeVar("T")
CONFIG, SUMMARY = "resolved_config.yaml", "summary.json"

# Settings that change how a run is carried out, not what it computes; they may differ when a run is resumed.
OPERATIONAL = {
    "output_dir", "run_name", "resume_from_checkpoint", "dry_run", "disable_tqdm", "report_to", "log_level",
    "log_level_replica", "logging_steps", "logging_strategy", "logging_first_step", "save_steps", "save_strategy",
    "save_total_limit", "dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_pin_memory",
    "dataloader_persistent_workers", "per_device_train_batch_size", "gradient_accumulation_steps", "use_cpu",
    "gradient_checkpointing", "push_to_hub",
    "hub_always_push", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo",
    "hub_revision",
}  # fmt: skip


def choose_checkpoint(
    folder: Path,
    resolved: dict[str, Any],
    resume: str | None,
    schedule: Schedule,
    rebuild: Callable[[Any], Schedule],
) -> tuple[Path | None, bool]:
    """The checkpoint from which the run of ``resolved`` goes on in ``folder`` (None: afresh); whether it is finished.

    ``resume`` is None (start afresh, in an unused folder), 'auto' (the newest whole checkpoint, else afresh) or a
    checkpoint's path. ``rebuild`` makes a Schedule of the phases in a config. Raises InputError where the folder is
    not this run's, or was trained so far on another schedule. Reads only.
    """
    checkpoint = _choose(folder, resolved, resume)
    _refuse_changed_past(folder, checkpoint, schedule, rebuild)
    return checkpoint, (folder / SUMMARY).exists()


def _choose(folder: Path, resolved: dict[str, Any], resume: str | None) -> Path | None:
    differing = _difference(folder, resolved)
    if differing:
        raise InputError(
            f"{folder} holds another experiment ({differing}); choose another --output_dir or remove the folder"
        )
    if resume == "auto":
        return newest_whole_checkpoint(folder)
    if resume is not None:
        home = Path(resume).parent
        differing = _difference(home, resolved) if (home / CONFIG).exists() else ""
        if differing:
            raise InputError(f"the checkpoint {resume} belongs to another experiment ({differing})")
        fault = checkpoint_fault(Path(resume))
        if fault:
            raise InputError(f"cannot resume from {resume}: {fault}")
        return Path(resume)
    if (folder / CONFIG).exists():
        state = "a finished run" if (folder / SUMMARY).exists() else "an unfinished run"
        raise InputError(f"{folder} holds {state}; pass --resume_from_checkpoint auto or another --output_dir")
    return None


def _refuse_changed_past(
    folder: Path, checkpoint: Path | None, schedule: Schedule, rebuild: Callable[[Any], Schedule]
) -> None:
    """Raise InputError if the run was trained so far on another schedule; what is still to come may change."""
    folder = folder if checkpoint is None else checkpoint.parent
    if not (folder / CONFIG).exists():
        return
    stored = rebuild(yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")).get("schedule"))
    trained = schedule.num_steps if (folder / SUMMARY).exists() else 0
    if checkpoint is not None:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        trained = max(trained, state["global_step"])
        stored.take_up_announcements(state["log_history"])
    step = stored.first_difference(schedule, trained)
    if step is not None:
        raise InputError(
            f"{folder} was trained for {trained} steps on a schedule that differs from this one at step {step}; change "
            "only what is still to come, or choose another --output_dir"
        )


def claim(folder: Path, resolved: dict[str, Any], world_size: int, needed_bytes: int) -> None:
    """Make the folder this run's: its config and environment are written. Raises InputError where it cannot be."""
    existing = next(parent for parent in [folder, *folder.absolute().parents] if parent.is_dir())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise InputError(
            f"the output directory {folder} has {free / 1e9:.1f} GB free, the run needs about "
            f"{needed_bytes / 1e9:.1f} GB for its checkpoints; free some, or lower --save_total_limit"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder, resolved)  # first: a folder without it is taken for a stranger's
        write_json(folder / "environment.json", environment(world_size))
    except OSError as error:
        raise InputError(f"cannot write to the output directory {folder}: {error.strerror}") from None


def on_first_rank(decide: Callable[[], T]) -> T:
    """Let the first rank decide and tell the others; an InputError is raised on all of them."""
    from accelerate.utils import broadcast_object_list

    answer: list[Any] = [None, None]
    if os.environ.get("RANK", "0") == "0":
        try:
            answer[0] = decide()
        except InputError as error:
            answer[1] = str(error)
    result, fault = broadcast_object_list(answer)
    if fault is not None:
        raise InputError(fault)
    return result


def checkpoint_bytes(parameters: int, training: TrainingArguments) -> int:
    """Room for the checkpoints that are kept at one time, and the final model: fp32 weights and AdamW's two moments."""
    every = training.save_steps if training.save_steps >= 1 else training.save_steps * training.max_steps
    saves = 0 if training.save_strategy == "no" else math.ceil(training.max_steps / every)
    kept = min(saves, (training.save_total_limit or saves) + 1)  # one more while the oldest is not yet deleted
    return 4 * parameters * (3 * kept + 1)


def _difference(folder: Path, resolved: dict[str, Any]) -> str:
    """The settings in which the folder's run differs from ``resolved``, as text; empty if they agree."""
    path = folder / CONFIG
    if not path.exists():
        stray = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
        return f"no {CONFIG}, but {stray[0]}" if stray else ""
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError):
        return f"its {CONFIG} cannot be read"
    keys = sorted((stored.keys() | resolved.keys()) - OPERATIONAL - {"schedule"})  # see _refuse_changed_past
    differing = [
        f"{k} {stored.get(k)!r} there, {resolved.get(k)!r} here" for k in keys if stored.get(k) != resolved.get(k)
    ]
    return "; ".join(differing[:3]) + (f" and {len(differing) - 3} more" if len(differing) > 3 else "")


def newest_whole_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the highest step that is complete; says so when it passes over a broken one."""
    checkpoints = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for checkpoint in sorted(checkpoints, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        fault = checkpoint_fault(checkpoint)
        if fault is None:
            return checkpoint
        if os.environ.get("RANK", "0") == "0":
            print(f"{checkpoint} is not whole ({fault}); falling back to the one before it", file=sys.stderr)
    return None


def checkpoint_fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None. Sizes and checksums are read, not only names: saves get killed."""
    if not checkpoint.is_dir():
        return "no such folder"
    try:
        step = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
        if not isinstance(step, int):
            return "trainer_state.json has no step"
        # FSDP with full state dicts writes optimizer.bin; other sharded optimizers keep folders, which their loaders
        # check.
        for name in ("optimizer.bin" if (checkpoint / "optimizer.bin").exists() else "optimizer.pt", "scheduler.pt"):
            if (checkpoint / name).exists():
                with zipfile.ZipFile(checkpoint / name) as archive:
                    broken = archive.testzip()
                if broken:
                    return f"{name} is damaged"
            elif not any(path.is_dir() for path in checkpoint.iterdir()):
                return f"{name} is missing"
        weights = list(checkpoint.glob("*.safetensors"))
        if not weights and not any(path.is_dir() for path in checkpoint.iterdir()):
            return "model.safetensors is missing"
        for path in weights:
            from safetensors import safe_open

            with safe_open(path, framework="pt") as tensors:
                tensors.keys()
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except Exception as error:  # a damaged file raises whatever its reader likes
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write whole or not at all."""
    _replace(path, json.dumps(content, indent=2) + "\n")


def write_config(folder: Path, resolved: dict[str, Any]) -> None:
    """``resolved_config.yaml``: running it again with --config repeats the run."""
    _replace(folder / CONFIG, yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True))


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def environment(world_size: int) -> dict[str, Any]:
    """Versions, hardware and commit behind a number; no host, user or path."""
    import torch

    packages = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "numpy", "peft", "trl", "evaluate")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "packages": versions,
        "processor": _processor(),
        "cpu_threads": torch.get_num_threads(),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "world_size": world_size,
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The checkout's commit, with '+' when tracked files differ from it."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
