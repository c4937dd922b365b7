"""Layouts of `churches`: the parts of a church, its position in the landscape, and the frame of every surface."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, auto

import numpy as np

from midms.data.procedural.drawing import Array, affine


class Part(IntEnum):
    """Surfaces with a frame of their own; `l_` is the side on the left of the picture."""

    sky = 0
    mountain = auto()
    grass = auto()
    path = auto()
    wing = auto()
    wing_roof = auto()
    c_tower = auto()
    c_spire = auto()
    c_belfry = auto()
    nave = auto()
    gable = auto()
    l_tower = auto()
    l_spire = auto()
    l_belfry = auto()
    r_tower = auto()
    r_spire = auto()
    r_belfry = auto()
    clock = auto()
    rose = auto()
    l_lancet = auto()
    r_lancet = auto()
    window_0 = auto()
    window_1 = auto()
    window_2 = auto()
    window_3 = auto()
    door = auto()
    l_oak = auto()
    r_oak = auto()
    l_pine = auto()
    r_pine = auto()
    bush = auto()


#: Parts that are not the subject: surfaces without end, on which one point looks like another.
SURROUNDINGS = frozenset({Part.sky, Part.mountain, Part.grass, Part.path})
#: ADE20K class (1 ... 150) of each part; ADE20K has no roof, so roofs are building, and spires are tower.
ADE20K = {"building": 2, "sky": 3, "tree": 5, "window": 9, "grass": 10, "door": 15, "mountain": 17, "plant": 18,
          "path": 53, "tower": 85, "clock": 149}  # fmt: skip
CLASSES = {
    "sky": (Part.sky,), "mountain": (Part.mountain,), "grass": (Part.grass,), "path": (Part.path,),
    "building": (Part.wing, Part.wing_roof, Part.nave, Part.gable), "door": (Part.door,), "clock": (Part.clock,),
    "tower": (Part.c_tower, Part.c_spire, Part.l_tower, Part.l_spire, Part.r_tower, Part.r_spire),
    "window": (Part.c_belfry, Part.l_belfry, Part.r_belfry, Part.rose, Part.l_lancet, Part.r_lancet, Part.window_0,
               Part.window_1, Part.window_2, Part.window_3),
    "tree": (Part.l_oak, Part.r_oak, Part.l_pine, Part.r_pine), "plant": (Part.bush,),
}  # fmt: skip
IDS = np.zeros(len(Part), np.int64)
for _name, _parts in CLASSES.items():
    IDS[list(_parts)] = ADE20K[_name]


@dataclass(frozen=True)
class Tower:
    """Half its width, and the heights of shaft and spire, in churches."""

    width: float
    height: float
    spire: float


@dataclass(frozen=True)
class Layout:
    """Geometry of a scene. Lengths are in units of the church (`scale` image coordinates) unless stated otherwise."""

    foot: tuple[float, float]  # middle of the front's lower edge, image coordinates
    scale: float
    nave: tuple[float, float, float]  # half width, height of the wall, height of the gable
    wing: float  # length of the long side, negative to the left, 0 when it is not seen
    towers: tuple[Tower | None, Tower | None, Tower | None]  # behind the gable, left, right
    roof: int  # of the towers: 0 spire, 1 dome, 2 low pyramid
    clock: bool
    rose: float  # radius, 0 for none
    lancets: bool
    windows: int  # in the long side
    door: tuple[float, float]  # half width, height
    trees: tuple[tuple[float, float], ...]  # (x, height) of both oaks and both pines, image coordinates; height 0: none
    bush: float  # x, image coordinates; beyond 1.5: none
    path: float  # where it leaves the picture, image coordinates; beyond 2: none
    mountain: tuple[float, float, float]  # x, half width and height, image coordinates; height 0: none
    horizon: float  # image coordinates
    camera: tuple[float, float, float]  # shift and zoom of the sky


def sample_layout(rng: np.random.Generator) -> Layout:
    """Draw a random layout. Plan, position and size vary widely, so copying an exemplar in place scores badly."""
    u = rng.uniform
    horizon, scale = u(0.1, 0.55), u(0.55, 0.95)
    nave = (u(0.26, 0.42), u(0.42, 0.72), u(0.22, 0.5))
    plan = rng.choice(4, p=[0.3, 0.22, 0.22, 0.26])  # tower behind, two in front, one in front, none but a wing
    side = int(rng.choice([-1, 1]))

    def tower(width: float, low: float, high: float) -> Tower:
        return Tower(width, u(low, high), u(0.2, 0.55))

    rear = tower(u(0.13, 0.2), nave[1] + nave[2] * 0.7 + 0.1, nave[1] + nave[2] + 0.3) if plan == 0 else None
    front = tower(u(0.12, 0.18), nave[1] + 0.1, nave[1] + 0.45) if plan in {1, 2} else None
    wing = side * u(0.5, 1.0) if plan in {0, 3} or (plan == 2 and rng.random() < 0.6) else 0.0
    trees = tuple(
        (float(x), float(u(0.45, 1.0)) if rng.random() < share else 0.0)
        for x, share in ((u(-1, -0.35), 0.55), (u(0.35, 1), 0.45), (u(-1, -0.2), 0.4), (u(0.2, 1), 0.45))
    )
    return Layout(
        foot=(u(-0.35, 0.35) - 0.25 * wing, horizon + u(0.1, 0.28)), scale=scale, nave=nave, wing=float(wing),
        towers=(rear, front if plan == 1 or side < 0 else None, front if plan == 1 or side > 0 else None),
        roof=int(rng.integers(3)), clock=bool(rng.random() < 0.4), rose=u(0.08, 0.13) * (rng.random() < 0.7),
        lancets=bool(rng.random() < 0.6), windows=int(rng.integers(2, 5)), door=(u(0.07, 0.11), u(0.2, 0.3)),
        trees=trees, bush=u(-1, 1) if rng.random() < 0.5 else 2.0, path=u(-0.8, 0.8) if rng.random() < 0.75 else 3.0,
        mountain=(u(-0.9, 0.9), u(0.6, 1.2), u(0.25, 0.7) * (rng.random() < 0.55)), horizon=horizon,
        camera=(u(-0.4, 0.4), u(-0.3, 0.2), u(0.85, 1.3)),
    )  # fmt: skip


def rectangle(left: float, right: float, top: float, bottom: float, parent: Array) -> Array:
    """The frame whose square [-1, 1]² is a rectangle of the parent; y is down."""
    size = (max(right - left, 1e-3) / 2, max(bottom - top, 1e-3) / 2)
    return affine(((left + right) / 2, (top + bottom) / 2), size, parent=parent)


def frames(layout: Layout) -> Array:
    """Frame of each part, (len(Part), 2, 3): surface coordinates to image coordinates."""
    lo = layout
    church = affine(lo.foot, lo.scale)
    table = np.repeat(church[None], len(Part), axis=0)
    table[Part.sky] = affine((lo.camera[0], lo.horizon - 0.6 + lo.camera[1]), lo.camera[2])
    x, width, height = lo.mountain
    table[Part.mountain] = affine((x, lo.horizon - height / 2), (width, max(height, 0.01) / 2))
    table[Part.grass] = affine((0.5 * lo.foot[0], lo.horizon))
    table[Part.path] = affine((lo.foot[0], lo.foot[1]), (lo.door[0] * lo.scale, max(1 - lo.foot[1], 0.1)))
    wide, wall, gable = lo.nave
    table[Part.nave] = rectangle(-wide, wide, -wall, 0, church)
    table[Part.gable] = rectangle(-wide - 0.03, wide + 0.03, -wall - gable, -wall, church)
    start, end = (wide, wide + lo.wing) if lo.wing >= 0 else (lo.wing - wide, -wide)
    table[Part.wing] = rectangle(start, end, -0.92 * wall, -0.03, church)
    table[Part.wing_roof] = rectangle(start, end, -0.92 * wall - 0.8 * gable, -0.92 * wall, church)
    sides = (("c", 0.0), ("l", -wide), ("r", wide))
    for (side, middle), tower in zip(sides, lo.towers, strict=True):
        w, h, s = (tower.width, tower.height, tower.spire) if tower else (0.1, 0.1, 0.1)
        table[Part[f"{side}_tower"]] = rectangle(middle - w, middle + w, -h, 0, church)
        table[Part[f"{side}_spire"]] = rectangle(middle - 1.1 * w, middle + 1.1 * w, -h - s, -h, church)
        table[Part[f"{side}_belfry"]] = rectangle(middle - 0.4 * w, middle + 0.4 * w, -h + 0.06, -h + 0.24, church)
        if tower:
            table[Part.clock] = affine((middle, -h + 0.33), 0.45 * w, parent=church)
    table[Part.rose] = affine((0, -wall - 0.05), max(lo.rose, 0.01), parent=church)
    width, height = lo.door
    table[Part.door] = rectangle(-width, width, -height, 0, church)
    for side, sign in (("l", -1), ("r", 1)):
        middle = sign * (0.55 * wide + 0.25 * width)
        table[Part[f"{side}_lancet"]] = rectangle(middle - 0.05, middle + 0.05, -0.85 * wall, -0.4 * wall, church)
    for index in range(4):
        middle = start + (end - start) * (min(index, lo.windows - 1) + 0.5) / lo.windows
        half = 0.2 * abs(lo.wing) / lo.windows + 0.01
        table[Part.window_0 + index] = rectangle(middle - half, middle + half, -0.72 * wall, -0.24 * wall, church)
    for part, (x, height), thick in zip(
        (Part.l_oak, Part.r_oak, Part.l_pine, Part.r_pine), lo.trees, (0.42, 0.42, 0.26, 0.26), strict=True
    ):
        foot = lo.foot[1] + 0.06
        table[part] = affine((x, foot - height / 2), (max(height, 0.01) * thick, max(height, 0.01) / 2))
    table[Part.bush] = affine((lo.bush, lo.foot[1] + 0.1), 0.15)
    return table
