"""recipes/pretrain.py end to end on a one-layer model, in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from callbacks.history import read_history
from factdata.errors import InputError
from recipes.pretrain import main
from recipes.support.arguments import settle_batch

DEBUG = str(Path(__file__).parents[1] / "recipes" / "configs" / "debug.yaml")


def pretrain(folder: Path, *flags: str) -> dict:
    arguments = ["--config", DEBUG, "--output_dir", str(folder), "--use_cpu", "--disable_tqdm", "true"]
    return main([*arguments, *flags])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished debug run, every step logged."""
    folder = tmp_path_factory.mktemp("runs") / "debug"
    summary = pretrain(folder, "--logging_steps", "1")
    return folder, summary


def step_losses(folder: Path, last: int = 24) -> dict[int, float]:
    state = json.loads((folder / f"checkpoint-{last}" / "trainer_state.json").read_text())
    return {row["step"]: row["loss"] for row in state["log_history"] if "loss" in row}


def test_artefacts(finished):
    """A promised file that is missing, or a number that is."""
    folder, summary = finished
    for name in ("history.jsonl", "summary.json", "resolved_config.yaml", "environment.json", "figure.png"):
        assert (folder / name).stat().st_size > 100, name
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert set(summary["metrics"]) == {"seen", "seen_train_templates", "held_out"}
    for metrics in summary["metrics"].values():
        assert {"attribute_loss", "attribute_accuracy", "max_probability", "entropy"} <= set(metrics)
        by_attribute = [metrics[f"attribute_loss/{attribute}"] for attribute in ("birth_date", "birth_city")]
        assert np.isclose(metrics["attribute_loss"], np.mean(by_attribute))
    for key in ("plateau_start", "plateau_end", "wall_seconds", "tokens_per_second", "evaluation_share", "parameters"):
        assert key in summary
    assert summary["baseline"] == pytest.approx((np.log(5 * 3 * 4) + np.log(10)) / 2)
    assert summary["exposures_per_individual"] == 24 * 16 / 64
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert str(Path.home()) not in (folder / "environment.json").read_text()


def test_evaluations_happen_at_their_steps(finished):
    """A missed first or last evaluation, or one that comes twice."""
    assert [row["step"] for row in read_history(finished[0] / "history.jsonl")] == [0, 1, 2, 4, 8, 16, 24]


def test_model_and_tokenizer_load_without_this_package(finished):
    """A saved model that needs our code, or whose tokenizer differs from the one trained with."""
    folder, _ = finished
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    assert model.get_input_embeddings().num_embeddings >= len(tokenizer)
    text = "The birthplace of Ana is Tokyo."
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert {path.suffix for path in (folder / "model").iterdir()} == {".json", ".safetensors"}


def test_learns(finished):
    """A training loop that runs and changes nothing."""
    losses = step_losses(finished[0])
    assert len(losses) == 24
    assert losses[24] < losses[1] - 1


def test_same_command_gives_the_same_run(finished, tmp_path):
    """Unseeded randomness: a second run with other numbers."""
    pretrain(tmp_path / "again", "--logging_steps", "1")
    assert step_losses(tmp_path / "again") == step_losses(finished[0])


def test_accumulation_is_the_same_run(finished, tmp_path):
    """Accumulated gradients weighted differently from those of one large batch."""
    pretrain(tmp_path / "run", "--logging_steps", "1", "--gradient_accumulation_steps", "4")
    ours, theirs = step_losses(tmp_path / "run"), step_losses(finished[0])
    differences = [abs(ours[step] - theirs[step]) for step in theirs]
    assert max(differences) < 1e-3 and np.mean(differences) < 1e-4


def test_resume_is_bit_identical(finished, tmp_path):
    """A resumed run that sees other individuals, loses optimizer state, or evaluates twice."""
    folder = tmp_path / "resumed"
    shutil.copytree(finished[0], folder)
    for lost in ("checkpoint-16", "checkpoint-24", "model"):
        shutil.rmtree(folder / lost)
    (folder / "summary.json").unlink()  # history.jsonl still holds rows of the steps that were lost
    pretrain(folder, "--logging_steps", "1", "--resume_from_checkpoint", "auto")
    assert step_losses(folder) == step_losses(finished[0])
    weights = [AutoModelForCausalLM.from_pretrained(f / "model").state_dict() for f in (folder, finished[0])]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    times = ("seconds", "evaluation_seconds")
    rows = [
        [{k: v for k, v in row.items() if k not in times} for row in read_history(f / "history.jsonl")]
        for f in (folder, finished[0])
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("damage", ["truncated optimizer", "no trainer state", "truncated weights"])
def test_corrupt_checkpoint_falls_back(finished, tmp_path, capsys, damage):
    """A half-written last checkpoint that ends the run instead of costing a few steps."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    (folder / "summary.json").unlink()
    last = folder / "checkpoint-24"
    if damage == "no trainer state":
        (last / "trainer_state.json").unlink()
    else:
        path = last / ("optimizer.pt" if "optimizer" in damage else "model.safetensors")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    pretrain(folder, "--resume_from_checkpoint", "auto", "--logging_steps", "1")
    assert "checkpoint-24 is not whole" in capsys.readouterr().err
    assert step_losses(folder) == step_losses(finished[0])


def test_finished_run_is_reported_not_repeated(finished, capsys):
    """A second run in the same folder that trains again, or overwrites the first."""
    folder, summary = finished
    before = (folder / "history.jsonl").stat().st_mtime_ns
    assert pretrain(folder, "--logging_steps", "1", "--resume_from_checkpoint", "auto") == summary
    assert (folder / "history.jsonl").stat().st_mtime_ns == before
    assert "no-knowledge baseline" in capsys.readouterr().out


def test_token_is_never_written(tmp_path, capsys):
    """A secret of the command line that ends up in a config, which people commit."""
    pretrain(tmp_path / "run", "--hub_token", "hf_secret", "--max_steps", "2", "--evaluate_every", "2")
    pretrain(tmp_path / "dry", "--hub_token", "hf_secret", "--dry_run")
    written = [path for path in (tmp_path / "run").rglob("*") if path.suffix in (".json", ".jsonl", ".yaml")]
    assert len(written) > 4
    assert not any("hf_secret" in path.read_text() for path in written)
    assert "hf_secret" not in "".join(capsys.readouterr())


def test_dry_run_writes_nothing(tmp_path, capsys):
    """A dry run that claims its folder."""
    plan = pretrain(tmp_path / "run", "--dry_run")
    printed = capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    assert f"{plan['parameters']:,} parameters" in printed
    assert "6.0 exposures each" in printed
    assert yaml.safe_load(printed.split("\n", 2)[2])["seen_individuals"] == 64


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seen_individuals", "2000"], "allow 1,728 full names"),
        (["--held_out_individuals", "-1"], "-1 held_out individuals"),
        (["--global_batch_size", "15", "--gradient_accumulation_steps", "2"], "cannot be shared by 1 ranks × 2"),
        (["--per_device_train_batch_size", "8"], "global batch 16 is not 1 ranks × 8"),
        (["--global_batch_size", "0"], "global_batch_size 0"),
        (["--max_steps", "0"], "max_steps 0"),
        (["--attributes", "birth_citty"], "did you mean 'birth_city'"),
        (["--tokenizer_name_or_path", "no/such/tokenizer"], "no tokenizer at no/such/tokenizer"),
        (["--model_name_or_path", "no/such/model"], "no/such/model"),
        (["--hidden_size", "33"], "hidden_size 33 is not divisible by 2 heads"),
        (["--model_overrides", '{"no_such_field": 1}'], "no config field 'no_such_field'"),
        (["--model_overrides", "n_layer"], "wanted JSON"),
        (["--row_length", "8"], "row_length 8 is shorter than the longest biography"),
        (["--vocab_size", "100"], "vocab_size 100 is below"),
        (["--train_sampling_strategy", "random"], "sequential"),
        (["--facts", "no/such/folder"], "no attributes.yaml"),
        (["--resume_from_checkpoint", "no/such/checkpoint"], "no such folder"),
        (["--save_strategy", "sometimes"], "sometimes"),
        (["--evaluated_individuals", "0"], "evaluated_individuals 0"),
        (["--auto_find_batch_size", "true"], "auto_find_batch_size would change"),
        (["--ignore_data_skip", "true"], "ignore_data_skip would change"),
        (["--eval_strategy", "steps"], "eval_strategy would change"),
        (["--schedule", '[{"distribution": "unifrom"}]'], "phase 1: unknown distribution 'unifrom'; did you mean"),
        (["--schedule", '{"distribution": "uniform"}'], "schedule: wanted a list"),
        (
            ["--schedule", '[{"distribution": "uniform", "steps": 9}, {"distribution": "uniform", "until": "x"}]'],
            "only the first phase may last until plateau_end",
        ),
    ],
)
def test_bad_input(tmp_path, flags, message):
    """Bad input that is accepted, raises something else, or leaves a half-made folder behind."""
    with pytest.raises(InputError) as error:
        pretrain(tmp_path / "run", *flags)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_folder_of_another_experiment_is_left_alone(finished, tmp_path):
    """An old run resumed by accident with other settings, or mixed with strangers' files."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    for flags in (["--learning_rate", "1e-3"], ["--learning_rate", "1e-3", "--resume_from_checkpoint", "auto"]):
        with pytest.raises(InputError, match=r"another experiment \(learning_rate 0.004 there, 0.001 here\)"):
            pretrain(folder, *flags)
    with pytest.raises(InputError, match="holds a finished run; pass --resume_from_checkpoint auto"):
        pretrain(folder)
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        pretrain(stranger)
    assert [path.name for path in stranger.iterdir()] == ["thesis.tex"]


def test_schedule_may_change_only_ahead(finished, tmp_path):
    """A run resumed on a schedule that rewrites what it has already seen, or refused one that changes the future."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    for step in (16, 24):
        shutil.rmtree(folder / f"checkpoint-{step}")
    few = {"distribution": "uniform", "individuals": 8}
    resume = ["--resume_from_checkpoint", "auto", "--schedule"]

    def switch_at(step: int) -> str:
        return json.dumps([{"distribution": "uniform", "steps": step}, few])

    with pytest.raises(InputError, match="trained for 24 steps on a schedule that differs from this one at step 12"):
        pretrain(folder, *resume, switch_at(12))  # the run is finished
    (folder / "summary.json").unlink()
    with pytest.raises(InputError, match="trained for 8 steps on a schedule that differs from this one at step 7"):
        pretrain(folder, *resume, switch_at(7))
    summary = pretrain(folder, *resume, switch_at(8), "--logging_steps", "1")
    assert [phase["individuals"] for phase in summary["schedule"]] == [64, 8]
    ours, theirs = step_losses(folder), step_losses(finished[0])
    assert [ours[step] == theirs[step] for step in (8, 9, 24)] == [True, False, False]
    assert pretrain(folder, *resume, switch_at(8)) == summary  # the schedule came as JSON, and is kept as YAML


def test_checkpoint_of_another_experiment_is_refused(finished, tmp_path):
    """Old optimizer state and half of another stream in a new folder."""
    checkpoint = str(finished[0] / "checkpoint-8")
    with pytest.raises(InputError, match=r"belongs to another experiment \(seed 0 there, 7 here\)"):
        pretrain(tmp_path / "run", "--seed", "7", "--resume_from_checkpoint", checkpoint)
    flags = ["--logging_steps", "1", "--resume_from_checkpoint", checkpoint]
    pretrain(tmp_path / "run", *flags)  # the same experiment may go on elsewhere
    assert step_losses(tmp_path / "run") == step_losses(finished[0])


def test_unwritable_folder(tmp_path):
    """A traceback where the output directory cannot be made."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to the output directory"):
        pretrain(tmp_path / "file" / "run")


def test_synthetic_first(tmp_path):
    """A second population that is never drawn or evaluated; a figure that needs a held-out cohort."""
    schedule = '[{"distribution": "uniform", "cohort": "new", "steps": 10}, {"distribution": "uniform"}]'
    flags = ["--schedule", schedule, "--new_individuals", "8", "--held_out_individuals", "0"]
    summary = pretrain(tmp_path / "run", *flags)
    assert set(summary["metrics"]) == {"seen", "seen_train_templates", "new", "first_phase"}
    assert summary["metrics"]["new"] == summary["metrics"]["first_phase"]
    assert [(phase["begin"], phase["end"], phase["individuals"]) for phase in summary["schedule"]] == [
        (0, 10, 8),
        (10, 24, 64),
    ]
    assert summary["schedule"][0]["actual_exposures"] == 10 * 16 / 8


@pytest.mark.parametrize("family", ["gpt_neox", "arcee", "llama", "recurrent_gemma"])
def test_every_family_trains_and_resumes_its_own_model(tmp_path, family):
    """A family whose config fields are misnamed, or whose saved model cannot be gone on with."""
    flags = ["--max_steps", "2", "--evaluate_every", "2", "--save_strategy", "no", "--attn_implementation", "eager"]
    first = pretrain(tmp_path / "first", "--model_family", family, *flags)
    assert first["model_type"] == family
    model = str(tmp_path / "first" / "model")
    second = pretrain(tmp_path / "second", "--model_name_or_path", model, *flags)
    loss = first["metrics"]["seen"]["attribute_loss"]
    assert read_history(tmp_path / "second" / "history.jsonl")[0]["knowledge/seen/attribute_loss"] == pytest.approx(
        loss
    )
    assert second["parameters"] == first["parameters"]


@pytest.mark.parametrize(
    ("world_size", "gpus", "message"),
    [(1, 0, "each believes to be rank 0 of 1"), (2, 4, "one process sees 4 GPUs")],
)
def test_wrong_launches_are_refused(monkeypatch, world_size, gpus, message):
    """Processes that do not know of each other, or GPUs that one process would share without being asked."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=message):
        settle_batch(SimpleNamespace(world_size=world_size, n_gpu=gpus), 128)


def test_full_disk_is_noticed_before_training(tmp_path, monkeypatch):
    """A run that trains for hours and then cannot save."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 0))
    with pytest.raises(InputError, match="lower --save_total_limit"):
        pretrain(tmp_path / "run")
    assert not (tmp_path / "run").exists()
