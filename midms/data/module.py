"""Loaders for training and validation whose order can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from annotated_types import Interval
from torch.utils.data import DataLoader, Dataset, Sampler

from midms.schema import Seed

BatchSize = Annotated[int, Interval(ge=1, le=65536)]
Workers = Annotated[int, Interval(ge=0, le=1024)]


class StepSampler(Sampler[Any]):
    """Shuffled indices for a fixed number of samples over several epochs, with any starting point.

    The order is a function of `seed` alone. `start` skips the samples of an earlier run: a resumed run sees the same
    samples as an uninterrupted run, for any batch size. Each rank takes every `ranks`-th index.

    Args:
        length: items of the data set.
        samples: number that this rank draws in the whole training, including those before `start`.
        start: number of samples that all ranks together drew in earlier runs.
        used: samples of this rank in earlier runs, counted at the current batch size; `samples` includes them.
        draws: yield (index, epoch) instead of the index, for data sets that draw an item's views anew each time. The
            views are then a function of the position in the order.
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
        used: int | None = None,
    ) -> None:
        if length < 1:
            raise ValueError("the training set is empty")
        self.length, self.samples, self.seed, self.start = length, samples, seed, start
        self.rank, self.ranks, self.draws = rank, ranks, draws
        self.used = start // ranks if used is None else used

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[Any]:
        first, last = self.start, self.start + max(self.samples - self.used, 0) * self.ranks
        for epoch in range(first // self.length, -(-last // self.length)):
            order = torch.randperm(self.length, generator=torch.Generator().manual_seed(self.seed + epoch)).tolist()
            base = epoch * self.length
            for position in range(max(first, base), min(last, base + self.length)):
                if (position - first) % self.ranks == self.rank:
                    yield (order[position - base], epoch) if self.draws else order[position - base]


class ShardSampler(Sampler[int]):
    """Every `ranks`-th index from `rank` on, in order: the validation items of one rank, at least one."""

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
        seed: seed of the training order.
    Raises:
        ValueError: a set is empty.
    """

    def __init__(
        self,
        train: Dataset[Any],
        validation: Dataset[Any] | None = None,
        batch_size: BatchSize = 8,
        num_workers: Workers = 0,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        for name, found in (("train", train), ("validation", validation)):
            if found is not None and length_of(found) < 1:
                raise ValueError(f"the {name.replace('train', 'training')} set is empty")
        self.train, self.validation = train, validation
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.batches_seen = 0  # by each rank; `training.checkpoints` keeps it in step with the trainer
        self.samples_seen = 0  # by all ranks together, in batches of any size

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches from the end of an earlier run to the trainer's `max_steps`."""
        assert self.trainer is not None
        return self._loader(self.train, sampler=self._sampler(self.trainer.max_steps * self.batch_size))

    def _sampler(self, samples: int) -> StepSampler:
        """This rank's order from the current position; `samples` counts those of the whole training."""
        assert self.trainer is not None
        return StepSampler(
            length_of(self.train),
            samples,
            self.seed,
            self.samples_seen,
            self.trainer.global_rank,
            self.trainer.world_size,
            draws=getattr(self.train, "draws_views", False),
            used=self.batches_seen * self.batch_size,
        )

    def advance(self) -> None:
        """Count a finished batch."""
        assert self.trainer is not None
        self.batches_seen += 1
        self.samples_seen += self.batch_size * self.trainer.world_size

    def items_of(self, batch: dict[str, Any]) -> list[str]:
        """Items of this rank's current batch: names if the batch has them, else indices."""
        if "name" in batch:
            return [str(name) for name in batch["name"]]
        order = self._sampler((self.batches_seen + 1) * self.batch_size)
        found = [item[0] if isinstance(item, tuple) else item for item in order]
        names = getattr(self.train, "names", None)
        return [f"item {index}" if names is None else str(names[index]) for index in found]

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
        """State of the data order for a checkpoint."""
        return {"batches_seen": self.batches_seen, "samples_seen": self.samples_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume after the samples of a checkpoint; older checkpoints count batches of the current size."""
        assert self.trainer is not None
        self.batches_seen = int(state_dict["batches_seen"])
        older = self.batches_seen * self.batch_size * self.trainer.world_size
        self.samples_seen = int(state_dict.get("samples_seen", older))


def length_of(dataset: Dataset[Any]) -> int:
    """Number of items of a data set, whose torch type declares no length."""
    sized: Any = dataset
    return len(sized)


def data_of(trainer: pl.Trainer) -> DataModule:
    """The trainer's data module, an attribute that Lightning does not declare in the trainer's type."""
    data: DataModule = vars(trainer)["datamodule"]
    return data
