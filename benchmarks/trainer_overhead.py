"""Steps per second of the recipe's Trainer against a bare PyTorch loop on the same batches.

    python benchmarks/trainer_overhead.py

Both train the model of recipes/configs/quick.yaml, and a wider one, with the same optimizer, clipping and learning
rate schedule. Turns alternate, and the median step of all turns counts, so that a busy machine hits both alike. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, get_scheduler, set_seed

from factdata.biographies import Biographies
from factdata.distributions import Uniform
from factdata.facts import Facts
from factdata.population import Population
from factdata.schedules import Phase, Schedule
from factdata.stream import BiographyStream, identity_collator
from factdata.tokenization import tokenize_biographies, train_tokenizer
from recipes.support.arguments import ModelArguments, PopulationArguments, RecipeTrainingArguments, settle_batch
from recipes.support.models import build_model
from recipes.support.parser import StrictParser

QUICK = Path(__file__).parents[1] / "recipes" / "configs" / "quick.yaml"
WARM_UP = 5  # first steps of a turn, not counted


class StepClock(TrainerCallback):
    """When each step ended."""

    def __init__(self):
        self.ends: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(time.perf_counter())


def trainer_steps(model, arguments, stream, folder: str) -> list[float]:
    clock = StepClock()
    arguments.output_dir, arguments.max_steps, arguments.save_strategy = folder, stream.schedule.num_steps, "no"
    trainer = Trainer(model, arguments, identity_collator, stream, callbacks=[clock])
    trainer.train()
    return clock.ends


def bare_steps(model, arguments, stream) -> list[float]:
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=arguments.learning_rate,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
        weight_decay=arguments.weight_decay,
        fused=True,
    )
    rate = get_scheduler(arguments.lr_scheduler_type, optimizer, 0, stream.schedule.num_steps)
    model.train()
    ends = []
    for batch in DataLoader(stream, batch_size=stream.schedule.global_batch, collate_fn=identity_collator):
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        ends.append(time.perf_counter())
    return ends


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=30, help="steps of one turn")
    options.add_argument("--turns", type=int, default=3, help="turns of each")
    options = options.parse_args()
    transformers.logging.set_verbosity_error()
    result: dict = {"benchmark": "trainer_overhead"}
    for name, overrides in {"quick": [], "wide": ["--hidden_size", "256", "--num_heads", "8"]}.items():
        from recipes.pretrain import PretrainArguments

        parser = StrictParser((PretrainArguments, PopulationArguments, ModelArguments, RecipeTrainingArguments))
        flags = ["--use_cpu", "--disable_tqdm", "true", "--logging_steps", "10", *overrides]
        recipe, people, model_arguments, training = parser.parse(flags, default_config=QUICK)
        settle_batch(training, recipe.global_batch_size)
        facts = Facts.load(people.facts, people.attributes, people.pool_sizes, people.num_templates)
        biographies = Biographies(Population(facts, people.population_seed))
        tokenizer = train_tokenizer(biographies, model_arguments.vocab_size)
        rendered = tokenize_biographies(biographies, tokenizer)
        phases = [Phase(Uniform(people.seen_individuals))]
        stream = BiographyStream(Schedule(phases, options.steps, recipe.global_batch_size, training.seed), rendered)
        seconds: dict[str, list[float]] = {"trainer": [], "bare": []}
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(options.turns):
                for kind in seconds:
                    set_seed(training.seed)
                    model = build_model(model_arguments, tokenizer, rendered.row_length)
                    if kind == "trainer":
                        ends = trainer_steps(model, training, stream, folder)
                    else:
                        ends = bare_steps(model, training, stream)
                    seconds[kind] += np.diff(ends)[WARM_UP:].tolist()
        rates = {kind: 1 / float(np.median(values)) for kind, values in seconds.items()}
        print(f"{name}: Trainer {rates['trainer']:.2f} steps/s, bare loop {rates['bare']:.2f} steps/s")
        result[name] = {f"{kind}_steps_per_second": round(rate, 3) for kind, rate in rates.items()}
        result[name]["ratio"] = round(rates["trainer"] / rates["bare"], 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
