"""Pictures fitted to the page: enlarged, or on a square canvas."""

from __future__ import annotations

import numpy as np
from PIL import Image

from midms.visualize import Pixels


def enlarge(pixels: Pixels, side: int, smooth: bool = True) -> Pixels:
    """Pixels enlarged to `side` pixels of height for display."""
    height, width = pixels.shape[:2]
    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize((round(width * side / height), side), method))


def window(size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """Where a picture of `size` (width, height) lies on a square canvas: as large as possible, in the middle.

    Returns:
        Left, top, width and height, in pixels of a canvas of `side`.
    """
    width, height = (max(1, round(length * side / max(size))) for length in size)
    return (side - width) // 2, (side - height) // 2, width, height


def on_square(pixels: Pixels, side: int, smooth: bool = True) -> Pixels:
    """All of a picture (H, W, 3) in its `window` of a white square, (side, side, 3)."""
    left, top, width, height = window((pixels.shape[1], pixels.shape[0]), side)
    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    canvas = Image.new("RGB", (side, side), (255, 255, 255))
    canvas.paste(Image.fromarray(pixels).resize((width, height), method), (left, top))
    return np.asarray(canvas)
