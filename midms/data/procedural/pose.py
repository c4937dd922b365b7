"""Layouts of `figures`: the pose, the cut of the clothes, and the skeleton that follows from the pose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum, auto

import numpy as np

from midms.conditions.keypoints import JOINTS
from midms.data.procedural.drawing import Array, affine


class Part(IntEnum):
    """Surfaces with a frame of their own; `l_` is the person's left. The frames of the 18 joints follow the parts'."""

    background = 0
    floor = auto()
    shadow = auto()
    torso = auto()
    torso_side = auto()
    torso_back = auto()
    neck = auto()
    hips = auto()
    skirt = auto()
    r_upper_arm = auto()
    r_forearm = auto()
    r_hand = auto()
    r_sleeve = auto()
    r_cuff = auto()
    l_upper_arm = auto()
    l_forearm = auto()
    l_hand = auto()
    l_sleeve = auto()
    l_cuff = auto()
    r_thigh = auto()
    r_shin = auto()
    r_shoe = auto()
    r_trouser = auto()
    r_turnup = auto()
    l_thigh = auto()
    l_shin = auto()
    l_shoe = auto()
    l_trouser = auto()
    l_turnup = auto()
    face = auto()
    r_ear = auto()
    l_ear = auto()
    r_eye = auto()
    l_eye = auto()
    mouth = auto()
    hair = auto()
    mane = auto()
    hat = auto()
    bag = auto()


#: Parts that are not the subject: surfaces without end, on which one point looks like another. A pose does not say
#: where the floor begins.
SURROUNDINGS = frozenset({Part.background, Part.floor, Part.shadow})


@dataclass(frozen=True)
class Limb:
    """Angles of one arm or leg, in radians: away from the body, forwards, and those of the second bone."""

    spread: float
    swing: float
    bend_spread: float
    bend_swing: float


@dataclass(frozen=True)
class Layout:
    """Geometry of a figure. Lengths are in body heights unless stated otherwise, angles in radians."""

    head: tuple[float, float]  # centre, image coordinates
    scale: float  # body height, image coordinates
    lean: float
    yaw: float  # 0 faces the viewer, pi / 2 faces right, pi shows the back
    head_turn: float
    head_tilt: float
    shoulders: float  # half the width
    hips: float
    waist: float  # width over that of the shoulders
    limb: float  # thickness of the limbs
    head_size: float
    arms: tuple[Limb, Limb]  # right, left
    legs: tuple[Limb, Limb]
    sleeve: float  # 0 none, 1 to the elbow, 2 to the wrist
    neckline: float
    trousers: float  # 1 to the knee, 2 to the ankle; below a skirt 0
    skirt: float  # length, 0 for none
    flare: float
    hair_volume: float
    hair_length: float  # 0 short
    hat: bool
    bag: int  # hand that carries it: 0 right, 1 left, -1 none
    horizon: float  # image coordinates
    zoom: float  # of the room


#: Poses of an arm: (spread, swing, bend_spread, bend_swing), drawn around with some jitter.
ARMS = ((0.22, 0.05, 0.0, 0.15), (0.85, -0.1, -1.65, 0.2), (1.5, 0.1, 1.1, 0.2), (0.35, 0.15, -1.5, 0.6),
        (1.25, 0.2, 0.1, 0.0), (2.5, 0.0, 0.25, 0.0), (0.15, 0.5, 0.1, 1.0))  # fmt: skip


def sample_layout(rng: np.random.Generator) -> Layout:
    """Draw a random layout. Position, size, view and pose vary widely, so copying an exemplar in place scores badly."""
    u = rng.uniform
    scale = u(1.5, 2.5)
    view = rng.choice(3, p=[0.62, 0.19, 0.19])
    side = rng.choice([-1, 1])
    yaw = (u(-0.75, 0.75), side * u(1.25, 1.6), np.pi + u(-0.5, 0.5))[view]
    arms = tuple(
        Limb(*(np.array(ARMS[rng.choice(len(ARMS), p=[0.34, 0.16, 0.12, 0.1, 0.1, 0.06, 0.12])]) + u(-0.14, 0.14, 4)))
        for _ in range(2)
    )
    stride = u(-0.5, 0.5)
    legs = tuple(
        Limb(u(-0.02, 0.26), sign * stride, u(-0.12, 0.06), -abs(stride) * u(0, 1.6) * (rng.random() < 0.6) - u(0, 0.1))
        for sign in (-1, 1)
    )
    skirt = rng.random() < 0.36
    return Layout(
        head=(u(-0.32, 0.32), -0.93 + scale * u(0.11, 0.15) + u(0, 0.3) * (2.5 - scale)), scale=scale,
        lean=u(-0.16, 0.16), yaw=float(yaw), head_turn=u(-0.45, 0.45), head_tilt=u(-0.22, 0.22),
        shoulders=u(0.1, 0.13), hips=u(0.042, 0.06), waist=u(0.7, 0.92), limb=u(0.88, 1.2), head_size=u(0.084, 0.1),
        arms=(arms[0], arms[1]), legs=(legs[0], legs[1]),
        sleeve=float(rng.choice([0.0, u(0.45, 0.7), u(1.0, 1.3), 2.0], p=[0.15, 0.35, 0.1, 0.4])),
        neckline=u(0.15, 0.75), trousers=0.0 if skirt else float(rng.choice([u(0.45, 1.0), u(1.7, 2.0)], p=[0.3, 0.7])),
        skirt=u(0.15, 0.36) if skirt else 0.0, flare=u(0.1, 0.8), hair_volume=u(1.04, 1.22),
        hair_length=float(rng.choice([0.0, u(0.7, 1.4), u(1.6, 3.2)], p=[0.4, 0.3, 0.3])),
        hat=bool(rng.random() < 0.25), bag=int(rng.choice([-1, 0, 1], p=[0.6, 0.2, 0.2])),
        horizon=u(0.2, 0.8), zoom=u(0.85, 1.3),
    )  # fmt: skip


def bone(side: int, spread: float, swing: float) -> Array:
    """Direction of a limb, (3,) as right, down, towards the viewer; at angles 0 it hangs down."""
    return np.array([side * np.sin(spread), np.cos(spread) * np.cos(swing), np.cos(spread) * np.sin(swing)])


def skeleton(layout: Layout) -> tuple[Array, Array]:
    """The 18 joints, both hands (18, 19), toes (20, 21) and the middle of the head (22).

    Returns:
        image coordinates, (23, 2), and nearness to the viewer in body heights, (23,).
    """
    lo = layout
    body = np.zeros((23, 3))  # right, down, towards the viewer; from the neck; facing the viewer
    for side, shoulder, hip, hand, toe, arm, leg in (
        (-1, 2, 8, 18, 20, lo.arms[0], lo.legs[0]),
        (1, 5, 11, 19, 21, lo.arms[1], lo.legs[1]),
    ):
        body[shoulder] = side * lo.shoulders, 0.015, 0
        body[shoulder + 1] = body[shoulder] + 0.15 * bone(side, arm.spread, arm.swing)
        forearm = bone(side, arm.spread + arm.bend_spread, arm.swing + arm.bend_swing)
        body[shoulder + 2] = body[shoulder + 1] + 0.135 * forearm
        body[hand] = body[shoulder + 2] + 0.028 * forearm
        body[hip] = side * lo.hips, 0.3, 0
        body[hip + 1] = body[hip] + 0.235 * bone(side, leg.spread, leg.swing)
        shin = bone(side, leg.spread + leg.bend_spread, leg.swing + leg.bend_swing)
        body[hip + 2] = body[hip + 1] + 0.225 * shin
        body[toe] = body[hip + 2] + [side * 0.012, 0.028, 0.075]
    size = lo.head_size
    cos, sin = np.cos(lo.head_turn), np.sin(lo.head_turn)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    face = np.array([[0, 0.22, 0.9], [-0.34, -0.02, 0.75], [0.34, -0.02, 0.75], [-0.78, 0.1, 0], [0.78, 0.1, 0]])
    body[22] = 0, -0.045 - size, 0.01
    body[[0, 14, 15, 16, 17]] = body[22] + size * face @ turn.T
    cos, sin = np.cos(lo.yaw), np.sin(lo.yaw)
    across, near = cos * body[:, 0] + sin * body[:, 2], cos * body[:, 2] - sin * body[:, 0]
    down = body[:, 1] + 0.22 * near * (np.arange(23) >= 18) * (np.arange(23) < 22)  # hands and toes seen from above
    cos, sin = np.cos(lo.lean), np.sin(lo.lean)
    flat = np.stack([cos * across - sin * down, sin * across + cos * down], axis=-1)
    points = lo.scale * (flat - flat[22]) + np.array(lo.head)
    return points.astype(np.float32), near.astype(np.float32)


def between(start: Array, end: Array, width: float) -> Array:
    """Frame of a capsule: v runs from -1 at `start` to 1 at `end`, u = 1 is `width` to its side."""
    (x, y), (x_end, y_end) = start.tolist(), end.tolist()
    along_x, along_y = (x_end - x) / 2, (y_end - y) / 2
    length = math.hypot(along_x, along_y)
    if length < 1e-4:
        along_x, along_y, length = 0.0, 1e-4, 1e-4
    stretch = max(1.0, 0.7 * width / length)  # a limb towards the viewer keeps a direction
    along_x, along_y, thick = along_x * stretch, along_y * stretch, width / length
    rows = (
        (thick * along_y / stretch, along_x, (x + x_end) / 2),
        (-thick * along_x / stretch, along_y, (y + y_end) / 2),
    )
    return np.array(rows, np.float32)


#: Joints at both ends of each limb (18 ... 21 are hands and toes) and half its width in body heights.
BONES = {
    Part.r_upper_arm: (2, 3, 0.029), Part.r_forearm: (3, 4, 0.024), Part.l_upper_arm: (5, 6, 0.029),
    Part.l_forearm: (6, 7, 0.024), Part.r_thigh: (8, 9, 0.05), Part.r_shin: (9, 10, 0.037),
    Part.l_thigh: (11, 12, 0.05), Part.l_shin: (12, 13, 0.037), Part.r_hand: (4, 18, 0.025),
    Part.l_hand: (7, 19, 0.025), Part.r_shoe: (10, 20, 0.033), Part.l_shoe: (13, 21, 0.033),
}  # fmt: skip
#: Clothes that share the frame of a limb.
SLEEVES = {
    Part.r_sleeve: Part.r_upper_arm, Part.r_cuff: Part.r_forearm, Part.l_sleeve: Part.l_upper_arm,
    Part.l_cuff: Part.l_forearm, Part.r_trouser: Part.r_thigh, Part.r_turnup: Part.r_shin,
    Part.l_trouser: Part.l_thigh, Part.l_turnup: Part.l_shin,
}  # fmt: skip


def frames(layout: Layout) -> Array:
    """Frames of the parts and, after them, of the 18 joints, (len(Part) + 18, 2, 3): surface to image coordinates."""
    return place(layout, skeleton(layout)[0])


def place(layout: Layout, points: Array) -> Array:
    """`frames` from the points of `skeleton`."""
    lo = layout
    table = np.repeat(affine((0, 0))[None], len(Part) + len(JOINTS), axis=0)
    room = (0.6 * lo.head[0], 0.5 * lo.head[1] + 0.3)
    table[Part.background] = affine(room, lo.zoom)
    table[Part.floor] = affine((room[0], lo.horizon), lo.zoom)
    feet = (points[10] + points[13]) / 2
    table[Part.shadow] = affine((feet[0], max(points[10, 1], points[13, 1]) + 0.04 * lo.scale), 0.15 * lo.scale)
    for part, (start, end, width) in BONES.items():
        table[part] = between(points[start], points[end], width * lo.scale * lo.limb)
    for sleeve, limb in SLEEVES.items():
        table[sleeve] = table[limb]
    seen = abs(np.cos(lo.yaw))
    depth = 0.07 * abs(np.sin(lo.yaw))
    middle = (points[8] + points[11]) / 2
    trunk = between(points[1], middle, lo.scale * ((lo.shoulders + 0.02) * seen + depth))
    table[[Part.torso, Part.torso_side, Part.torso_back]] = trunk
    width = lo.scale * ((lo.hips + 0.046 * lo.limb) * (0.25 + 0.75 * seen) + 0.5 * depth)
    spine = (middle - points[1]) / np.hypot(*(middle - points[1]))
    table[Part.hips] = between(middle - 0.055 * lo.scale * spine, middle + 0.055 * lo.scale * spine, width)
    table[Part.neck] = between(points[22], points[1], 0.036 * lo.scale)
    start = middle - 0.06 * lo.scale * spine
    table[Part.skirt] = between(start, start + max(lo.skirt, 0.1) * lo.scale * spine, width)
    size, tilt = lo.head_size * lo.scale, lo.head_tilt
    head = affine((float(points[22, 0]), float(points[22, 1])), size, tilt)
    table[Part.face] = affine((0, 0), (0.8, 1.0), parent=head)
    table[[Part.hair, Part.mane, Part.hat]] = affine((0, -0.06), (0.84 * lo.hair_volume, lo.hair_volume), parent=head)
    for ear, eye, at_ear, at_eye in ((Part.r_ear, Part.r_eye, 16, 14), (Part.l_ear, Part.l_eye, 17, 15)):
        table[ear] = affine(tuple(points[at_ear].tolist()), (0.13 * size, 0.2 * size), tilt)
        table[eye] = affine(tuple(points[at_eye].tolist()), (0.1 * size, 0.13 * size), tilt)
    chin = points[0] + np.array([-0.32 * np.sin(tilt), 0.32 * np.cos(tilt)]) * size
    table[Part.mouth] = affine(tuple(chin.tolist()), (0.26 * size, 0.1 * size), tilt)
    wrist = points[18 if lo.bag == 0 else 19]
    table[Part.bag] = affine((float(wrist[0]), float(wrist[1] + 0.085 * lo.scale)), 0.062 * lo.scale)
    table[len(Part) :, :, :2] *= 0.02 * lo.scale
    table[len(Part) :, :, 2] = points[:18]
    return table
