"""Pictures, drawings and condition maps in whatever form a user has them, as tensors; and tensors as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from midms.config import ConfigError
from midms.visualize import to_pixels

Picture = Image.Image | np.ndarray | Tensor | str | Path


def read_picture(picture: Picture) -> Tensor:
    """Any picture as (3, H, W) in [-1, 1]; EXIF rotation applied, alpha laid over white, grey and CMYK made RGB.

    Raises:
        ConfigError: the file is missing, empty, truncated or no picture.
        ValueError: an array or tensor of another form.
    """
    if isinstance(picture, Tensor):
        if picture.ndim != 3 or picture.shape[0] != 3:
            raise ValueError(f"picture tensor of shape {tuple(picture.shape)}: expected (3, H, W) in [-1, 1]")
        return picture.float()
    if isinstance(picture, str | Path):
        picture = open_picture(picture)
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)
    if picture.mode.startswith("I"):  # 16-bit grey
        picture = Image.fromarray((np.asarray(picture).astype(np.uint32) // 257).clip(0, 255).astype(np.uint8))
    pixels = np.asarray(picture.convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1


def open_picture(path: str | Path) -> Image.Image:
    """Open and decode a picture file, or say in one line why not."""
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{file}: no such picture")
    if file.stat().st_size == 0:
        raise ConfigError(f"{file}: the file is empty; copy it again")
    try:
        picture = Image.open(file)
        picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{file}: not a whole picture ({error}); copy or convert it again") from None
    return picture


def batch_pictures(pictures: Picture | Sequence[Picture], size: int | None = None) -> Tensor:
    """One or several pictures as (B, 3, H, W) in [-1, 1], resized to a square of `size` if given."""
    if isinstance(pictures, Tensor) and pictures.ndim == 4:
        images = list(pictures)
    elif isinstance(pictures, list | tuple):
        images = list(pictures)
    else:
        images = [pictures]  # type: ignore[list-item]
    tensors = [read_picture(picture) for picture in images]
    if size is not None:
        tensors = [_resize(tensor, size) for tensor in tensors]
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) != 1:
        raise ValueError(f"exemplars of several sizes {sorted(shapes)}: give them one by one, or resize them")
    return torch.stack(tensors)


def _resize(image: Tensor, size: int) -> Tensor:
    if image.shape[-2:] == (size, size):
        return image
    resized = torch.nn.functional.interpolate(image[None], (size, size), mode="bicubic", antialias=True)
    return resized[0].clamp(-1, 1)


def batch_conditions(conditions: Any) -> Tensor:
    """Condition maps as (B, L, H, W) in [0, 1].

    Raises:
        ConfigError, ValueError: a file that cannot be read, or maps of another form.
    """
    if isinstance(conditions, list | tuple):
        return torch.cat([batch_conditions(condition) for condition in conditions])
    if isinstance(conditions, str | Path) and Path(conditions).suffix == ".npy":
        if not Path(conditions).is_file():
            raise ConfigError(f"{conditions}: no such file")
        conditions = np.load(conditions, allow_pickle=False)
    if isinstance(conditions, str | Path | Image.Image):
        return line_drawing(conditions)[None]
    if isinstance(conditions, np.ndarray):
        scale = 255.0 if conditions.dtype == np.uint8 else 1.0
        conditions = torch.from_numpy(conditions.astype(np.float32) / scale)
    if not isinstance(conditions, Tensor) or conditions.ndim not in (3, 4):
        shape = getattr(conditions, "shape", type(conditions).__name__)
        raise ValueError(f"condition {shape}: expected maps (L, H, W) or (B, L, H, W) in [0, 1]")
    return (conditions if conditions.ndim == 4 else conditions[None]).float()


def line_drawing(drawing: Image.Image | str | Path) -> Tensor:
    """A drawing, dark ink on light paper (or the reverse), as the 15 edge channels with no face part known.

    Channel 0 holds the ink; every distance map says "absent" (1), the part outlines are empty.
    """
    from midms.data.conditions.edges import EDGE_CHANNELS  # noqa: PLC0415 - pulls in scikit-image

    grey = (read_picture(drawing).mean(dim=0) + 1) / 2  # (H, W)
    ink = grey < 0.5 if float(grey.mean()) > 0.5 else grey > 0.5
    maps = torch.ones(EDGE_CHANNELS, *grey.shape)
    maps[0], maps[14] = ink.float(), 0
    return maps


def pil_images(images: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] as PIL images."""
    return [Image.fromarray(pixels) for pixels in to_pixels(images)]
