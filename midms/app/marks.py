"""Marks over pictures: the clicked cell and its match."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from midms.app.actions import Result, Trace
from midms.app.framing import enlarge
from midms.visualize import Pixels

RING = (255, 45, 120)


def marked_result(result: Result, x: float, y: float, side: int) -> Pixels:
    """The result at `side` pixels with a ring around the pixel (x, y)."""
    scale = side / result.pixels.shape[0]
    return _ring(enlarge(result.pixels, side), (x + 0.5) * scale, (y + 0.5) * scale)


def marked_exemplars(result: Result, trace: Trace, side: int) -> list[tuple[Pixels, str]]:
    """Every exemplar at `side` pixels, bright where the match lies, with its share as caption; a ring on the best."""
    shown = []
    for index, (chosen, weights) in enumerate(zip(result.task.exemplars, trace.weights, strict=True)):
        picture = _lit(enlarge(chosen.pixels, side), weights)
        if index == trace.exemplar:
            scale = side / chosen.pixels.shape[0]
            picture = _ring(picture, trace.x * scale, trace.y * scale)
        shown.append((picture, f"exemplar {index + 1}: {weights.sum():.0%}"))
    return shown


def describe_trace(trace: Trace, x: float, y: float, exemplars: int) -> str:
    """A trace in words: how often and from which place the pixel was copied.

    Args:
        exemplars: number of exemplars.
    """
    name = "the exemplar" if exemplars == 1 else f"exemplar {trace.exemplar + 1}"
    if not trace.rewarps:
        said = f"This pixel was matched with {name} before the first step, and not again."
    elif trace.rewarps == 1:
        copied, end = ("", "") if trace.trusted else ("not ", ", but drawn by the network")
        said = f"This pixel was {copied}copied from {name} in the one step that matched again{end}."
    else:
        end = "" if trace.trusted == trace.rewarps else "; in the others the network drew it"
        said = f"This pixel was copied from {name} in {trace.trusted} of {trace.rewarps} steps{end}."
    return f"{said} Best match of ({x:.0f}, {y:.0f}): ({trace.x:.0f}, {trace.y:.0f}), similarity {trace.cosine:.2f}."


def _lit(pixels: Pixels, weights: NDArray[np.float32]) -> Pixels:
    """Pixels darkened where the softmax weights (h, w) are small against their largest."""
    peak = max(float(weights.max()), 1e-9)
    grey = Image.fromarray((weights / peak * 255).astype(np.uint8))
    light = np.asarray(grey.resize((pixels.shape[1], pixels.shape[0]), Image.Resampling.BILINEAR))[..., None] / 255
    return (pixels * (0.55 + 0.45 * light)).astype(np.uint8)


def _ring(pixels: Pixels, x: float, y: float) -> Pixels:
    picture = Image.fromarray(pixels)
    draw, radius = ImageDraw.Draw(picture), pixels.shape[0] / 32
    for colour, width, grow in (((255, 255, 255), 6, 2), (RING, 3, 0)):
        reach = radius + grow
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), outline=colour, width=width)
    return np.asarray(picture)
