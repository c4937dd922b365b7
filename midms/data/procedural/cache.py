"""Disk cache of drawn scenes, so that a training draws each image only once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from midms.data.items import item_index
from midms.data.procedural.dataset import ProceduralImages, ProceduralPairs
from midms.schema import NonNegative

#: Tensors of an item that are stored: those in [-1, 1] in steps of 1 / 127.5, those in [0, 1] in steps of 1 / 255.
IMAGES, MAPS = ("image", "source", "exemplar"), ("condition", "exemplar_condition")


class ProceduralCache(Dataset[dict[str, Any]]):
    """A drawn data set whose items are drawn once and then read from disk, bit for bit as drawn.

    Items are drawn at their first use. The file's name depends on everything that determines its content: the data
    set's arguments (except its length) and the drawing code. Several trainings, stages and loader processes may share
    the file.

    Args:
        dataset: a `ProceduralImages`, or a `ProceduralPairs` without `truth`.
        folder: of the file; None: `drawn` in the cache folder (`MIDMS_CACHE`, else `~/.cache/midms`).
        max_gb: largest size of the file, in 10^9 bytes. Items beyond this size are drawn each time.
    Raises:
        ValueError: pairs with `truth`, whose correspondence is not stored.
    """

    def __init__(
        self, dataset: ProceduralImages | ProceduralPairs, folder: str | Path | None = None, max_gb: NonNegative = 4.0
    ) -> None:
        if getattr(dataset, "truth", False):
            raise ValueError("ProceduralCache: got pairs with truth, expected pairs without (truth is not stored)")
        self.dataset = dataset
        self.task, self.size = dataset.task, dataset.size  # a training records them with its weights
        example = dataset[0]
        self.shapes = {key: tuple(example[key].shape) for key in (*IMAGES, *MAPS) if key in example}
        self.item_bytes = sum(int(np.prod(shape)) for shape in self.shapes.values())
        self.stored = min(len(dataset), int(max_gb * 1e9) // self.item_bytes)
        home = Path(os.environ.get("MIDMS_CACHE", Path.home() / ".cache" / "midms")) / "drawn"
        self.path = (home if folder is None else Path(folder)) / f"{_key(dataset)}.bin"

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = item_index(index, len(self))
        if index >= self.stored:
            return self.dataset[index]
        done, data = self._open()
        if not done[index]:
            item = self.dataset[index]
            data[index] = _pack(item, self.shapes)
            done[index] = 1  # only after the bytes: another process may read in between
            return item
        return self._unpack(index, np.array(data[index]))

    def _unpack(self, index: int, values: NDArray[np.uint8]) -> dict[str, Any]:
        """The tensors of an item from its bytes, and the pair's name."""
        item: dict[str, Any] = {}
        for key, shape in self.shapes.items():
            part, values = values[: int(np.prod(shape))], values[int(np.prod(shape)) :]
            tensor = torch.from_numpy(part.reshape(shape)).float()
            item[key] = tensor / 255 if key in MAPS else tensor / 127.5 - 1
        name = getattr(self.dataset, "item_name", None)
        return item if name is None else item | {"name": name(index)}

    def _open(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(done, data): one byte per item that is 1 if the item is stored, and the items (stored, item_bytes)."""
        return _open(str(self.path), self.stored, self.item_bytes, os.getpid())

    def fill(self, processes: int | None = None, report: Callable[[int], None] | None = None) -> None:
        """Draw all missing items.

        Args:
            processes: number of drawing processes; None: one per core, 0: only this process.
            report: called from time to time with the number of stored items.
        """
        done, _ = self._open()
        missing = [int(index) for index in np.flatnonzero(done[: self.stored] == 0)]
        workers = (os.cpu_count() or 1) if processes is None else processes
        there = self.stored - len(missing)
        for drawn in DataLoader(Subset(self, missing), 64, num_workers=workers, collate_fn=len):
            there += int(drawn)
            if report is not None:
                report(there)


def _pack(item: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> NDArray[np.uint8]:
    def to_bytes(key: str, value: Tensor) -> NDArray[np.uint8]:
        scaled = value * 255 if key in MAPS else (value + 1) * 127.5
        return scaled.round().to(torch.uint8).flatten().numpy()

    return np.concatenate([to_bytes(key, item[key]) for key in shapes])


@lru_cache(maxsize=8)
def _open(path: str, items: int, item_bytes: int, process: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The file as two arrays, created if missing (sparse: its size on disk is that of the drawn items)."""
    file = Path(path)
    flags = file.with_suffix(".done")
    file.parent.mkdir(parents=True, exist_ok=True)
    for target, size in ((file, items * item_bytes), (flags, items)):
        with target.open("ab") as stream:  # appending truncates nothing that another process has written
            if stream.tell() < size:
                stream.truncate(size)
    done = np.memmap(flags, np.uint8, "r+", shape=(items,))
    return done, np.memmap(file, np.uint8, "r+", shape=(items, item_bytes))


def _key(dataset: ProceduralImages | ProceduralPairs) -> str:
    """Name of the file: task, size, split, and a digest of all arguments and of the drawing code."""
    # Keys stay in their order: that of the shares of exemplars decides which exemplar a random number means.
    told = {key: value for key, value in vars(dataset).items() if key not in ("module", "length")}
    told |= {"kind": type(dataset).__name__, "task": dataset.module.__name__}
    digest = hashlib.sha256(json.dumps(told, default=str).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if source.name != Path(__file__).name:
            digest.update(source.read_bytes())
    task = dataset.module.__name__.rpartition(".")[2]
    return f"{task}-{dataset.size}-{dataset.split}-{digest.hexdigest()[:16]}"
