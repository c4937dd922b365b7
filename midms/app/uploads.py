"""Uploaded files: limited in bytes and pixels; error messages name the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from midms.conditions.make import ConditionSpec, make_condition
from midms.config import ConfigError
from midms.io.images import at_working_size, read_rgb
from midms.visualize import Pixels

MAX_BYTES = 20_000_000

Read = TypeVar("Read")


class UploadError(ConfigError):
    """An unusable file. The message is for the visitor."""


def read_upload(file: Path) -> Image.Image:
    """An uploaded picture, upright and RGB, transparent parts white.

    Raises:
        UploadError: the file is too large in bytes or pixels, of another format, broken, or empty.
    """
    picture = _read(file, read_rgb)
    if min(picture.size) < 2 or max(picture.size) > 100 * min(picture.size):
        raise UploadError(f"{file.name}: {picture.width} x {picture.height} pixels cannot be used as a picture")
    return picture


class ReadExemplar(NamedTuple):
    """An uploaded photo."""

    pixels: Pixels  # (H, W, 3), at its working size
    size: tuple[int, int]  # (width, height) of the file


def read_exemplar(file: Path, side: int) -> ReadExemplar:
    """An uploaded photo, at the working size of `midms translate`: `side` squared in pixels.

    Raises:
        UploadError: see `read_upload`.
    """
    picture = read_upload(file)
    return ReadExemplar(np.asarray(at_working_size(picture, side)), picture.size)


class ReadCondition(NamedTuple):
    """An uploaded condition; values are 0 to 255."""

    maps: NDArray[np.uint8]  # (L, H, W); (3, H, W) for weights whose condition is an image
    note: str  # note for the visitor, or empty
    photo: Pixels | None  # the photo behind the condition, (H, W, 3), after alignment if any


def read_condition(file: Path, spec: ConditionSpec, kind: str | None = None) -> ReadCondition:
    """Condition maps from any file that `midms.conditions` reads, including photos.

    Raises:
        UploadError: the file cannot be used for these weights.
    """
    built = _read(file, lambda path: make_condition(path, spec, kind))
    maps = (built.maps + 1) / 2 if spec.images else built.maps
    photo = None if built.photo is None else np.asarray(at_working_size(built.photo, spec.side))
    return ReadCondition((maps * 255).round().clamp(0, 255).to(torch.uint8).numpy(), built.note, photo)


def _read(file: Path, reader: Callable[[Path], Read]) -> Read:
    """Read a file that is not too large. Error messages contain its name instead of its path."""
    size = file.stat().st_size
    if size == 0:
        raise UploadError(f"{file.name}: the file is empty")
    if size > MAX_BYTES:
        raise UploadError(f"{file.name}: {size / 1e6:.1f} MB, at most {MAX_BYTES / 1e6:.0f} MB are accepted")
    try:
        return reader(file)
    except (ConfigError, ValueError) as error:
        raise UploadError(str(error).replace(str(file), file.name)) from None
