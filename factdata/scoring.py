"""Any causal LM → scores of the facts in rendered biographies. Needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from factdata.biographies import FIRST_VALUE, TokenizedBiographies
from factdata.errors import InputError
from factdata.hashing import derive_key
from factdata.metrics import FactScores


@dataclass(frozen=True)
class FactBatch:
    """Biographies of n individuals and where their values stand; tensors on one device."""

    input_ids: torch.Tensor  # int64 [n, L]
    predicts: torch.Tensor  # bool [n, L]: the next token is a value token
    targets: torch.Tensor  # int64 [t]: those next tokens, row by row
    fact: torch.Tensor  # int64 [t]: row × A + attribute of each
    first: torch.Tensor  # bool [t]: the token is its value's first
    num_facts: int  # n × A

    def to(self, device: torch.device | str) -> FactBatch:
        tensors = {
            name: getattr(self, name).to(device) for name in ("input_ids", "predicts", "targets", "fact", "first")
        }
        return FactBatch(**tensors, num_facts=self.num_facts)


def fact_batches(
    biographies: TokenizedBiographies,
    individuals: np.ndarray,
    part: str,
    batch_size: int,
    seed: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> list[FactBatch]:
    """One biography of each individual, with its 'train' or 'evaluation' templates; always the same ones.

    ``shard`` = (rank, world size) keeps one rank's batches, as many on every rank. Batches have at most
    ``batch_size`` individuals, or one more where that spares some rank an empty one.
    """
    rank, world_size = shard
    if len(individuals) < world_size:
        raise InputError(f"{len(individuals)} individuals to evaluate on {world_size} ranks: wanted at least one each")
    words = np.random.Philox(key=int(derive_key(seed, f"scoring with {part} templates"))).random_raw(len(individuals))
    batches_per_rank = min(-(-len(individuals) // (world_size * batch_size)), len(individuals) // world_size)
    parts = np.array_split(np.arange(len(individuals)), world_size * batches_per_rank)
    batches = []
    for rows in parts[rank::world_size]:
        batch = biographies.render(individuals[rows], words[rows], part, with_roles=True)
        batches.append(_locate_values(batch.input_ids, batch.roles, len(biographies.biographies.facts.attributes)))
    return batches


def _locate_values(input_ids: np.ndarray, roles: np.ndarray, num_attributes: int) -> FactBatch:
    value = roles[:, 1:] >= FIRST_VALUE
    first = value & (roles[:, 1:] != roles[:, :-1])
    rows, columns = np.nonzero(value)
    predicts = np.zeros(roles.shape, dtype=bool)
    predicts[:, :-1] = value
    return FactBatch(
        input_ids=torch.from_numpy(input_ids),
        predicts=torch.from_numpy(predicts),
        targets=torch.from_numpy(input_ids[:, 1:][value]),
        fact=torch.from_numpy(rows * num_attributes + roles[rows, columns + 1] - FIRST_VALUE),
        first=torch.from_numpy(first[value]),
        num_facts=len(roles) * num_attributes,
    )


@contextmanager
def logits_only_at(model: torch.nn.Module, positions: torch.Tensor) -> Iterator[None]:
    """Inside, the model's output layer sees only the hidden states at ``positions``, bool [n, L].

    The layer is most of a small model's work, and few positions predict a value. Whatever a family does to its logits
    afterwards (a soft cap, say) still happens. The model's logits come out as [1, t, vocabulary].
    """
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0][positions][None],))
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def score_batch(model: torch.nn.Module, batch: FactBatch) -> torch.Tensor:
    """Loss, correctness, max-probability and entropy of each fact: float32 [4, num_facts] (see FactScores)."""
    with logits_only_at(model, batch.predicts):
        logits = model(input_ids=batch.input_ids, use_cache=False).logits[0].float()
    log_probabilities = logits.log_softmax(dim=-1)
    at_target = log_probabilities.gather(1, batch.targets[:, None])[:, 0]
    wrong = (logits.argmax(dim=-1) != batch.targets).float()
    scores = torch.zeros(4, batch.num_facts, device=logits.device)
    scores[0].index_add_(0, batch.fact, -at_target)
    scores[1].index_add_(0, batch.fact, wrong)
    scores[1] = (scores[1] == 0).float()
    at_first = log_probabilities[batch.first]
    scores[2, batch.fact[batch.first]] = at_first.max(dim=-1).values.exp()
    scores[3, batch.fact[batch.first]] = -(at_first.exp() * at_first).nan_to_num().sum(dim=-1)
    return scores


def score_facts(model: torch.nn.Module, batches: list[FactBatch], num_attributes: int) -> FactScores:
    """Score rendered biographies; the model is put in evaluation mode meanwhile. One transfer to the CPU at the end."""
    was_training = model.training
    model.eval()
    try:
        scores = torch.cat([score_batch(model, batch) for batch in batches], dim=1)
    finally:
        model.train(was_training)
    return FactScores(*(part.reshape(-1, num_attributes) for part in scores.cpu().numpy()))
