"""Faces painted part by part, and line drawings, as the 15 edge maps that the weights read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from midms.app.framing import on_square, window
from midms.conditions.edges import EDGE_CHANNELS, FACE_PARTS, edge_condition
from midms.conditions.make import ink_of, note_on_ink
from midms.config import ConfigError
from midms.data.samples import draw_sample
from midms.visualize import Pixels

#: Colours of the painted parts; left and right parts are distinguished by their side of the face.
PALETTE: dict[str, tuple[int, int, int]] = {
    "skin": (244, 204, 170),
    "hair": (96, 60, 30),
    "brow": (150, 110, 20),
    "eye": (60, 120, 220),
    "nose": (232, 150, 110),
    "u_lip": (200, 40, 60),
    "mouth": (90, 0, 20),
    "l_lip": (240, 100, 130),
    "ear": (250, 170, 60),
    "eye_g": (20, 160, 120),
    "line": (0, 0, 0),
}
#: Names of these parts on the page.
PALETTE_WORDS = {
    "skin": "skin", "hair": "hair", "brow": "eyebrow", "eye": "eye", "nose": "nose", "u_lip": "upper lip",
    "mouth": "inside of the mouth", "l_lip": "lower lip", "ear": "ear", "eye_g": "glasses", "line": "any other line",
}  # fmt: skip
PAPER = (255, 255, 255)
PAIRED = ("brow", "eye", "ear")
INSIDE_SKIN = ("brow", "eye", "nose", "u_lip", "mouth", "l_lip", "eye_g")
MAX_SIDE = 2048  # of a painting
LINE_WEIGHT = 3.0  # a line that covers a quarter of a cell fills the cell


def paintable(channels: int) -> bool:
    """Whether weights with `channels` condition maps take painted faces."""
    return channels == EDGE_CHANNELS


def painted_face(painting: Pixels, size: int) -> NDArray[np.uint8]:
    """The 15 edge maps, (15, size, size), of a face painted in the colours of `PALETTE` on paper.

    A drawing without a painted part has only lines: its distance maps are "absent" everywhere.

    Args:
        painting: (H, W, 3), square.
    Raises:
        ConfigError: the painting is empty or too large.
    """
    if max(painting.shape[:2]) > MAX_SIDE:
        raise ConfigError(f"a painting of {painting.shape[1]} x {painting.shape[0]} pixels: at most {MAX_SIDE} a side")
    names = [*PALETTE, "paper"]
    colours = np.array([*PALETTE.values(), PAPER], np.int32)
    distance = [((painting.astype(np.int32) - colour) ** 2).sum(-1) for colour in colours]
    nearest = np.argmin(distance, axis=0)  # (H, W)
    weights = [LINE_WEIGHT if name == "line" else 1.0 for name in names]
    cover = [weight * _cover(nearest == index, size) for index, weight in enumerate(weights)]
    cell = np.argmax(cover, axis=0)  # (size, size)
    painted = {name: cell == index for index, name in enumerate(names)}
    if painted["paper"].all():
        raise ConfigError("the canvas is empty: paint the parts of a face, or start from a sample")
    masks = {name: mask for name, mask in _parts(painted).items() if mask.any()}
    maps = edge_condition(np.full((size, size), 255, np.uint8), masks, pixel=256 / size)
    maps[0][painted["line"]] = 255
    return maps


def painting_of_sample(size: int, number: int) -> Pixels:
    """The face of a sample in the colours of `PALETTE`, (size, size, 3), to be painted further."""
    masks = draw_sample("faces", size, number).source.masks
    painting = np.full((size, size, 3), 255, np.uint8)
    for name in ("skin", "hair", "l_ear", "r_ear", "nose", "mouth", "u_lip", "l_lip", "l_eye", "r_eye", "l_brow",
                 "r_brow", "eye_g"):  # fmt: skip
        if name in masks:
            painting[masks[name]] = PALETTE[name[2:] if name[2:] in PAIRED else name]
    return painting


def drawing_on_square(picture: Pixels, side: int) -> tuple[Pixels, str]:
    """An uploaded drawing (H, W, 3) in its `window` of the canvas, (side, side, 3), and a note or nothing.

    A drawing without colours becomes black lines on white paper, with the ink of `midms.conditions.make.ink_of`.
    """
    values = picture.astype(np.int16)
    if (values.max(axis=-1) - values.min(axis=-1)).max() > 60:
        return on_square(picture, side), ""
    ink = ink_of(Image.fromarray(picture))
    left, top, width, height = window((picture.shape[1], picture.shape[0]), side)
    cover = np.asarray(Image.fromarray(ink.astype(np.float32)).resize((width, height), Image.Resampling.BOX))
    shrink = max(1.0, picture.shape[1] / width, picture.shape[0] / height)
    canvas = np.full((side, side, 3), 255, np.uint8)
    canvas[top : top + height, left : left + width][cover >= 0.5 / shrink] = 0  # a thin line stays whole
    return canvas, note_on_ink(ink).partition(";")[0]  # without the option of the command line


def _cover(mask: NDArray[np.bool_], size: int) -> NDArray[np.float32]:
    """The share of each cell of a size x size grid that a mask (H, W) covers."""
    whole = Image.fromarray(mask.astype(np.float32))
    return np.asarray(whole.resize((size, size), Image.Resampling.BOX))


def _parts(painted: dict[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.bool_]]:
    """Masks of painted parts by the names of `FACE_PARTS`; skin includes the parts that lie on the skin."""
    skin = np.logical_or.reduce([painted[name] for name in ("skin", *INSIDE_SKIN)])
    columns = np.flatnonzero(skin.any(axis=0))
    middle = (columns[0] + columns[-1]) / 2 if len(columns) else skin.shape[1] / 2
    left = np.arange(skin.shape[1]) < middle  # (W,)
    masks = {"skin": skin} if painted["skin"].any() else {}
    for name in PALETTE:
        if name in PAIRED:
            masks |= {f"l_{name}": painted[name] & left, f"r_{name}": painted[name] & ~left}
        elif name in FACE_PARTS and name != "skin":
            masks[name] = painted[name]
    return masks
