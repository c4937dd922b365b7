"""Prepared items: photo and condition maps of one image as one uncompressed array file.

Decoding a face and its masks takes tens of milliseconds, reading an array one. The array is uint8 (3 + L, n, n):
the photo (R, G, B) resized to the load size, then the condition maps at that size. Its size is n² (3 + L) bytes: 1.2
MB for a face at 256, 1.5 MB at 286. Crop, flip and exemplar are drawn after reading, so training is unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from midms.io.files import atomic_write, check_readable

_HEADER = 4096  # bytes, more than the header of an array file of three sizes takes


def cache_file(folder: Path, kind: str, load_size: int, name: str) -> Path:
    """Path of an image's item: ``folder/kind-size/name.npy``. Different names never share a file.

    Raises:
        ValueError: the name leads out of the folder.
    """
    if ".." in Path(name).parts:
        raise ValueError(f"image name {name!r}: a prepared item cannot lie outside {folder}")
    return folder / f"{kind}-{load_size}" / f"{name}.npy"


def read_or_make(
    folder: Path | None,
    kind: str,
    load_size: int,
    name: str,
    channels: int,
    make: Callable[[], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """The array of an image's item, from `folder`, or made now and stored there. None: no folder, always made now."""
    if folder is None:
        return make()
    file = cache_file(folder, kind, load_size, name)
    item = load_item(file, channels, load_size)
    if item is None:
        item = make()
        save_item(file, item)
    return item


def load_item(file: Path, channels: int, load_size: int) -> NDArray[np.uint8] | None:
    """The array of an item; None if the file is missing, incomplete or invalid: the caller then makes the item."""
    try:
        item = np.load(check_readable(file, max_bytes=channels * load_size**2 + _HEADER))
    except (ValueError, EOFError, OSError, MemoryError):
        return None
    return item if item.shape == (channels, load_size, load_size) and item.dtype == np.uint8 else None


def save_item(file: Path, item: NDArray[np.uint8]) -> None:
    """Write an item atomically: readers see the complete file or none."""
    with atomic_write(file) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(item))
