"""Images of any kind -> one batch of tensors that the autoencoder takes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

Resize = Literal["fit", "stretch"]


def to_rgb(image: Any) -> Image.Image:
    """A picture as upright 8-bit RGB; transparency is laid over white.

    Args:
        image: PIL image of any mode, array (H, W) or (H, W, 1|3|4) (uint8, or float in 0..1), or tensor (C, H, W).
    Raises:
        ValueError: another type, shape or range.
    """
    if isinstance(image, Tensor):
        if image.ndim != 3:
            raise ValueError(f"image: expected a tensor (C, H, W), got {tuple(image.shape)}")
        image = image.detach().cpu().movedim(0, -1).numpy()
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    if not isinstance(image, Image.Image):
        raise ValueError(f"image: expected a PIL image, an array or a tensor, got {type(image).__name__}")
    if min(image.size) < 1:
        raise ValueError(f"image: expected at least one pixel, got size {image.size}")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if values.max() > 255 else 255.0
        image = _from_array(np.clip(values / top, 0, 1))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def read_image(path: str | Path) -> Image.Image:
    """The picture in a file, as `to_rgb` gives it.

    Raises:
        ValueError: the file is no picture, is damaged, or claims an absurd size.
    """
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable picture ({error})") from None


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] in (3, 4)):
        raise ValueError(f"image: expected shape (H, W), (H, W, 3) or (H, W, 4), got {array.shape}")
    if array.dtype != np.uint8:
        values = array.astype(np.float64)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise ValueError(f"image: floats must lie in 0..1, got {values.min():.4g}..{values.max():.4g}")
        array = np.round(values * 255).astype(np.uint8)
    return Image.fromarray(array)


def working_size(size: tuple[int, int], resolution: int, multiple: int, resize: Resize) -> tuple[int, int]:
    """Width and height at which an image of `size` (width, height) is edited.

    "stretch": `resolution` squared, whatever the image (the released code). "fit": about the same area in the image's
    own aspect ratio, each side a multiple of `multiple`.
    """
    if resize not in ("fit", "stretch"):
        raise ValueError(f"resize must be 'fit' or 'stretch', got {resize!r}")
    if resolution < multiple or resolution % multiple:
        raise ValueError(f"resolution must be a positive multiple of {multiple}, got {resolution}")
    if resize == "stretch":
        return resolution, resolution
    scale = resolution / math.sqrt(size[0] * size[1])
    width, height = (max(multiple, round(side * scale / multiple) * multiple) for side in size)
    return width, height


def prepare_images(images: Any, resolution: int, multiple: int, resize: Resize = "fit") -> Tensor:
    """One image, or a list of them, as a batch (B, 3, H, W) in -1..1, resampled with Lanczos.

    Raises:
        ValueError: no image, an unreadable one, or images of a batch whose working sizes differ.
    """
    if isinstance(images, (Tensor, np.ndarray)) and images.ndim == 4:
        images = list(images)
    listed = [to_rgb(image) for image in (images if isinstance(images, (list, tuple)) else [images])]
    if not listed:
        raise ValueError("image: expected at least one image, got an empty list")
    sizes = {working_size(image.size, resolution, multiple, resize) for image in listed}
    if len(sizes) > 1:
        raise ValueError(
            f"image: the images of a batch need one shape, got working sizes {sorted(sizes)}; "
            "edit them one by one, or use resize='stretch'"
        )
    resized = [image.resize(next(iter(sizes)), Image.Resampling.LANCZOS) for image in listed]
    batch = np.stack([np.asarray(image) for image in resized])  # (B, H, W, 3)
    return torch.from_numpy(batch).permute(0, 3, 1, 2).to(torch.float32) / 255 * 2 - 1
