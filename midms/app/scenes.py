"""The built-in scenes, which a visitor can pick or paint on."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from midms.app.drawing import PAIRED, PALETTE
from midms.conditions.edges import EDGE_CHANNELS
from midms.data.procedural.dataset import TASKS, ProceduralPairs, Task, test_pairs
from midms.visualize import Pixels, condition_image, to_pixels

COUNT = 24
#: Number in the test list of the pair that a page shows first, chosen for its good result.
FIRST = {"faces": 22, "figures": 8, "churches": 23}


class Scene(NamedTuple):
    """One drawn pair of the benchmark's fixed test list."""

    condition: NDArray[np.uint8]  # (L, H, W)
    drawing: Pixels  # picture of the condition, (H, W, 3)
    exemplar: Pixels  # (H, W, 3)
    exemplar_condition: NDArray[np.uint8]  # (L, H, W)


def scene_task(info_task: str | None, channels: int) -> str | None:
    """The benchmark task with the form of condition that the weights take, or None."""
    if info_task in TASKS:
        return info_task
    return {EDGE_CHANNELS: "faces", 20: "figures"}.get(channels)


def pair_number(task: str, index: int) -> int:
    """Number in the test list of the picture at `index` of those shown: `FIRST`, then the others in their order."""
    others = [number for number in range(COUNT) if number != FIRST[task]]
    return [FIRST[task], *others][index]


@cache
def scene(task: str, size: int, index: int) -> Scene:
    """Pair `index` of those shown, at `size` pixels."""
    item = _pairs(task, size)[pair_number(task, index)]
    maps, labels = ((item[name] * 255).round().to(torch.uint8).numpy() for name in ("condition", "exemplar_condition"))
    return Scene(maps, picture_of_maps(maps), to_pixels(item["exemplar"]), labels)


def picture_of_maps(maps: NDArray[np.uint8]) -> Pixels:
    """Picture, uint8 (H, W, 3), of condition maps or of a condition image, (L, H, W)."""
    if len(maps) == 3:
        return np.ascontiguousarray(maps.transpose(1, 2, 0))
    return to_pixels(condition_image(torch.from_numpy(maps)[None].float() / 255))[0]


def painting_of_scene(task: str, size: int, index: int) -> Pixels:
    """The face of a scene in the colours of `PALETTE`, (H, W, 3), to be painted further."""
    masks = _pairs(task, size).scenes(pair_number(task, index))[0].masks
    painting = np.full((size, size, 3), 255, np.uint8)
    for name in ("skin", "hair", "l_ear", "r_ear", "nose", "mouth", "u_lip", "l_lip", "l_eye", "r_eye", "l_brow",
                 "r_brow", "eye_g"):  # fmt: skip
        if name in masks:
            painting[masks[name]] = PALETTE[name[2:] if name[2:] in PAIRED else name]
    return painting


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


@cache
def _pairs(task: str, size: int) -> ProceduralPairs:
    return test_pairs(cast(Task, task), size, COUNT)
