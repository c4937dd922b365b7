"""Loaders for training and validation whose order survives a stop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class StepSampler(Sampler[int]):
    """Shuffled indices for a fixed number of samples, epoch after epoch, that can start anywhere.

    The order is a function of `seed` alone; `start` skips what an earlier run has used, so that a resumed run sees
    just the batches that the uninterrupted one would have seen. Ranks take every `ranks`-th index.
    """

    def __init__(self, length: int, samples: int, seed: int = 0, start: int = 0, rank: int = 0, ranks: int = 1) -> None:
        if length < 1:
            raise ValueError("the training set is empty")
        self.length, self.samples, self.seed, self.start = length, samples, seed, start
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[int]:
        first, last = self.start * self.ranks, self.samples * self.ranks
        for epoch in range(first // self.length, -(-last // self.length)):
            order = torch.randperm(self.length, generator=torch.Generator().manual_seed(self.seed + epoch)).tolist()
            base = epoch * self.length
            for position in range(max(first, base), min(last, base + self.length)):
                if position % self.ranks == self.rank:
                    yield order[position - base]


class DataModule(pl.LightningDataModule):
    """Batches for a fixed number of steps.

    Args:
        train: training set.
        validation: validation set, read in order; none skips validation.
        batch_size: samples a step and rank.
        num_workers: loader processes; 0 loads in the training process.
        seed: of the training order.
    """

    def __init__(
        self,
        train: Dataset[Any],
        validation: Dataset[Any] | None = None,
        batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.train, self.validation = train, validation
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.batches_seen = 0  # by each rank; `training.callbacks` keeps it in step with the trainer

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches from where an earlier run stopped to the trainer's `max_steps`."""
        assert self.trainer is not None
        steps = self.trainer.max_steps * self.trainer.accumulate_grad_batches
        sampler = StepSampler(
            len(self.train),  # type: ignore[arg-type]
            steps * self.batch_size,
            self.seed,
            self.batches_seen * self.batch_size,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        return self._loader(self.train, sampler=sampler)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The validation set in order."""
        return [] if self.validation is None else self._loader(self.validation, shuffle=False)

    def _loader(self, dataset: Dataset[Any], **order: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **order,
        )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the data order."""
        return {"batches_seen": self.batches_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after the batches that a checkpoint had seen."""
        self.batches_seen = int(state_dict["batches_seen"])
