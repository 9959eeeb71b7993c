"""The training stream: position → example, as a map-style dataset for any PyTorch DataLoader or Trainer.

``BiographyStream`` renders biographies; ``ScheduledDataset`` takes rows of anybody's dataset. Both read the same
schedules, and both must be read in order (``train_sampling_strategy="sequential"``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from factdata.biographies import TokenizedBiographies
from factdata.errors import InputError
from factdata.hashing import scale_to
from factdata.phases import build_phases
from factdata.schedules import Schedule

if TYPE_CHECKING:
    import datasets


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


class ScheduledDataset(Dataset):
    """Any ``datasets.Dataset``, its rows drawn by a schedule over the groups that a column names.

    The schedule's individuals are the groups (people, domains, sources) in the order of ``groups``; within a group
    every row is equally likely. Position p of the training set is a pure function of (seed, p), as in BiographyStream.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        group_column: str,
        schedule: Sequence[Mapping[str, Any]],
        num_steps: int,
        global_batch: int,
        groups: Sequence[Any] | None = None,
        seed: int = 0,
    ):
        """``schedule``: phases as in ``factdata.phases``. ``groups``: the column's values, by default sorted."""
        if group_column not in dataset.column_names:
            raise InputError(f"the dataset has no column {group_column!r}; it has {', '.join(dataset.column_names)}")
        found, group_of_row = np.unique(np.asarray(dataset[group_column]), return_inverse=True)
        self.groups = list(found.tolist() if groups is None else groups)
        if sorted(self.groups) != found.tolist():
            raise InputError(f"groups {self.groups} are not the values of {group_column!r}: {found.tolist()}")
        place = np.array([self.groups.index(value) for value in found.tolist()])[group_of_row]
        self._rows = np.argsort(place, kind="stable")  # row numbers, group by group
        self._counts = np.bincount(place, minlength=len(self.groups))
        self._starts = np.cumsum(self._counts) - self._counts
        self.dataset = dataset
        phases = build_phases(schedule, {"seen": range(len(self.groups))}, global_batch, num_steps)
        self.schedule = Schedule(phases, num_steps, global_batch, seed)

    def __len__(self) -> int:
        return self.schedule.num_steps * self.schedule.global_batch

    def row_numbers(self, positions: Sequence[int]) -> np.ndarray:
        """Which rows of the dataset stand at these positions, int64 [n]."""
        draws = self.schedule.draw(np.asarray(positions))
        return self._rows[self._starts[draws.individuals] + scale_to(draws.words, self._counts[draws.individuals])]

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        columns = self.dataset[self.row_numbers(positions)]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self.__getitems__([position])[0]

    def as_dataset(self) -> datasets.Dataset:
        """The same as a ``datasets.Dataset``, for trainers that take no other (trl's SFTTrainer)."""
        import datasets

        positions = datasets.Dataset.from_dict({"position": np.arange(len(self))})
        return positions.with_transform(lambda batch: self.dataset[self.row_numbers(batch["position"])])
