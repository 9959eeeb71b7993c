"""Tokens per second of the training stream, beside the usual Hugging Face route, on the same population.

    python benchmarks/stream.py

Stream: draw, render and collate batches of 128 through a DataLoader in this process. Usual route: a Python
generator fills templates, ``Dataset.from_generator``, ``map`` a batched fast tokenizer padding to 512, batches of 128
through a DataLoader with ``DataCollatorForLanguageModeling``. Tokens are real ones, without padding; one thread each.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
from torch.utils.data import DataLoader

from factdata.biographies import Biographies
from factdata.distributions import InversePowerLaw, Uniform
from factdata.facts import Facts
from factdata.population import Population
from factdata.schedules import Phase, Schedule
from factdata.stream import BiographyStream, identity_collator
from factdata.tokenization import tokenize_biographies, train_tokenizer

BATCH, INDIVIDUALS = 128, 64_000
PAPER_ROW_LENGTH = 512  # paper §1.4


def time_stream(stream: BiographyStream) -> float:
    """Seconds of one pass."""
    loader = DataLoader(stream, batch_size=BATCH, collate_fn=identity_collator)
    began = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - began


def write_biographies(population: Population, individuals: np.ndarray):
    """Biographies one by one, as a generator of a dataset does it: template, name and value are put together."""
    attributes, rng = population.facts.attributes, random.Random(0)
    people = zip(population.names(individuals), *population.values(individuals).values(), strict=True)
    for name, *values in people:
        sentences = [
            rng.choice(attribute.templates).fill(name, value)
            for attribute, value in zip(attributes, values, strict=True)
        ]
        rng.shuffle(sentences)
        yield {"text": " ".join(sentences)}


def time_usual_route(population: Population, tokenizer, individuals: np.ndarray) -> tuple[int, float]:
    """Real tokens and seconds of one pass."""
    import datasets
    from transformers import DataCollatorForLanguageModeling

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        began = time.perf_counter()
        source = {"population": population, "individuals": individuals}
        data = datasets.Dataset.from_generator(write_biographies, cache_dir=cache, gen_kwargs=source)
        data = data.map(
            lambda rows: tokenizer(rows["text"], padding="max_length", max_length=PAPER_ROW_LENGTH, truncation=True),
            batched=True,
            remove_columns="text",
        )
        tokens, collator = 0, DataCollatorForLanguageModeling(tokenizer, mlm=False)
        for batch in DataLoader(data, batch_size=BATCH, collate_fn=collator):
            tokens += int(batch["attention_mask"].sum())
        return tokens, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="batches of 128 from the stream")
    parser.add_argument("--usual_steps", type=int, default=64, help="batches of 128 by the usual route")
    parser.add_argument("--repeats", type=int, default=5, help="passes over the stream; the median is reported")
    options = parser.parse_args()
    torch.set_num_threads(1)

    biographies = Biographies(Population(Facts.load(), seed=0))
    tokenizer = train_tokenizer(biographies, vocab_size=32_000)
    rendered = tokenize_biographies(biographies, tokenizer)
    stream = BiographyStream(Schedule([Phase(Uniform(INDIVIDUALS))], options.steps, BATCH, seed=0), rendered)

    tokens = sum(stream.count_tokens(step) for step in range(options.steps))
    rates = []
    for _ in range(options.repeats):
        seconds = time_stream(stream)
        rates.append(tokens / seconds)
        print(f"stream: {tokens:,} tokens in {seconds:.2f} s, {rates[-1] / 1e6:.1f}M tokens/s")
    individuals = stream.schedule.draw(np.arange(options.usual_steps * BATCH)).individuals
    tokenizer.pad_token = tokenizer.eos_token
    usual_tokens, usual_seconds = time_usual_route(biographies.population, tokenizer, individuals)
    print(f"usual route: {usual_tokens:,} tokens in {usual_seconds:.2f} s")
    row = tokens / options.steps / BATCH
    uniforms = np.random.default_rng(0).random((200, BATCH))
    power_law = InversePowerLaw(256_000, alpha=0.8)
    power_law.individuals(uniforms[0])
    began = time.perf_counter()
    for row_of_uniforms in uniforms:
        power_law.individuals(row_of_uniforms)
    sampling = (time.perf_counter() - began) / len(uniforms)
    result = {
        "benchmark": "stream",
        "sampling_128_of_256k_microseconds": round(1e6 * sampling, 1),
        "stream_tokens_per_second": round(float(np.median(rates))),
        "usual_tokens_per_second": round(usual_tokens / usual_seconds),
        "ratio": round(float(np.median(rates)) * usual_seconds / usual_tokens, 1),
        "tokens_per_biography": round(row, 1),
        "row_length": rendered.row_length,
        "filled_slots": round(row / rendered.row_length, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
