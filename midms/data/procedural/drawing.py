"""Shapes as signed distances on a pixel grid, and a canvas that paints them with exact coverage.

Image coordinates are (x, y) in [-1, 1], x to the right and y down, so drawings are independent of resolution. A *frame*
is a 2 x 3 affine map from a part's own surface coordinates to image coordinates. The inverse of one scene's frame and
the frame of another scene map a surface point from one scene to the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Colour = Sequence[float] | Array


def affine(
    center: tuple[float, float],
    size: tuple[float, float] | float = 1.0,
    angle: float = 0.0,
    parent: Array | None = None,
) -> Array:
    """The frame that scales by `size`, rotates by `angle` (radians) and moves to `center`, relative to `parent`."""
    width, height = (size, size) if isinstance(size, float | int) else size
    cos, sin = np.cos(angle), np.sin(angle)
    frame = np.array([[cos * width, -sin * height, center[0]], [sin * width, cos * height, center[1]]], np.float32)
    return frame if parent is None else compose(parent, frame)


def compose(outer: Array, inner: Array) -> Array:
    """The frame `p -> outer(inner(p))`; both (..., 2, 3)."""
    linear = outer[..., :2] @ inner[..., :2]
    offset = outer[..., :2] @ inner[..., 2:] + outer[..., 2:]
    return np.concatenate([linear, offset], axis=-1)


def invert(frame: Array) -> Array:
    """The inverse of invertible frames, (..., 2, 3)."""
    linear = np.linalg.inv(frame[..., :2])
    return np.concatenate([linear, -linear @ frame[..., 2:]], axis=-1).astype(np.float32)


def ellipse(x: Array, y: Array) -> Array:
    """Signed distance to the unit circle, in units of the frame (negative inside)."""
    return np.sqrt(x * x + y * y) - 1


def egg(x: Array, y: Array, taper: float) -> Array:
    """A unit circle whose lower half narrows by `taper` (0 ... 0.5): a face outline."""
    width = 1 - taper * np.clip(y, 0, 1) ** 2
    return np.sqrt((x / width) ** 2 + y * y) - 1


def box(x: Array, y: Array, corner: float = 0.2) -> Array:
    """Signed distance to the square [-1, 1]² with rounded corners."""
    dx, dy = np.abs(x) - 1 + corner, np.abs(y) - 1 + corner
    return np.sqrt(np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2) + np.minimum(np.maximum(dx, dy), 0) - corner


def smooth_step(value: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, and the cubic 3t² - 2t³ between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def blend(low: Colour, high: Colour, weight: Array) -> Array:
    """Colours between `low` and `high`, (H, W, 3), for weights (H, W) in [0, 1]."""
    first, second = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return first + (second - first) * weight[..., None]


def pattern(kind: int, u: Array, v: Array, frequency: float) -> Array:
    """One of five textures in [0, 1] on surface coordinates: plain shade, stripes, checks, dots, clouds."""
    a, b = np.pi * frequency * u, np.pi * frequency * v
    if kind == 0:
        return smooth_step(u + 0.5 * v, -1.2, 1.2)
    if kind == 1:
        return smooth_step(np.sin(a), -0.45, 0.45)
    if kind == 2:
        return smooth_step(np.sin(a) * np.sin(b), -0.25, 0.25)
    if kind == 3:
        return smooth_step(np.cos(a) + np.cos(b), 0.7, 1.2)
    return 0.5 + 0.25 * (np.sin(0.7 * a + 1.3 * np.sin(0.5 * b)) + np.sin(0.8 * b + np.sin(0.6 * a)))


class Canvas:
    """An image in [0, 1], the index of the topmost part at each pixel and named masks, painted from back to front.

    `near` returns a window onto the same picture, so that drawing a small part touches only the pixels around it.
    """

    def __init__(self, size: int) -> None:
        centres = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
        self.pixel = 2 / size
        self.x, self.y = (np.ascontiguousarray(axis) for axis in np.meshgrid(centres, centres))  # (H, W) each
        self.image = np.zeros((size, size, 3), np.float32)
        self.labels = np.zeros((size, size), np.int64)
        self.masks: dict[str, NDArray[np.bool_]] = {}
        self.window = (slice(0, size), slice(0, size))

    def near(self, frame: Array, reach: float) -> Canvas:
        """The window onto this canvas that contains the square [-reach, reach]² of a frame."""
        size = len(self.labels)
        extent = reach * np.abs(frame[:, :2]).sum(axis=1)
        low = np.floor((frame[:, 2] - extent + 1) / self.pixel).astype(int).clip(0, size - 1).tolist()
        high = np.ceil((frame[:, 2] + extent + 1) / self.pixel).astype(int).clip(1, size).tolist()
        return self.cut(low[0], max(high[0], low[0] + 1), low[1], max(high[1], low[1] + 1))

    def cut(self, left: int, right: int, top: int, bottom: int) -> Canvas:
        """The window of columns left ... right - 1 and rows top ... bottom - 1."""
        part = Canvas.__new__(Canvas)  # shares everything except the window
        part.__dict__.update(self.__dict__)
        part.window = (slice(top, bottom), slice(left, right))
        part.x, part.y = self.x[part.window], self.y[part.window]
        part.image, part.labels = self.image[part.window], self.labels[part.window]
        return part

    def local(self, frame: Array) -> tuple[Array, Array]:
        """Surface coordinates (u, v) of every pixel of the window in `frame`, each (H, W)."""
        (a, b, c), (d, e, f) = invert(frame).tolist()
        return a * self.x + b * self.y + c, d * self.x + e * self.y + f

    def coverage(self, distance: Array, frame: Array) -> Array:
        """Share of each pixel inside a shape, from its signed distance in units of `frame`."""
        (a, b, _), (d, e, _) = frame.tolist()
        return np.minimum(np.maximum(0.5 - distance * (abs(a * e - b * d) ** 0.5 / self.pixel), 0), 1)

    def paint(self, alpha: Array, colour: Colour, part: int | None = None, mask: str | None = None) -> None:
        """Blend a colour (3,) or colours (H, W, 3) over the window.

        Args:
            alpha: share of each pixel that is covered, (H, W).
            colour: clipped to [0, 1] here.
            part: new label of the pixels that are covered by more than half.
            mask: name of the mask to which these pixels are added.
        """
        colours = np.minimum(np.maximum(np.asarray(colour, np.float32), 0), 1)
        self.image += (colours - self.image) * alpha[..., None]
        if part is not None:
            self.labels[alpha > 0.5] = part
        if mask is not None:
            whole = self.masks.setdefault(mask, np.zeros((round(2 / self.pixel),) * 2, bool))
            whole[self.window] |= alpha > 0.5

    def hide(self, masks: Sequence[str], alpha: Array) -> None:
        """Remove the pixels covered by more than half from named masks, because a part in front hides them."""
        for name in masks:
            if name in self.masks:
                self.masks[name][self.window] &= alpha <= 0.5


class Drawing:
    """A picture being drawn: a canvas and one frame per part.

    Args:
        frames: surface to image coordinates of each part, (parts, 2, 3).
        size: pixels per side.
    """

    def __init__(self, frames: Array, size: int) -> None:
        self.canvas, self.frames, self.size = Canvas(size), frames, size
        self.inverses = invert(frames).tolist()
        self.extents = np.sqrt((frames[..., :2] ** 2).sum(axis=1)).tolist()  # image lengths of a unit of u and of v
        self.centres = frames[..., 2].tolist()
        self.reaches = np.abs(frames[..., :2]).sum(axis=2).tolist()

    def around(self, part: int, reach: float = 1.5) -> tuple[Canvas, Array, Array]:
        """The window that contains the square [-reach, reach]² of a part, with its surface coordinates (u, v)."""
        edges = []
        for centre, extent in zip(self.centres[part], self.reaches[part], strict=True):
            low = min(max(math.floor((centre - reach * extent + 1) * self.size / 2), 0), self.size - 1)
            high = min(max(math.ceil((centre + reach * extent + 1) * self.size / 2), low + 1), self.size)
            edges += [low, high]
        window = self.canvas.cut(*edges)
        (a, b, c), (d, e, f) = self.inverses[part]
        return window, a * window.x + b * window.y + c, d * window.x + e * window.y + f
