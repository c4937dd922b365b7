"""Apply a function to every photo of a folder in several processes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import DataLoader, Dataset

from midms.io.files import BrokenFileError
from midms.io.images import read_rgb
from midms.programs import say, warn
from midms.progress import track


class FunctionDataset(Dataset[tuple[str, Any]]):
    """Call a function for each name in loader processes. A broken file is returned as a result."""

    def __init__(self, names: Sequence[str], function: Callable[[str], Any]) -> None:
        self.names, self.function = names, function

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[str, Any]:
        name = self.names[index]
        try:
            return name, self.function(name)
        except BrokenFileError as error:
            return name, error


class ParallelRun:
    """Results of `function` over names, with a progress bar. Broken files are reported and counted."""

    def __init__(
        self, options: argparse.Namespace, text: str, word: str = "skipped ", workers: int | None = None
    ) -> None:
        self.workers, self.quiet = (options.workers or 0) if workers is None else workers, options.quiet
        self.text, self.word, self.broken = text, word, 0

    def __call__(self, names: Sequence[str], function: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
        loader = DataLoader(
            FunctionDataset(names, function), batch_size=None, num_workers=self.workers, collate_fn=_identity
        )
        for name, result in track(loader, self.text, len(names), self.quiet):
            if isinstance(result, BrokenFileError):
                self.broken += 1
                warn(f"{self.word}{result}")
            else:
                yield name, result

    def finish(self, out: Path, made: int, present: int) -> int:
        """Print a summary; 1 if a file was broken."""
        say(f"{out}: {made} made, {present} already there, {self.broken} skipped")
        return int(self.broken > 0)


def _identity(result: Any) -> Any:
    return result


def read_upright(root: Path, name: str) -> Image.Image:
    """A photo of a folder as RGB, turned as its orientation tag says."""
    return read_rgb(root / name)


def split_batches(results: Iterable[tuple[str, Any]], size: int) -> Iterator[list[tuple[str, Any]]]:
    """Results in lists of `size`, the last one shorter."""
    batch: list[tuple[str, Any]] = []
    for result in results:
        batch.append(result)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
