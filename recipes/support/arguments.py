"""The settings that recipes share, with units and the paper's values."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments

from factdata.errors import InputError
from recipes.support.models import FAMILIES


@dataclass
class PopulationArguments:
    """Who exists, and what is said about them."""

    _argument_group_name = "population"

    facts: str | None = field(default=None, metadata={"help": "facts folder of your own; default: the paper's"})
    attributes: list[str] | None = field(default=None, metadata={"help": "keep only these attributes"})
    pool_sizes: dict | str | None = field(
        default=None, metadata={"help": 'first n values of a pool, as {"cities": 50}'}
    )
    num_templates: int | None = field(default=None, metadata={"help": "first n templates an attribute (paper: 25)"})
    population_seed: int = field(default=0, metadata={"help": "decides names, values and template splits"})
    seen_individuals: int = field(default=64_000, metadata={"help": "individuals trained on (paper: 4k to 256k)"})
    held_out_individuals: int = field(default=16_000, metadata={"help": "individuals never trained on (paper: 16k)"})
    new_individuals: int = field(default=0, metadata={"help": "a second population, for phases of cohort new"})

    def __post_init__(self):
        self.pool_sizes = parse_json("pool_sizes", self.pool_sizes, dict)


@dataclass
class ModelArguments:
    """The model: a family and its sizes, from scratch, or an existing model."""

    _argument_group_name = "model"

    model_name_or_path: str | None = field(default=None, metadata={"help": "start from this model, not from scratch"})
    model_family: str = field(default="gpt2", metadata={"help": " | ".join(FAMILIES), "choices": list(FAMILIES)})
    num_layers: int = field(default=8, metadata={"help": "layers (paper: 8)"})
    hidden_size: int = field(default=512, metadata={"help": "width (paper: 512)"})
    num_heads: int = field(default=8, metadata={"help": "attention heads (paper: 8 of 64)"})
    intermediate_size: int | None = field(default=None, metadata={"help": "MLP width; default 4 × width (paper: 2048)"})
    initializer_range: float | None = field(default=None, metadata={"help": "std of initial weights; default 1/√width"})
    attn_implementation: str | None = field(
        default=None,
        metadata={"help": "sdpa, eager, flash_attention_2 …; default: the library's"},
    )
    model_overrides: dict | str | None = field(default=None, metadata={"help": "further fields of the model config"})
    tokenizer_name_or_path: str | None = field(default=None, metadata={"help": "default: trained on the facts"})
    vocab_size: int = field(default=32_000, metadata={"help": "tokens of a new tokenizer and model (paper: 32k)"})
    row_length: int | None = field(default=None, metadata={"help": "tokens a row; default: the longest biography"})

    def __post_init__(self):
        self.model_overrides = parse_json("model_overrides", self.model_overrides, dict)


@dataclass
class RecipeTrainingArguments(TrainingArguments):
    """The Trainer's arguments with what the position-indexed stream needs, and no reporter, push or login."""

    _argument_group_name = "trainer (transformers.TrainingArguments)"

    output_dir: str = field(default="outputs/run", metadata={"help": "folder for all that the run makes"})
    max_steps: int = field(default=16_000, metadata={"help": "training steps (paper: 16k)"})
    learning_rate: float = field(default=4e-4, metadata={"help": "peak learning rate (paper: 4e-4)"})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "decay of the learning rate (paper: cosine)"})
    weight_decay: float = field(default=0.1, metadata={"help": "of AdamW (paper: 0.1)"})
    adam_beta2: float = field(default=0.95, metadata={"help": "of AdamW (paper: 0.95)"})
    cpu_threads: int | None = field(
        default=None, metadata={"help": "CPU threads a process; on CPU their number decides a run's last digits"}
    )
    per_device_train_batch_size: int | None = field(
        default=None, metadata={"help": "derived: global_batch_size / (ranks × gradient_accumulation_steps)"}
    )
    train_sampling_strategy: str = field(default="sequential", metadata={"help": "the stream is read in order"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "the stream hands out ready batches"})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "it would wait for the device every step"})
    report_to: list[str] | str | None = field(default="none", metadata={"help": "trackers, such as tensorboard"})

    def __post_init__(self):
        if self.train_sampling_strategy != "sequential" or self.remove_unused_columns:
            raise InputError(
                "the stream needs train_sampling_strategy sequential and remove_unused_columns false: its positions "
                "are training steps; leave both out"
            )
        spoilers = {
            "auto_find_batch_size": self.auto_find_batch_size,
            "ignore_data_skip": self.ignore_data_skip,
            "eval_strategy": getattr(self.eval_strategy, "value", self.eval_strategy) != "no",
            "accelerator_config": self.accelerator_config is not None,
        }
        for name in (name for name, used in spoilers.items() if used):
            raise InputError(f"{name} would change which examples a step holds, or how it is evaluated; leave it out")
        for name in ("max_steps", "cpu_threads"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: wanted 1 or more")
        # A launcher that starts several processes on a CPU does not tell them so; each would believe to be alone.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        super().__post_init__()
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.cpu_threads is not None:
            torch.set_num_threads(self.cpu_threads)


def keep_freed_memory() -> None:
    """Have glibc keep freed memory instead of giving it back to the kernel at every step.

    A training step on CPU frees and allocates the same few large buffers; fetching their pages anew each time was a
    quarter of the step (324 → 242 ms for the quick model on two cores). Does nothing on other C libraries.
    """
    m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def settle_batch(arguments: RecipeTrainingArguments, global_batch: int) -> None:
    """Share the global batch among ranks and accumulation steps; raises InputError where it does not divide."""
    if arguments.world_size != int(os.environ.get("WORLD_SIZE", 1)):
        raise InputError(
            f"the launcher started {os.environ['WORLD_SIZE']} processes, but each believes to be rank 0 "
            f"of {arguments.world_size}; on CPU use accelerate_configs/cpu_two_processes.yaml"
        )
    if arguments.n_gpu > 1:
        raise InputError(
            f"one process sees {arguments.n_gpu} GPUs; start one a GPU with accelerate launch --multi_gpu "
            f"--num_processes {arguments.n_gpu}, or set CUDA_VISIBLE_DEVICES=0"
        )
    ranks, accumulation = arguments.world_size, arguments.gradient_accumulation_steps
    share, rest = divmod(global_batch, ranks * accumulation)
    if rest or not share:
        raise InputError(
            f"global batch {global_batch} cannot be shared by {ranks} ranks × {accumulation} accumulation steps; set "
            f"--global_batch_size to a multiple of {ranks * accumulation} or change --gradient_accumulation_steps"
        )
    if arguments.per_device_train_batch_size not in (None, share):
        raise InputError(
            f"global batch {global_batch} is not {ranks} ranks × {arguments.per_device_train_batch_size} × "
            f"{accumulation}; set --per_device_train_batch_size {share}, or leave it out, or change "
            "--gradient_accumulation_steps"
        )
    arguments.per_device_train_batch_size = share
    arguments.dataloader_pin_memory = arguments.dataloader_pin_memory and arguments.device.type == "cuda"


def parse_json(name: str, value: Any, kind: type) -> Any:
    """A mapping or list from YAML as it is, from a command line as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise InputError(f'{name}: wanted JSON such as {{"key": 1}}, found {value!r}') from None
    if value is not None and not isinstance(value, kind):
        raise InputError(f"{name}: wanted a {'mapping' if kind is dict else kind.__name__}, found {value!r}")
    return value
