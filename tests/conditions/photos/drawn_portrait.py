"""A drawn portrait with a mesh and a person mask: what stands in for the networks where nobody fetched them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from midms.conditions.photos.faces import Face
from midms.conditions.photos.parts import _MOUTH, INNER, OVAL

SIDE = 256
CENTRE, RADII = np.array([128.0, 130.0]), np.array([45.0, 62.0])
SKIN, HAIR, GROUND = (205, 160, 135), (60, 40, 30), (90, 130, 190)
#: Centre of each inner part and its half width and height.
PLACES = {"r_eye": (108, 120, 9, 4), "l_eye": (148, 120, 9, 4), "r_brow": (108, 108, 12, 3),
          "l_brow": (148, 108, 12, 3), "nose": (128, 138, 9, 14), "u_lip": (128, 165, 18, 4),
          "l_lip": (128, 170, 18, 5)}  # fmt: skip


class Portrait(NamedTuple):
    """What the networks would say of the picture."""

    photo: np.ndarray  # (256, 256, 3)
    face: Face
    person: np.ndarray  # (256, 256)
    hair: np.ndarray  # (256, 256) bool: the true mask, also below the face


def portrait(long_hair: bool = False, yaw: float = 0.0, lips_apart: float = 0.0) -> Portrait:
    """A head with ears and short hair, or hair down to the shoulders that covers the ears."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    head = ellipse(rows, columns, CENTRE, RADII)
    ears = ellipse(rows, columns, (80, 125), (8, 14)) | ellipse(rows, columns, (176, 125), (8, 14))
    cap = ellipse(rows, columns, (128, 100), (56, 68)) & (rows < 95)
    falling = (np.abs(columns - 128) < 78) & (rows > 60) & (rows < 200) if long_hair else np.zeros_like(head)
    hair = (cap | falling) & ~(head & (rows > 78))
    body = (rows > 215) & (np.abs(columns - 128) < 100) | ((np.abs(columns - 128) < 25) & (rows > 170))
    photo = np.full((SIDE, SIDE, 3), GROUND, np.uint8)
    photo[body] = SKIN
    photo[ears] = SKIN
    photo[hair] = HAIR
    photo[head & ~hair] = SKIN
    noise = np.random.default_rng(0).integers(-6, 7, photo.shape)
    photo = np.clip(photo + noise, 0, 255).astype(np.uint8)
    return Portrait(photo, mesh(yaw, lips_apart), (head | ears | hair | body).astype(np.float32), hair & ~head)


def mesh(yaw: float = 0.0, lips_apart: float = 0.0) -> Face:
    """468 points: the oval, the inner parts, and the rest in the middle of the face."""
    points = np.zeros((468, 3))
    points[:, :2] = CENTRE
    put(points, OVAL, CENTRE, RADII)
    for name, (x, y, width, height) in PLACES.items():
        put(points, INNER[name], (x, y), (width, height))
    half = len(_MOUTH) // 2
    spread = np.linspace(-12, 12, half)
    points[list(_MOUTH[:half]), :2] = np.column_stack([128 + spread, np.full(half, 167.0)])
    points[list(_MOUTH[half:]), :2] = np.column_stack([128 - spread, np.full(half, 167.0 + lips_apart)])
    points[:, 2] = np.tan(np.radians(yaw)) * (points[:, 0] - CENTRE[0])
    return Face(points)


def put(points: np.ndarray, ids: tuple[int, ...], centre: object, radii: object) -> None:
    """Put points around an ellipse, the first at its top."""
    angle = 2 * np.pi * np.arange(len(ids)) / len(ids)
    points[list(ids), :2] = np.asarray(centre) + np.column_stack([np.sin(angle), -np.cos(angle)]) * np.asarray(radii)


def ellipse(rows: np.ndarray, columns: np.ndarray, centre: object, radii: object) -> np.ndarray:
    (x, y), (width, height) = np.asarray(centre), np.asarray(radii)
    return ((columns - x) / width) ** 2 + ((rows - y) / height) ** 2 <= 1
