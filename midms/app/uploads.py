"""Files that visitors upload: bounded in bytes and pixels, and refused in words."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from midms.config import ConfigError
from midms.images import read_rgb
from midms.visualize import Pixels

MAX_BYTES = 20_000_000
MAX_MAP_VALUES = 40_000_000  # 151 labels at 512 x 512


class UploadError(ConfigError):
    """A file that cannot be used; the text is for the visitor."""


def read_upload(file: Path) -> Image.Image:
    """An uploaded picture, upright and RGB, transparent parts white.

    Raises:
        UploadError: too large in bytes or pixels, of another format, broken, empty.
    """
    _check_bytes(file)
    try:
        picture = read_rgb(file)
    except (ConfigError, ValueError) as error:
        raise UploadError(str(error).replace(str(file), file.name)) from None
    if min(picture.size) < 2 or max(picture.size) > 100 * min(picture.size):
        raise UploadError(f"{file.name}: {picture.width} x {picture.height} pixels is no picture to work with")
    return picture


def read_maps(file: Path, channels: int) -> NDArray[np.uint8]:
    """Ready condition maps, (L, H, W) in a .npy file, or the first array of a .npz file.

    Args:
        channels: the L that the weights take.
    Returns:
        (L, H, W) uint8; values in [0, 1] of another type are multiplied by 255 and rounded.
    Raises:
        UploadError: too large, broken, of another shape or range.
    """
    _check_bytes(file)
    try:
        array = _read_array(file)
    except UploadError:
        raise
    except Exception:  # numpy and zipfile raise many classes on foreign bytes
        raise UploadError(f"{file.name}: no array that can be read; expected .npy or .npz without objects") from None
    if array.ndim != 3 or array.shape[0] != channels or min(array.shape) < 1:
        raise UploadError(f"{file.name}: shape {array.shape}, expected ({channels}, H, W) for these weights")
    if array.dtype == np.uint8:
        return array.astype(np.uint8)
    if array.dtype.kind not in "fbiu":
        raise UploadError(f"{file.name}: values of type {array.dtype}, expected uint8, or numbers from 0 to 1")
    values = array.astype(np.float32)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise UploadError(f"{file.name}: values from {values.min():.4g} to {values.max():.4g}, expected 0 to 1")
    return np.round(values * 255).astype(np.uint8)


def square(picture: Image.Image, size: int, pad: bool = False) -> Pixels:
    """A picture as uint8 (size, size, 3): its middle, or with `pad` all of it on white."""
    if pad:
        fitted = ImageOps.pad(picture, (size, size), Image.Resampling.LANCZOS, color=(255, 255, 255))
    else:
        fitted = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(fitted)


def _check_bytes(file: Path) -> None:
    size = file.stat().st_size
    if size == 0:
        raise UploadError(f"{file.name}: the file is empty")
    if size > MAX_BYTES:
        raise UploadError(f"{file.name}: {size / 1e6:.1f} MB, at most {MAX_BYTES / 1e6:.0f} MB are taken")


def _read_array(file: Path) -> NDArray[np.generic]:
    """The array of a .npy file or the first of a .npz, its claimed size checked before memory is taken."""
    if not zipfile.is_zipfile(file):
        return _read_npy(file.name, file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        if not members:
            raise UploadError(f"{file.name}: an archive without an array")
        with archive.open(members[0]) as member:
            content = member.read(4 * MAX_MAP_VALUES + 1)
    if len(content) > 4 * MAX_MAP_VALUES:
        raise UploadError(f"{file.name}: more values than {MAX_MAP_VALUES // 1_000_000} million")
    return _read_npy(file.name, content)


def _read_npy(name: str, content: bytes) -> NDArray[np.generic]:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    values = int(np.prod(shape, dtype=np.float64))
    if values > MAX_MAP_VALUES or values * dtype.itemsize > len(content):
        raise UploadError(f"{name}: claims an array of shape {shape}, which is not in it or too large")
    stream.seek(0)
    return np.load(stream, allow_pickle=False)
