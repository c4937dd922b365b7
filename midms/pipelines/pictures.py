"""Convert pictures, drawings and condition maps of any form to tensors, and tensors to pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from midms.conditions.make import line_drawing
from midms.io.images import read_rgb, to_rgb, working_size
from midms.io.maps import MAP_SUFFIXES, read_maps
from midms.visualize import to_pixels

Picture = Image.Image | np.ndarray | Tensor | str | Path


def read_picture(picture: Picture) -> Tensor:
    """Any picture as (3, H, W) in [-1, 1], read by `midms.io.images.to_rgb`. Tensors stay as they are.

    Raises:
        ConfigError: the file is missing, empty, truncated or no picture.
        ValueError: the array or tensor has another form.
    """
    return _to_tensor(_open(picture))


def batch_pictures(pictures: Picture | Sequence[Picture], size: int | None = None) -> Tensor:
    """One or several pictures as (B, 3, H, W) in [-1, 1].

    Args:
        size: working size in pixels per side (`midms.io.images.working_size`). Pictures of different shapes become
            squares of that side. None: their own size.
    Raises:
        ConfigError: a file cannot be read.
        ValueError: the pictures differ in size, and `size` is None.
    """
    several = isinstance(pictures, list | tuple) or (isinstance(pictures, Tensor) and pictures.ndim == 4)
    listed: Any = pictures if several else [pictures]  # a tensor (B, 3, H, W) is several, too
    images = [_open(picture) for picture in listed]
    if size is not None:
        shapes = {working_size(_width_height(image), size) for image in images}
        shape = shapes.pop() if len(shapes) == 1 else (size, size)
        images = [_resized(image, shape) for image in images]
    sizes = sorted({_width_height(image) for image in images})
    if len(sizes) != 1:
        raise ValueError(f"exemplars of several sizes {sizes}: give them one by one, or resize them")
    return torch.stack([_to_tensor(image) for image in images])


def resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (B, 3, h, w) in [-1, 1] as (B, 3, H, W), bicubic with antialiasing."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return torch.nn.functional.interpolate(images, size, mode="bicubic", antialias=True).clamp(-1, 1)


def picture_size(condition: Any) -> tuple[int, int] | None:
    """(H, W) of a condition that is a picture or a picture file. None: it is a map or a list."""
    is_file = isinstance(condition, str | Path) and Path(condition).suffix not in MAP_SUFFIXES
    if not is_file and not isinstance(condition, Image.Image):
        return None
    width, height = _width_height(_open(condition))
    return height, width


def _open(picture: Picture) -> Image.Image | Tensor:
    if not isinstance(picture, Tensor):
        return read_rgb(picture) if isinstance(picture, str | Path) else to_rgb(picture)
    if picture.ndim != 3 or picture.shape[0] != 3:
        raise ValueError(f"picture tensor of shape {tuple(picture.shape)}: expected (3, H, W) in [-1, 1]")
    return picture.float()


def _width_height(image: Image.Image | Tensor) -> tuple[int, int]:
    return image.size if isinstance(image, Image.Image) else (int(image.shape[-1]), int(image.shape[-2]))


def _resized(image: Image.Image | Tensor, size: tuple[int, int]) -> Image.Image | Tensor:
    if _width_height(image) == size:
        return image
    if isinstance(image, Image.Image):
        return image.resize(size, Image.Resampling.BICUBIC)
    return resize_images(image[None], (size[1], size[0]))[0]


def _to_tensor(image: Image.Image | Tensor) -> Tensor:
    if isinstance(image, Tensor):
        return image
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


def batch_conditions(conditions: Any, size: int | None = None) -> Tensor:
    """Condition maps as (B, L, H, W) in [0, 1].

    Args:
        size: working size of a drawing in pixels per side. None: the drawing's own size.
    Raises:
        ConfigError, ValueError: a file cannot be read, or maps have another form.
    """
    if isinstance(conditions, list | tuple):
        return torch.cat([batch_conditions(condition, size) for condition in conditions])
    if isinstance(conditions, str | Path) and Path(conditions).suffix in MAP_SUFFIXES:
        conditions = read_maps(conditions)
    if isinstance(conditions, str | Path | Image.Image):
        return line_drawing(conditions, size)[None]
    if isinstance(conditions, np.ndarray):
        scale = 255.0 if conditions.dtype == np.uint8 else 1.0
        conditions = torch.from_numpy(conditions.astype(np.float32) / scale)
    if not isinstance(conditions, Tensor) or conditions.ndim not in (3, 4):
        shape = getattr(conditions, "shape", type(conditions).__name__)
        raise ValueError(f"condition {shape}: expected maps (L, H, W) or (B, L, H, W) in [0, 1]")
    return (conditions if conditions.ndim == 4 else conditions[None]).float()


def pil_images(images: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] as PIL images."""
    return [Image.fromarray(pixels) for pixels in to_pixels(images)]
