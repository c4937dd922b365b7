"""Reading and writing files: errors that name the file, nothing that a broken file can slip past, whole files only."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from midms.io.images import LOSSY_FORMATS

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")


class BrokenFileError(ValueError):
    """A file of a data set is missing or cannot be used; `file` is its path."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file, self.reason = file, reason

    def __reduce__(self) -> tuple[type[BrokenFileError], tuple[Path, str]]:
        return type(self), (self.file, self.reason)


def open_image(file: Path) -> Image.Image:
    """An image, decoded to its last byte.

    Raises:
        BrokenFileError: no such file, 0 bytes, no image, or a truncated one.
    """
    try:
        with Image.open(file) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise BrokenFileError(file, "no such file") from None
    except Exception as error:  # Pillow's decoders raise half a dozen unrelated classes
        empty = file.is_file() and file.stat().st_size == 0
        reason = "0 bytes" if empty else f"cannot be decoded ({' '.join(str(error).split())})"
        raise BrokenFileError(file, reason) from None


def read_photo(file: Path, upright: bool = False) -> Image.Image:
    """A photo as RGB; `upright` turns it as its EXIF entry says (phones write such entries)."""
    image = open_image(file)
    return (ImageOps.exif_transpose(image) if upright else image).convert("RGB")


def read_mask(file: Path, size: int) -> NDArray[np.bool_]:
    """A binary mask, 0 or 255, sampled at the pixel centres of a size x size grid.

    Raises:
        BrokenFileError: also where the mask has values, but none above 127: a mask of 0 and 1 would read as empty.
    """
    pixels = _nearest(open_image(file), size, "L")
    mask = pixels > 127
    if pixels.any() and not mask.any():
        raise BrokenFileError(file, f"mask values reach {pixels.max()} only; expected 0 and 255")
    return mask


def read_labels(file: Path, size: int) -> NDArray[np.uint8]:
    """A map of class ids (8 bit, one channel, or palette indices) sampled at the pixel centres of a size x size grid.

    Raises:
        BrokenFileError: also where the file has colour channels, which hold no ids.
    """
    image = open_image(file)
    if image.format in LOSSY_FORMATS:
        raise BrokenFileError(file, "JPEG changes class ids between its pixels; save the map as PNG")
    if image.mode not in ("L", "P", "1"):
        raise BrokenFileError(file, f"mode {image.mode}; expected one channel of 8-bit class ids")
    return _nearest(image, size)


def _nearest(image: Image.Image, size: int, mode: str | None = None) -> NDArray[np.uint8]:
    """Source pixel floor((i + 0.5) S / size) for pixel i; sampled first and converted after, which is cheaper."""
    if image.mode == "P" and mode:
        image = image.convert(mode)
    image = image if image.size == (size, size) else image.resize((size, size), Image.Resampling.NEAREST)
    return np.array(image.convert(mode) if mode and image.mode != mode else image, np.uint8)


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """A path beside `file` to write to, moved onto `file` at the end and removed after an error.

    Readers, and a program that was stopped and started again, find all of the file or nothing.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".unfinished-", suffix=file.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(file: str | Path) -> Any:
    path = Path(file)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_not_json)
    except FileNotFoundError:
        raise BrokenFileError(path, "no such file") from None
    except (ValueError, RecursionError, OSError) as error:
        raise BrokenFileError(path, f"not readable as JSON ({error})") from None


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
