"""Resize, crop and flip: the same for a photo and its condition maps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


class View(NamedTuple):
    """A window of `size` pixels per side at (x, y) of the loaded square, mirrored if `flip`."""

    x: int
    y: int
    flip: bool
    size: int


def draw_view(rng: np.random.Generator, load_size: int, size: int) -> View:
    """A random view: x, then y, uniform over all valid positions, then a flip with probability 0.5."""
    x, y = (int(rng.integers(0, load_size - size + 1)) for _ in range(2))
    return View(x, y, bool(rng.random() < 0.5), size)


def centre_view(load_size: int, size: int) -> View:
    """The view of evaluation: the centre crop (all, if `load_size` is `size`), not mirrored."""
    corner = (load_size - size) // 2
    return View(corner, corner, False, size)


def apply_view(maps: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Crop and flip (C, n, n) to (C, size, size) without a copy."""
    window = maps[:, view.y : view.y + view.size, view.x : view.x + view.size]
    return window[:, :, ::-1] if view.flip else window


def photo_pixels(photo: Image.Image, size: int) -> NDArray[np.uint8]:
    """The photo resized to a square with Pillow's antialiased bicubic filter, (3, size, size)."""
    if photo.size != (size, size):
        photo = photo.resize((size, size), Image.Resampling.BICUBIC)
    return np.array(photo, np.uint8).transpose(2, 0, 1)


def grey_pixels(photo: Image.Image, size: int) -> NDArray[np.uint8]:
    """The photo resized with the bilinear filter, then to grey levels, (size, size), as the input of edge detection."""
    if photo.size != (size, size):
        photo = photo.resize((size, size), Image.Resampling.BILINEAR)
    return np.array(photo.convert("L"), np.uint8)


def image_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (3, H, W) to float32 in [-1, 1]: u / 255 * 2 - 1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).float().div_(255).mul_(2).sub_(1)


def unit_tensor(maps: NDArray[np.uint8]) -> Tensor:
    """uint8 (C, H, W) to float32 in [0, 1]: a true division by 255."""
    return torch.from_numpy(np.ascontiguousarray(maps)).float().div_(255)
