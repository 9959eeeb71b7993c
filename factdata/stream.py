"""The training stream: position → example, as a map-style dataset for any PyTorch DataLoader or Trainer."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from factdata.biographies import TokenizedBiographies
from factdata.schedules import Schedule


class BiographyStream(Dataset):
    """``render(schedule.draw(position))`` for every position of a training run.

    Read it in order (``train_sampling_strategy="sequential"``) with ``identity_collator``: a whole batch is drawn and
    rendered at once, into int64 tensors ``input_ids`` and ``labels`` of shape [batch, row length].
    """

    def __init__(self, schedule: Schedule, biographies: TokenizedBiographies):
        self.schedule = schedule
        self.biographies = biographies

    def __len__(self) -> int:
        return self.schedule.num_steps * self.schedule.global_batch

    def __getitems__(self, positions: list[int]) -> dict[str, torch.Tensor]:
        draws = self.schedule.draw(np.asarray(positions))
        batch = self.biographies.render(draws.individuals, draws.words)
        return {"input_ids": torch.from_numpy(batch.input_ids), "labels": torch.from_numpy(batch.labels)}

    def count_tokens(self, step: int) -> int:
        """Real tokens, without padding, in the global batch of one step."""
        first = step * self.schedule.global_batch
        positions = list(range(first, first + self.schedule.global_batch))
        return int((self.__getitems__(positions)["labels"] >= 0).sum())

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        return {name: column[0] for name, column in self.__getitems__([position]).items()}


def identity_collator(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The stream hands out ready batches; there is nothing left to collate."""
    return batch
