"""Rows of numbers, one per image, computed in any order by any number of processes and stored on disk.

All metrics are computed from such rows (features, patches, distances). They therefore need constant memory, can be
resumed, and give the same result for any batch size and number of ranks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from midms.metrics.swd import PATCH_SIZE, PATCHES_PER_IMAGE
from midms.progress import Progress

_BLOCK_ROWS = 256
_SMALLEST_DEVIATION = 1e-4  # grey levels; less than the effect of one pixel of 10,000 images that differs by one


def rank_and_world() -> tuple[int, int]:
    """Rank of this process and number of ranks; (0, 1) without `torch.distributed`."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def barrier() -> None:
    """Wait for all ranks."""
    if rank_and_world()[1] > 1:
        torch.distributed.barrier()


class RowStore:
    """`count` rows of `width` float32 numbers in a file, and a second file that marks the computed rows.

    Args:
        folder: of the files, shared by all ranks.
        key: everything on which the rows depend; each key has its own file.
        count, width: shape.
    """

    def __init__(self, folder: Path, key: str, count: int, width: int) -> None:
        self.count, self.width = count, width
        stem = hashlib.sha256(f"{key}|{count}|{width}".encode()).hexdigest()[:32]
        self._rows, self._done = folder / f"{stem}.rows", folder / f"{stem}.done"
        if rank_and_world()[0] == 0:
            folder.mkdir(parents=True, exist_ok=True)
            for path, size in ((self._rows, count * width * 4), (self._done, count)):
                if not path.is_file() or path.stat().st_size != size:
                    with path.open("wb") as handle:
                        handle.truncate(size)
        barrier()

    def pending(self) -> list[int]:
        """Missing rows that this rank computes."""
        rank, world = rank_and_world()
        done = np.fromfile(self._done, dtype=np.uint8)
        return [index for index in range(rank, self.count, world) if not done[index]]

    def write(self, indices: Sequence[int], rows: np.ndarray) -> None:
        """Store rows (len(indices), width); a row is marked as done only after its numbers are written."""
        if rows.shape != (len(indices), self.width):
            raise ValueError(f"RowStore: expected rows {(len(indices), self.width)}, got {rows.shape}")
        values = np.ascontiguousarray(rows, dtype=np.float32)
        with self._rows.open("r+b") as handle, self._done.open("r+b") as marks:
            for index, row in zip(indices, values, strict=True):
                os.pwrite(handle.fileno(), row.tobytes(), index * self.width * 4)
            for index in indices:
                os.pwrite(marks.fileno(), b"\x01", index)

    def blocks(self, rows: int = _BLOCK_ROWS) -> Iterator[np.ndarray]:
        """All rows in order, (n, width) at a time.

        Raises:
            RuntimeError: some rows were never computed.
        """
        missing = int((np.fromfile(self._done, dtype=np.uint8) == 0).sum())
        if missing:
            raise RuntimeError(f"{missing} of {self.count} rows were never computed")
        for start in range(0, self.count, rows):
            count = min(rows, self.count - start)
            flat = np.fromfile(self._rows, np.float32, count * self.width, offset=start * self.width * 4)
            yield flat.reshape(count, self.width)

    def read(self) -> np.ndarray:
        """All rows at once, (count, width)."""
        return np.concatenate(list(self.blocks()))


class _Indexed(Dataset[tuple[int, Any]]):
    """A data set that also returns the index of each sample."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index]


def fill(
    stores: Sequence[RowStore],
    dataset: Any,
    function: Callable[[Any, list[int]], Sequence[Tensor]],
    batch_size: int,
    label: str,
    progress: bool = False,
) -> None:
    """Compute the missing rows of several stores together, one row of each per sample.

    Args:
        stores: one per tensor that `function` returns.
        dataset: samples by index; batches are made by the default collation.
        function: (batch, indices of its samples) -> one (B, width) per store.
        label: of the progress bar.
        progress: show a bar (first rank only).
    """
    pending = sorted({index for store in stores for index in store.pending()})
    loader: DataLoader[Any] = DataLoader(Subset(_Indexed(dataset), pending), batch_size=batch_size)
    hidden = not progress or rank_and_world()[0] > 0
    with Progress(label, len(pending), hidden) as bar, torch.inference_mode():
        for index_batch, batch in loader:
            indices = index_batch.tolist()
            for store, rows in zip(stores, function(batch, indices), strict=True):
                store.write(indices, rows.float().cpu().numpy())
            bar.update(len(indices))
    barrier()


class StoredPatches:
    """Patches of one pyramid level on disk, normalised on reading; for `swd.sliced_distance`.

    Args:
        store: a row per image: its 128 patches (C, 7, 7), flat.
        channels: C.
    """

    def __init__(self, store: RowStore, channels: int = 3) -> None:
        self.store, self.channels = store, channels
        self.shape = (store.count * PATCHES_PER_IMAGE, channels, PATCH_SIZE, PATCH_SIZE)
        total, squares, per_channel = np.zeros(channels), np.zeros(channels), 0
        for block in self._blocks(_BLOCK_ROWS):
            values = block.astype(np.float64)
            total += values.sum(axis=(0, 2, 3))
            squares += np.square(values).sum(axis=(0, 2, 3))
            per_channel += values.size // channels
        self.mean = total / per_channel
        self.deviation = np.sqrt(np.maximum(squares / per_channel - self.mean**2, 0))

    @property
    def varies(self) -> bool:
        """Whether the standard deviation of every colour is above the rounding error of its computation."""
        return bool((self.deviation > _SMALLEST_DEVIATION).all())

    def _blocks(self, images: int) -> Iterator[np.ndarray]:
        for block in self.store.blocks(images):
            yield block.reshape(-1, self.channels, PATCH_SIZE, PATCH_SIZE)

    def split(self, rows: int) -> Iterator[Tensor]:
        """Normalised patches in blocks of about `rows`, (m, C, 7, 7) each."""
        mean, deviation = (x.astype(np.float32).reshape(1, -1, 1, 1) for x in (self.mean, self.deviation))
        for block in self._blocks(max(1, rows // PATCHES_PER_IMAGE)):
            yield torch.from_numpy((block - mean) / deviation)
