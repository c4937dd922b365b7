"""Read condition maps from .npy and .npz files, with their size checked before memory is allocated."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midms.io.files import check_readable
from midms.schema import ConfigError

MAP_SUFFIXES = (".npy", ".npz")
#: Files of more values are refused. The limit is about 151 classes at 512 x 512.
MAX_VALUES = 40_000_000


def read_maps(file: str | Path, channels: int | None = None) -> NDArray[Any]:
    """Condition maps (L, H, W) from a .npy file, or from the first array of a .npz file.

    Args:
        channels: the number L that the weights take. None: any number.
    Returns:
        uint8 unchanged, to be divided by 255. Any other type as float32 in [0, 1].
    Raises:
        ConfigError: the file is missing, too large or holds no array, or the array has another shape or range.
    """
    path = check_readable(file, "condition maps")
    try:
        array = _read_array(path)
    except ConfigError:
        raise
    except Exception:  # numpy and zipfile raise many classes on foreign bytes
        raise ConfigError(f"{path}: no array that can be read; expected .npy or .npz without objects") from None
    expected = "L" if channels is None else channels
    if array.ndim != 3 or min(array.shape) < 1 or (channels is not None and len(array) != channels):
        raise ConfigError(f"{path}: shape {array.shape}, expected ({expected}, H, W) for these weights")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "fbiu":
        raise ConfigError(f"{path}: values of type {array.dtype}, expected uint8, or numbers from 0 to 1")
    values = array.astype(np.float32)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise ConfigError(f"{path}: values from {values.min():.4g} to {values.max():.4g}, expected 0 to 1")
    return values


def _read_array(path: Path) -> NDArray[Any]:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            content = stream.read(8 * MAX_VALUES + 1024)
        return _read_npy(path, content)
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        if not members:
            raise ConfigError(f"{path}: an archive without an array")
        with archive.open(members[0]) as member:
            return _read_npy(path, member.read(8 * MAX_VALUES + 1024))


def _read_npy(path: Path, content: bytes) -> NDArray[Any]:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    values = int(np.prod(shape, dtype=np.float64))
    if values > MAX_VALUES or values * dtype.itemsize > len(content):
        raise ConfigError(f"{path}: claims an array of shape {shape}, which is not in it or too large")
    stream.seek(0)
    return np.load(stream, allow_pickle=False)
