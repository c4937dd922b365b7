"""Images of any kind -> one batch of tensors for the autoencoder."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from midms.io.images import to_rgb

Resize = Literal["fit", "stretch"]


def working_size(size: tuple[int, int], resolution: int, multiple: int, resize: Resize) -> tuple[int, int]:
    """Width and height at which an image of `size` (width, height) is edited.

    "stretch": `resolution` x `resolution` for every image (the released code). "fit": about the same area with the
    image's aspect ratio, each side a multiple of `multiple`.
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
        ValueError: no image, an unreadable one, or a batch of images with different working sizes.
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
