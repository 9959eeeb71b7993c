"""What only real processes can show: kills, ranks, launchers and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
DEBUG = ["recipes/pretrain.py", "--config", "recipes/configs/debug.yaml", "--disable_tqdm", "true"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
ONE = [*LAUNCH, "accelerate_configs/cpu.yaml"]
TWO = [*LAUNCH, "accelerate_configs/cpu_two_processes.yaml", "--main_process_port", "0"]


def run(command: list[str], **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, **options)


def log_history(folder: Path, key: str = "loss") -> dict[int, float]:
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    rows = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return {row["step"]: row[key] for row in rows if key in row}


def test_killed_and_resumed_is_the_run_that_was_not(tmp_path):
    """Work lost or changed when a run is killed without warning in the middle of a step or a save."""
    flags = ["--max_steps", "120", "--logging_steps", "1", "--save_steps", "20", "--evaluate_every", "30"]
    whole = run([sys.executable, *DEBUG, *flags, "--use_cpu", "--output_dir", str(tmp_path / "whole")])
    assert whole.returncode == 0, whole.stderr
    command = [sys.executable, *DEBUG, *flags, "--use_cpu", "--output_dir", str(tmp_path / "killed")]
    command += ["--resume_from_checkpoint", "auto"]
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "checkpoint-40").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "summary.json").exists()
    resumed = run(command)
    assert resumed.returncode == 0, resumed.stderr
    for key in ("loss", "knowledge/seen/attribute_loss"):
        assert log_history(tmp_path / "killed", key) == log_history(tmp_path / "whole", key)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]


def test_two_ranks_train_the_same_run(tmp_path):
    """Ranks that each see the whole batch, the same half twice, or average their losses wrongly."""
    flags = ["--logging_steps", "1", "--output_dir"]
    one = run([*ONE, *DEBUG, *flags, str(tmp_path / "one")])
    two = run([*TWO, *DEBUG, *flags, str(tmp_path / "two")])
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    for key in ("loss", "knowledge/seen/attribute_loss", "knowledge/held_out/entropy"):
        ours, theirs = log_history(tmp_path / "one", key), log_history(tmp_path / "two", key)
        differences = [abs(ours[step] - theirs[step]) for step in ours]
        assert ours.keys() == theirs.keys()
        assert max(differences) < 1e-3 and np.mean(differences) < 2e-4
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")]
    assert summaries[0]["metrics"].keys() == summaries[1]["metrics"].keys()
    assert two.stdout.count("no-knowledge baseline") == one.stdout.count("no-knowledge baseline")
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["world_size"] == 2

    # A run begun on one rank goes on with two.
    (tmp_path / "one" / "summary.json").unlink()
    for step in (16, 24):
        (tmp_path / "one" / f"checkpoint-{step}" / "trainer_state.json").unlink()
    resumed = run([*TWO, *DEBUG, *flags, str(tmp_path / "one"), "--resume_from_checkpoint", "auto"])
    assert resumed.returncode == 0, resumed.stderr
    ours, theirs = log_history(tmp_path / "one"), log_history(tmp_path / "two")
    assert max(abs(ours[step] - theirs[step]) for step in theirs) < 1e-3


def test_bad_input_is_one_line_and_exit_code_two(tmp_path):
    """A traceback or a page of usage where one line would do; an exit code that scripts take for success."""
    result = run([sys.executable, *DEBUG, "--output_dir", str(tmp_path / "run"), "--sead", "3"])
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1] == "error: unknown argument --sead; did you mean '--seed'?"
    assert "Traceback" not in result.stderr


def test_two_ranks_agree_on_an_error(tmp_path):
    """A rank that waits for ever for one that found the folder taken."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    result = run([*TWO, *DEBUG, "--output_dir", str(tmp_path / "run")])
    assert result.returncode != 0
    assert result.stderr.count("error: ") == 1 and "thesis.tex" in result.stderr


def test_help():
    """Help that fails, or does not say how a config is given."""
    result = run([sys.executable, "recipes/pretrain.py", "--help"])
    assert result.returncode == 0
    assert "--config" in result.stdout and "accelerate launch" in result.stdout
