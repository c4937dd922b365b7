"""The contents of a drawn scene, and the true correspondence between two scenes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midms.data.procedural.drawing import Array, compose, invert


class Scene(NamedTuple):
    """A rendered scene.

    Attributes:
        image: RGB, (H, W, 3) uint8.
        labels: index of the topmost part, (H, W).
        frames: each part's map from surface to image coordinates, (parts, 2, 3).
        masks: name -> (H, W) bool, from which the task's condition is made.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int64]
    frames: Array
    masks: dict[str, NDArray[np.bool_]]


class Correspondence(NamedTuple):
    """Position of each pixel's surface point in another scene.

    Attributes:
        coordinates: (2, H, W) as (x, y) in [-1, 1], -1 and 1 being the centres of the first and last pixel.
        visible: (H, W); whether the point is inside the other picture and not hidden there.
    """

    coordinates: NDArray[np.float32]
    visible: NDArray[np.bool_]


def correspondence(target: Scene, source: Scene) -> Correspondence:
    """For each pixel of `target` the position of the same surface point in `source` (both of one size)."""
    size = len(target.labels)
    centres = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    x, y = np.meshgrid(centres, centres)
    motion = compose(source.frames, invert(target.frames))[target.labels]  # (H, W, 2, 3)
    points = np.einsum("hwij,hwj->ihw", motion[..., :2], np.stack([x, y], axis=-1)) + np.moveaxis(motion[..., 2], 2, 0)
    columns, rows = np.floor((points + 1) * (size / 2)).astype(np.int64)
    inside = (columns >= 0) & (columns < size) & (rows >= 0) & (rows < size)
    hit = source.labels[rows.clip(0, size - 1), columns.clip(0, size - 1)]
    coordinates = (points * size / (size - 1)).astype(np.float32)  # pixel centres to align-corners units
    return Correspondence(coordinates, inside & (hit == target.labels))
