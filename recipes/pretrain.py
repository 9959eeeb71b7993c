"""Train a language model from scratch on synthetic biographies and watch it learn facts (paper Fig. 2, left).

    accelerate launch recipes/pretrain.py                                  # CPU demonstration, minutes
    accelerate launch recipes/pretrain.py --config recipes/configs/paper/uniform_64k.yaml          # one GPU
    accelerate launch --config_file accelerate_configs/multi_gpu.yaml recipes/pretrain.py \\
        --config recipes/configs/paper/uniform_64k.yaml                                            # many GPUs

Without --config it runs recipes/configs/quick.yaml. Later wins: defaults, YAML, command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from transformers import Trainer, set_seed
from transformers.utils.logging import disable_progress_bar

from callbacks.distribution_schedule import DistributionScheduleCallback, expected_exposures, report_exposures
from callbacks.history import HistoryCallback, read_history
from callbacks.knowledge import KnowledgeCallback, evaluation_steps
from callbacks.progress import use_knowledge_progress
from factdata.biographies import Biographies
from factdata.errors import InputError
from factdata.facts import Facts
from factdata.phases import build_phases
from factdata.population import Population, cohort_ranges, spread
from factdata.schedules import Schedule
from factdata.scoring import fact_batches
from factdata.stream import BiographyStream, identity_collator
from factdata.tokenization import load_tokenizer, tokenize_biographies, train_tokenizer
from recipes.support import run_folder, summaries
from recipes.support.arguments import (
    ModelArguments,
    PopulationArguments,
    RecipeTrainingArguments,
    parse_json,
    settle_batch,
)
from recipes.support.figures import plot_three_phases
from recipes.support.models import build_model
from recipes.support.parser import StrictParser, run

QUICK = Path(__file__).parent / "configs" / "quick.yaml"
SAMPLED_STEPS = 32  # steps looked at to tell the mean length of a biography


@dataclass
class PretrainArguments:
    """What this recipe adds: the global batch and how knowledge is evaluated."""

    _argument_group_name = "recipe"

    schedule: list[dict] | str | None = field(
        default=None, metadata={"help": "phases of distributions (factdata/phases.py); default: uniform throughout"}
    )
    global_batch_size: int = field(default=128, metadata={"help": "biographies a step, over all ranks (paper: 128)"})
    evaluate_every: int = field(default=250, metadata={"help": "steps between evaluations, denser at the beginning"})
    evaluated_individuals: int = field(default=1024, metadata={"help": "individuals of each group that are evaluated"})
    dry_run: bool = field(default=False, metadata={"help": "print config, model size and exposures, and stop"})

    def __post_init__(self):
        self.schedule = parse_json("schedule", self.schedule, list) or [{"distribution": "uniform"}]
        if any("until" in phase for phase in self.schedule[1:] if isinstance(phase, dict)):
            raise InputError("only the first phase may last until plateau_end: the plateau is that of its individuals")
        for name in ("global_batch_size", "evaluate_every", "evaluated_individuals"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: wanted 1 or more")


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the recipe; returns the content of summary.json, or of the dry run."""
    disable_progress_bar()  # the library's own, for every file it writes
    parser = StrictParser((PretrainArguments, PopulationArguments, ModelArguments, RecipeTrainingArguments), __doc__)
    recipe, people, model_args, training = parser.parse(arguments, default_config=QUICK)
    settle_batch(training, recipe.global_batch_size)
    folder = Path(training.output_dir)

    # Who exists, and who is drawn when.
    facts = Facts.load(people.facts, people.attributes, people.pool_sizes, people.num_templates)
    cohorts = cohort_ranges(facts, people.seen_individuals, people.held_out_individuals, people.new_individuals)

    def build_schedule(specs: list[dict]) -> Schedule:
        phases = build_phases(specs, cohorts, recipe.global_batch_size, training.max_steps)
        return Schedule(phases, training.max_steps, recipe.global_batch_size, training.seed)

    schedule = build_schedule(recipe.schedule)
    biographies = Biographies(Population(facts, people.population_seed))

    # One folder, one experiment; the first rank decides whether and from where it goes on.
    checkpoint = None
    if not recipe.dry_run:
        resume = training.resume_from_checkpoint
        checkpoint, finished = run_folder.on_first_rank(
            lambda: run_folder.choose_checkpoint(folder, parser.resolved, resume, schedule, build_schedule)
        )
        if finished and resume == "auto":
            return summaries.report(folder, training.process_index == 0)
    source = checkpoint or model_args.tokenizer_name_or_path or model_args.model_name_or_path
    tokenizer = load_tokenizer(source) if source else train_tokenizer(biographies, model_args.vocab_size)
    first_drawn = schedule.distribution_at(0).support
    stream = BiographyStream(schedule, tokenize_biographies(biographies, tokenizer, model_args.row_length))

    set_seed(training.seed)
    row_length = stream.biographies.row_length
    model = build_model(model_args, tokenizer, row_length, empty=recipe.dry_run)
    tokens = np.mean([stream.count_tokens(step) for step in range(min(SAMPLED_STEPS, training.max_steps))])
    plan = {
        "parameters": model.num_parameters(),
        "model_type": model.config.model_type,
        "seed": training.seed,
        "steps": training.max_steps,
        "global_batch_size": recipe.global_batch_size,
        "seen_individuals": people.seen_individuals,
        "held_out_individuals": people.held_out_individuals,
        "new_individuals": people.new_individuals,
        "exposures_per_individual": expected_exposures(schedule, cohorts["seen"]),
        "tokens_per_step": round(float(tokens)),
        "token_slots_per_step": recipe.global_batch_size * row_length,
        "baseline": facts.baseline(),
    }
    if training.process_index == 0:
        print(summaries.describe_plan(plan))
    if recipe.dry_run:
        print(yaml.safe_dump(parser.resolved, sort_keys=False, allow_unicode=True), end="")
        return plan
    needed = run_folder.checkpoint_bytes(plan["parameters"], training)
    run_folder.on_first_rank(lambda: run_folder.claim(folder, parser.resolved, training.world_size, needed))

    trainer = Trainer(model, training, identity_collator, stream, processing_class=tokenizer)
    shard = (training.process_index, training.world_size)

    def evaluated(cohort: range, part: str) -> list:
        individuals = spread(cohort, recipe.evaluated_individuals)
        batch_size = training.per_device_train_batch_size
        return fact_batches(stream.biographies, individuals, part, batch_size, people.population_seed, shard)

    groups = {name: evaluated(cohort, "evaluation") for name, cohort in cohorts.items() if cohort}
    groups["seen_train_templates"] = evaluated(cohorts["seen"], "train")
    plateau_group = "seen"
    if first_drawn != cohorts["seen"]:  # a warm-up: its plateau is that of the individuals it draws
        groups["first_phase"] = evaluated(first_drawn, "evaluation")
        plateau_group = "first_phase"
    at_steps = evaluation_steps(training.max_steps, recipe.evaluate_every)
    knowledge = KnowledgeCallback(trainer, groups, facts.attribute_names, facts.baseline(), at_steps, plateau_group)
    trainer.add_callback(HistoryCallback(folder / "history.jsonl", knowledge.plateau_key))
    trainer.add_callback(DistributionScheduleCallback(trainer, schedule, knowledge.plateau_key, facts.baseline()))
    trainer.add_callback(knowledge)
    use_knowledge_progress(trainer)

    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model(str(folder / "model"))
    if training.process_index == 0:
        (folder / "model" / "training_args.bin").unlink()  # a pickle; resolved_config.yaml says the same in words
        history = read_history(folder / "history.jsonl")
        summary = summaries.summarize_pretraining(plan, history, knowledge.detector)
        summary["schedule"] = report_exposures(schedule)
        plot_three_phases(history, summary, folder / "figure.png")
        run_folder.write_json(folder / run_folder.SUMMARY, summary)
    training.distributed_state.wait_for_everyone()
    return summaries.report(folder, training.process_index == 0)


if __name__ == "__main__":
    run(main)
