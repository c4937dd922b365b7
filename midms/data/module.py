"""Loaders for training and validation whose order survives a stop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class StepSampler(Sampler[Any]):
    """Shuffled indices for a fixed number of samples, epoch after epoch, that can start anywhere.

    The order is a function of `seed` alone; `start` skips what an earlier run has used, so that a resumed run sees
    just the batches that the uninterrupted one would have seen. Ranks take every `ranks`-th index.

    Args:
        draws: yield (index, epoch) instead of the index, for data sets that draw an item's views anew each time; then
            what is drawn, too, is a function of the place in the order.
    """

    def __init__(
        self,
        length: int,
        samples: int,
        seed: int = 0,
        start: int = 0,
        rank: int = 0,
        ranks: int = 1,
        draws: bool = False,
    ) -> None:
        if length < 1:
            raise ValueError("the training set is empty")
        self.length, self.samples, self.seed, self.start = length, samples, seed, start
        self.rank, self.ranks, self.draws = rank, ranks, draws

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[Any]:
        first, last = self.start * self.ranks, self.samples * self.ranks
        for epoch in range(first // self.length, -(-last // self.length)):
            order = torch.randperm(self.length, generator=torch.Generator().manual_seed(self.seed + epoch)).tolist()
            base = epoch * self.length
            for position in range(max(first, base), min(last, base + self.length)):
                if position % self.ranks == self.rank:
                    yield (order[position - base], epoch) if self.draws else order[position - base]


class ShardSampler(Sampler[int]):
    """Every `ranks`-th index from `rank` on, in order: what one rank validates. A rank is never left without any."""

    def __init__(self, length: int, rank: int = 0, ranks: int = 1) -> None:
        self.indices = range(length)[rank::ranks] or range(length)[-1:]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


class DataModule(pl.LightningDataModule):
    """Batches for a fixed number of steps.

    Args:
        train: training set.
        validation: validation set, read in order. None: no validation.
        batch_size: samples per step and rank.
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
        self.batches_seen = 0  # by each rank; `training.checkpoints` keeps it in step with the trainer

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches from where an earlier run stopped to the trainer's `max_steps`."""
        return self._loader(self.train, sampler=self._sampler(self.batches_seen))

    def _sampler(self, start: int, batches: int | None = None) -> StepSampler:
        """This rank's order from batch `start` on, for so many batches, by default to the trainer's last step."""
        assert self.trainer is not None
        stop = self.trainer.max_steps if batches is None else start + batches
        return StepSampler(
            length_of(self.train),
            stop * self.batch_size,
            self.seed,
            start * self.batch_size,
            self.trainer.global_rank,
            self.trainer.world_size,
            draws=getattr(self.train, "draws_views", False),
        )

    def advance(self) -> None:
        """A batch is used up."""
        self.batches_seen += 1

    def items_of(self, number: int, batch: dict[str, Any]) -> list[str]:
        """What this rank's batch of that number holds: the names in the batch, or else indices."""
        if "name" in batch:
            return [str(name) for name in batch["name"]]
        indices = [item[0] if isinstance(item, tuple) else item for item in self._sampler(number, 1)]
        names = getattr(self.train, "names", None)
        return [f"item {index}" if names is None else str(names[index]) for index in indices]

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """This rank's share of the validation set, in order."""
        if self.validation is None:
            return []
        assert self.trainer is not None
        shard = ShardSampler(length_of(self.validation), self.trainer.global_rank, self.trainer.world_size)
        return self._loader(self.validation, sampler=shard)

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


def length_of(dataset: Dataset[Any]) -> int:
    """Items of a data set; torch's own type promises no length."""
    sized: Any = dataset
    return len(sized)


def data_of(trainer: pl.Trainer) -> DataModule:
    """The data of a training: an attribute that Lightning's trainer has and its declared type lacks."""
    data: DataModule = vars(trainer)["datamodule"]
    return data
