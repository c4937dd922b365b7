"""Task `figures`: dressed people with independent layout (pose, build, cut of the clothes) and style.

A skeleton in three dimensions gives the 18 joints. Every limb, sleeve and trouser leg is a capsule with its own frame
(u across, v along), so points of the cloth correspond between poses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midms.conditions.keypoints import pose_condition
from midms.data.procedural.drawing import (
    Array,
    Canvas,
    Drawing,
    affine,
    blend,
    box,
    ellipse,
    pattern,
    smooth_step,
)
from midms.data.procedural.pose import SURROUNDINGS, Layout, Part, frames, place, sample_layout, skeleton
from midms.data.procedural.scene import Scene

__all__ = ["SURROUNDINGS", "Layout", "Part", "Style", "condition", "frames", "render", "sample_layout", "sample_style"]


@dataclass(frozen=True)
class Cloth:
    """Two colours and the texture that mixes them."""

    colours: tuple[Array, Array]
    kind: int
    frequency: float
    angle: float


@dataclass(frozen=True)
class Style:
    """Appearance of a figure; colours are RGB in [0, 1]."""

    skin: Array
    lip: Array
    eye: Array
    hair: Array
    streak: Array
    streaks: float
    top: Cloth
    bottom: Cloth
    skirt: Cloth
    print_kind: int  # 0 none, 1 disc, 2 buttons, 3 band across the chest
    accent: Array
    shoe: tuple[Array, Array]
    hat: Cloth
    bag: Cloth
    wall: Cloth
    floor: Cloth
    light: float


HAIR = [(0.12, 0.1, 0.1), (0.27, 0.17, 0.1), (0.47, 0.29, 0.15), (0.84, 0.68, 0.38), (0.66, 0.26, 0.12),
        (0.64, 0.64, 0.67)]  # fmt: skip
SKIN = [(0.98, 0.84, 0.74), (0.92, 0.72, 0.58), (0.78, 0.56, 0.41), (0.58, 0.38, 0.26), (0.42, 0.28, 0.19)]
#: Inks of the clothes: (colour, a colour that goes with it).
INKS = [((0.13, 0.2, 0.38), (0.93, 0.92, 0.87)), ((0.78, 0.19, 0.2), (0.97, 0.88, 0.8)),
        ((0.95, 0.74, 0.25), (0.3, 0.24, 0.2)), ((0.2, 0.48, 0.42), (0.88, 0.9, 0.72)),
        ((0.9, 0.9, 0.9), (0.15, 0.16, 0.2)), ((0.2, 0.2, 0.23), (0.62, 0.6, 0.62)),
        ((0.86, 0.52, 0.58), (0.98, 0.92, 0.9)), ((0.36, 0.56, 0.8), (0.94, 0.95, 0.98)),
        ((0.55, 0.36, 0.22), (0.9, 0.78, 0.58)), ((0.5, 0.34, 0.6), (0.88, 0.8, 0.93)),
        ((0.92, 0.46, 0.2), (0.22, 0.3, 0.45))]  # fmt: skip
WALLS = [(0.86, 0.83, 0.78), (0.7, 0.8, 0.82), (0.9, 0.76, 0.68), (0.72, 0.77, 0.66), (0.55, 0.6, 0.7),
         (0.93, 0.88, 0.7), (0.78, 0.7, 0.8)]  # fmt: skip


def sample_style(rng: np.random.Generator) -> Style:
    """Draw a random style. Clothes, room and hair vary in space, so one mean colour per part scores badly."""
    u = rng.uniform

    def near(palette: list[tuple[float, float, float]], spread: float = 0.05) -> Array:
        colour = np.array(palette[rng.integers(len(palette))]) + u(-spread, spread, 3)
        return np.clip(colour, 0.02, 0.98).astype(np.float32)

    def cloth(low: float, high: float) -> Cloth:
        pair = [np.clip(np.array(ink) + u(-0.06, 0.06, 3), 0, 1).astype(np.float32) for ink in INKS[rng.integers(11)]]
        first, second = pair if rng.random() < 0.65 else pair[::-1]
        return Cloth(
            (first, second), int(rng.integers(5)), u(low, high), float(rng.choice([0.0, np.pi / 2, u(0, 3.1)]))
        )

    def surface(colour: Array, contrast: float, kinds: int) -> Cloth:
        other = np.clip(colour + u(-contrast, contrast), 0, 1).astype(np.float32)
        return Cloth((colour, other), int(rng.integers(kinds)), u(1.2, 3), u(0, np.pi))

    skin, hair, top, bottom = near(SKIN), near(HAIR), cloth(2.0, 4.0), cloth(2.0, 4.0)
    leather = near([(0.12, 0.1, 0.1), (0.45, 0.26, 0.14), (0.85, 0.83, 0.8), (0.7, 0.16, 0.16), (0.2, 0.3, 0.5)])
    return Style(
        skin=skin, lip=np.clip(skin * [0.95, 0.5, 0.5], 0, 1).astype(np.float32), eye=hair * 0.3,
        hair=hair, streak=np.clip(hair * u(1.3, 1.8) + 0.06, 0, 1).astype(np.float32), streaks=u(5, 9),
        top=top, bottom=bottom, skirt=top if rng.random() < 0.4 else bottom,  # a dress, or a skirt and a top
        print_kind=int(rng.integers(4)), accent=near([ink[0] for ink in INKS]),
        shoe=(leather, np.clip(leather * 0.5 + u(0, 0.5), 0, 1).astype(np.float32)),
        hat=cloth(1.5, 3.0), bag=cloth(1.5, 2.5), wall=surface(near(WALLS), 0.16, 5),
        floor=surface(near([(0.62, 0.48, 0.36), (0.5, 0.5, 0.52), (0.75, 0.7, 0.62), (0.4, 0.34, 0.32)]), 0.14, 4),
        light=u(-0.12, 0.12),
    )  # fmt: skip


IMAGE = affine((0.0, 0.0))


def dyed(cloth: Cloth, u: Array, v: Array) -> Array:
    """Colours of a cloth at surface points, (H, W, 3)."""
    cos, sin = float(np.cos(cloth.angle)), float(np.sin(cloth.angle))
    return blend(*cloth.colours, pattern(cloth.kind, cos * u + sin * v, cos * v - sin * u, cloth.frequency))


class Figure(Drawing):
    """A figure being drawn, with one method per group of parts."""

    def __init__(self, layout: Layout, style: Style, size: int) -> None:
        self.layout, self.style = layout, style
        self.points, self.near = skeleton(layout)
        super().__init__(place(layout, self.points), size)
        self.facing = float(np.cos(layout.yaw))
        self.back = self.facing < -0.5
        self.side = 0 if abs(self.facing) > 0.5 else 1 if np.sin(layout.yaw) > 0 else -1  # profile: where it looks

    def rounded(self, colours: Array, u: Array) -> Array:
        """Colours darkened towards both sides of a limb or trunk, lit from the style's side."""
        return colours * (1.05 - 0.24 * u * u + self.style.light * u)[..., None]

    def capsule(self, part: Part, swell: float = 1.0, end: float = 2.0) -> tuple[Canvas, Array, Array, Array]:
        """Window, u, v and coverage of a limb that tapers towards its far end and is cut at v = `end`."""
        width, length = self.extents[part]
        window, u, v = self.around(part, max(1 + swell * width / length, swell) + 0.1)
        t = np.clip(v, -1, 1)
        distance = np.sqrt((u * width) ** 2 + ((v - t) * length) ** 2) - width * (swell * (0.9 - 0.1 * t))
        if end < 1:
            distance = np.maximum(distance, (v - end) * length)
        return window, u, v, window.coverage(distance, IMAGE)

    def draw_skin(self, part: Part) -> None:
        """A bare limb."""
        window, u, v, alpha = self.capsule(part)
        shade = 1.04 - 0.09 * smooth_step(v, 0.4, -1.1)
        window.paint(alpha, self.rounded(self.style.skin * shade[..., None], u), part)

    def draw_sleeve(self, part: Part, cloth: Cloth, end: float, swell: float) -> None:
        """Cloth around a limb as far as v = `end`, with a hem."""
        window, u, v, alpha = self.capsule(part, swell, end)
        colours = self.rounded(dyed(cloth, 0.4 * u, 1.1 * v), 0.9 * u)
        window.paint(alpha, colours, part)

    def draw_room(self) -> None:
        """A papered wall, a floor, and the dark patch under the feet."""
        s = self.style
        u, v = self.canvas.local(self.frames[Part.background])
        light = 1.04 - 0.09 * (u * u + v * v) + 0.5 * s.light * u
        self.canvas.paint(np.ones_like(u), dyed(s.wall, u, v) * light[..., None], Part.background)
        window = self.canvas.near(affine((0, (self.layout.horizon + 1) / 2), (1, (1 - self.layout.horizon) / 2)), 1.05)
        u, v = window.local(self.frames[Part.floor])
        colours = dyed(s.floor, u / (0.7 + np.abs(v)), 2 * v) * (0.9 + 0.2 * np.clip(v, 0, 1))[..., None]
        board = window.coverage(np.abs(v - 0.02) - 0.022, self.frames[Part.floor])[..., None]
        colours = colours * (1 - board) + s.wall.colours[1] * 0.6 * board
        window.paint(window.coverage(-v, self.frames[Part.floor]), colours, Part.floor)
        window, u, v = self.around(Part.shadow, 1.2)
        dark = s.floor.colours[0] * 0.5
        window.paint(window.coverage(ellipse(u, v / 0.2), self.frames[Part.shadow]) * 0.9, dark, Part.shadow)

    def draw_leg(self, thigh: Part, shin: Part, shoe: Part) -> None:
        """Skin, shoe and trouser leg."""
        lo, s = self.layout, self.style
        trouser = Part.r_trouser if thigh == Part.r_thigh else Part.l_trouser
        turnup = Part.r_turnup if thigh == Part.r_thigh else Part.l_turnup
        if lo.trousers < 2:
            self.draw_skin(shin)
        window, u, v, alpha = self.capsule(shoe, 1.12)
        colours = blend(*s.shoe, smooth_step(v, 0.55, 0.75) + smooth_step(v, -0.5, -0.7))
        window.paint(alpha, self.rounded(colours, 0.8 * u), shoe)
        if lo.trousers > 1:
            self.draw_sleeve(turnup, s.bottom, 2 * (lo.trousers - 1) - 1, 1.22)
        if lo.trousers < 1:
            self.draw_skin(thigh)
        if lo.trousers > 0:
            self.draw_sleeve(trouser, s.bottom, 2 * min(lo.trousers, 1.5) - 1, 1.12)

    def draw_arm(self, side: int) -> None:
        """Skin, hand and sleeve of the right (0) or left (1) arm, and the bag it carries."""
        lo, s = self.layout, self.style
        if side == 0:
            upper, fore, hand = Part.r_upper_arm, Part.r_forearm, Part.r_hand
            sleeve, cuff = Part.r_sleeve, Part.r_cuff
        else:
            upper, fore, hand = Part.l_upper_arm, Part.l_forearm, Part.l_hand
            sleeve, cuff = Part.l_sleeve, Part.l_cuff
        if lo.bag == side:
            self.draw_bag()
        if lo.sleeve < 1:
            self.draw_skin(upper)
        self.draw_skin(fore)
        self.draw_skin(hand)
        if lo.sleeve > 0:
            self.draw_sleeve(sleeve, s.top, 2 * min(lo.sleeve, 1.5) - 1, 1.2)
        if lo.sleeve > 1:
            self.draw_sleeve(cuff, s.top, 2 * (lo.sleeve - 1) - 1.1, 1.25)

    def draw_bag(self) -> None:
        """A hand bag: body, flap and handle."""
        s = self.style
        frame = self.frames[Part.bag]
        window, u, v = self.around(Part.bag, 1.7)
        handle = np.abs(ellipse(u / 0.62, (v + 0.6) / 0.85)) * 0.62 - 0.1
        body = box(u / 1.15, (v - 0.15) / 0.8, 0.3) * 0.9
        colours = dyed(s.bag, u, v) * (1.02 - 0.1 * u * u)[..., None]
        flap = smooth_step(v, -0.05, 0.05)[..., None]
        colours = colours * flap + s.bag.colours[0] * 0.8 * (1 - flap)
        window.paint(window.coverage(np.minimum(handle, body), frame), colours, Part.bag)

    def draw_hips(self) -> None:
        """The seat of the trousers, or a skirt whose folds fan out."""
        lo, s = self.layout, self.style
        if not lo.skirt:
            window, u, v = self.around(Part.hips, 1.2)
            alpha = window.coverage(box(u, v, 0.55), self.frames[Part.hips])
            window.paint(alpha, self.rounded(dyed(s.bottom, 0.9 * u, 0.5 * v), u), Part.hips)
            return
        window, u, v = self.around(Part.skirt, 1.2 + lo.flare)
        hem = v - 0.95 - 0.05 * np.cos(9 * u)
        distance = np.maximum(np.abs(u) - 0.92 - 0.5 * lo.flare * (v + 1), np.maximum(hem, -1 - v))
        fan = u / (1.25 + 0.25 * v)
        folds = 1 + 0.09 * np.cos(11 * fan) * smooth_step(v, -0.8, 0.4)
        alpha = window.coverage(distance, self.frames[Part.skirt])
        window.paint(alpha, self.rounded(dyed(s.skirt, fan, 0.9 * v) * folds[..., None], 0.8 * fan), Part.skirt)

    def draw_trunk(self) -> None:
        """Top, its print and its neckline, and the neck; from the back and the side they are surfaces of their own."""
        lo, s = self.layout, self.style
        part = Part.torso_back if self.back else Part.torso_side if self.side else Part.torso
        frame = self.frames[part]
        window, u, v = self.around(part, 1.25)
        profile = 1 - (1 - lo.waist) * np.exp(-2.5 * (v - 0.35) ** 2)
        top = -1.03 + 0.2 * u * u * np.abs(u) - v
        alpha = window.coverage(np.maximum(np.abs(u) - profile, np.maximum(top, v - 0.86)), frame)
        colours = dyed(s.top, u, v)
        if part == Part.torso:
            self.print_on(colours, u, v)
        elif part == Part.torso_back:
            colours *= (1 - 0.3 * np.exp(-60 * (v + 0.72) ** 2))[..., None]  # the yoke's seam
        belt = smooth_step(v, 0.7, 0.76)[..., None]
        colours = colours * (1 - 0.45 * belt)
        window.paint(alpha, self.rounded(colours, u), part)
        window, u, v, alpha = self.capsule(Part.neck, 1.0, 1.0 if not self.back else 0.9)
        if not self.back and not self.side:
            opening = window.coverage(ellipse(u / 1.7, (v - 1) / lo.neckline), self.frames[Part.neck])
            alpha = np.maximum(alpha, opening * (v > 0.9))
        shade = 0.86 + 0.14 * smooth_step(v, -0.2, 1.2)
        window.paint(alpha, self.rounded(s.skin * shade[..., None], 0.6 * u), Part.neck)

    def print_on(self, colours: Array, u: Array, v: Array) -> None:
        """A disc, a row of buttons or a band across the chest, laid over the colours of a top."""
        s = self.style
        if s.print_kind == 1:
            weight = smooth_step(np.sqrt(u * u + (v + 0.25) ** 2), 0.4, 0.32)
        elif s.print_kind == 2:
            weight = np.exp(-25 * u * u) * smooth_step(np.cos(4 * np.pi * v), 0.1, 0.6)
        elif s.print_kind == 3:
            weight = smooth_step(np.abs(v + 0.3), 0.26, 0.2)
        else:
            return
        colours += (s.accent - colours) * weight[..., None]

    def strands(self, u: Array, v: Array) -> Array:
        """Hair that radiates from the crown, with a ring of light."""
        s = self.style
        angle, radius = np.arctan2(u, v + 1.1), np.sqrt(u * u + (v + 0.8) ** 2)
        weight = 0.45 + 0.35 * np.cos(2 * s.streaks * angle + np.sin(3 * radius))
        weight = weight + 0.4 * np.exp(-30 * (radius - 0.4) ** 2)
        return blend(s.hair, s.streak, np.clip(weight, 0, 1)) * (1.0 - 0.1 * np.clip(v, -1, 2))[..., None]

    def draw_mane(self) -> None:
        """Hair that falls down the back: all of it from behind, what shows beside the neck from the front."""
        length = self.layout.hair_length
        if not (self.back or length):
            return
        window, u, v = self.around(Part.mane, 1.15 + length)
        shape = ellipse(u, v)
        if length:
            x = u + 0.45 * self.side * smooth_step(v, -0.5, 0.8)
            fall = box(x / (0.98 - 0.3 * abs(self.side)), (v - 0.5 * length) / (0.5 * length), 0.35)
            shape = np.minimum(shape, fall)
        window.paint(window.coverage(shape, self.frames[Part.mane]), self.strands(u, v) * 0.88, Part.mane)

    def draw_head(self) -> None:
        """Ears, face and its features, hair; only hair from behind."""
        s = self.style
        for part, joint in ((Part.r_ear, 16), (Part.l_ear, 17)):
            if self.near[joint] > self.near[22] - 0.045:
                window, u, v = self.around(part)
                alpha = window.coverage(ellipse(u, v), self.frames[part])
                window.paint(alpha, s.skin * (0.9 - 0.1 * np.exp(-3 * (u * u + v * v)))[..., None], part)
        if self.back:
            self.draw_mane()
        else:
            self.draw_face()
            self.draw_hair()
        if self.layout.hat:
            window, u, v = self.around(Part.hat, 1.75)
            brim = ellipse(u / 1.5, (v + 0.5) / 0.2) * 0.4
            crown = np.maximum(box(u / 0.92, (v + 0.85) / 0.6, 0.6) * 0.75, v + 0.45)
            colours = dyed(s.hat, u, 1.3 * v) * (1.05 - 0.14 * u * u)[..., None]
            band = smooth_step(np.abs(v + 0.72), 0.13, 0.08)[..., None]
            colours = colours * (1 - band) + s.accent * band
            window.paint(window.coverage(np.minimum(brim, crown), self.frames[Part.hat]), colours, Part.hat)

    def draw_face(self) -> None:
        """Skin with blush, eyes, mouth."""
        s = self.style
        window, u, v = self.around(Part.face, 1.1)
        width = 1 - 0.2 * np.clip(v, 0, 1) ** 2
        alpha = window.coverage(ellipse(u / width, v), self.frames[Part.face])
        shade = 1.05 - 0.1 * (u * u + v * v) + s.light * u
        window.paint(alpha, s.skin * shade[..., None], Part.face)
        for part, joint in ((Part.r_eye, 14), (Part.l_eye, 15)):
            if self.near[joint] > self.near[22] + 0.02:
                window, u, v = self.around(part)
                alpha = window.coverage(ellipse(u, v), self.frames[part])
                glint = 0.7 * np.exp(-8 * ((u + 0.3) ** 2 + (v + 0.35) ** 2))
                window.paint(alpha, s.eye + glint[..., None], part)
        window, u, v = self.around(Part.mouth)
        alpha = window.coverage(ellipse(u, v + 0.5 * u * u - 0.3), self.frames[Part.mouth])
        alpha *= window.labels == Part.face
        window.paint(alpha, s.lip * (1.05 + 0.2 * v)[..., None], Part.mouth)

    def draw_hair(self) -> None:
        """Hair over the head but for the opening of the face, which moves with the view."""
        turn = float(np.sin(self.layout.yaw + 0.6 * self.layout.head_turn))
        window, u, v = self.around(Part.hair, 1.1)
        opening = ellipse((u - 0.62 * turn) / (0.86 - 0.05 * abs(turn)), (v - 0.42) / (0.84 + 0.1 * abs(turn)))
        alpha = window.coverage(np.maximum(ellipse(u, v), np.maximum(-opening, v - 0.75)), self.frames[Part.hair])
        window.paint(alpha, self.strands(u, v), Part.hair)

    def hide_unseen_joints(self) -> None:
        """Move the joints that a detector would miss out of the picture: the far side of the head, covered arms."""
        near, labels, first = self.near, self.canvas.labels, len(Part)
        missing = [joint for joint in (14, 15) if near[joint] < near[22] + 0.02]
        missing += [joint for joint in (0, 16, 17) if near[joint] < near[22] - 0.045]
        for joint, low, high in ((3, 9, 13), (4, 9, 13), (6, 14, 18), (7, 14, 18)):
            x, y = np.floor((self.points[joint] + 1) * (len(labels) / 2)).astype(int)
            if 0 <= x < len(labels) and 0 <= y < len(labels) and not low <= labels[y, x] <= high:
                missing.append(joint)
        self.frames[[first + joint for joint in missing], :, 2] = 9


def render(layout: Layout, style: Style, size: int) -> Scene:
    """Draw one person of `size` x `size` pixels, with part labels and the frames of parts and joints."""
    figure = Figure(layout, style, size)
    figure.draw_room()
    near = figure.near
    wrists = [max(near[4], near[3]), max(near[7], near[6])]  # an arm is behind the trunk if all of it is
    order = sorted((0, 1), key=lambda side: wrists[side])
    behind = [side for side in order if wrists[side] < (-0.04 if not figure.back else -0.01)]
    for side in behind:
        figure.draw_arm(side)
    if not figure.back:
        figure.draw_mane()
    legs = ((Part.r_thigh, Part.r_shin, Part.r_shoe), (Part.l_thigh, Part.l_shin, Part.l_shoe))
    for leg in sorted((0, 1), key=lambda leg: near[9 + 3 * leg] + near[10 + 3 * leg]):
        figure.draw_leg(*legs[leg])
    figure.draw_hips()
    figure.draw_trunk()
    if not layout.hair_length or not figure.back:
        figure.draw_head()
    for side in order:
        if side not in behind:
            figure.draw_arm(side)
    if layout.hair_length and figure.back:
        figure.draw_head()
    figure.hide_unseen_joints()
    image = (figure.canvas.image * 255 + 0.5).clip(0, 255).astype(np.uint8)
    return Scene(image, figure.canvas.labels, figure.frames, {})


def condition(scene: Scene) -> np.ndarray:
    """The 20 pose channels of DeepFashion for a drawn person, (20, H, W) uint8; sizes as in a 256-pixel image.

    Joints outside the picture or out of sight are missing.
    """
    size = len(scene.labels)
    joints = (scene.frames[len(Part) :, :, 2] + 1) * (size / 2)
    outside = np.any((joints < 0) | (joints >= size), axis=1, keepdims=True)
    joints = np.where(outside, np.nan, joints)
    return pose_condition(joints, size, size, pixel=256 / size)
