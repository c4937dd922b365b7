"""Task `faces`: portraits with independent layout (geometry) and style (appearance).

Everything that depends on the style is a function of surface coordinates. Drawing layout a with style s is therefore
the exact translation of any exemplar of style s to layout a.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum, auto

import numpy as np

from midms.conditions.edges import edge_condition
from midms.data.procedural.drawing import Array, Canvas, affine, blend, box, egg, ellipse, pattern, smooth_step
from midms.data.procedural.scene import Scene


class Part(IntEnum):
    """Surfaces with a frame of their own; `l_` is the side on the left of the picture."""

    background = 0
    cloth = auto()
    neck = auto()
    hair = auto()
    l_ear = auto()
    r_ear = auto()
    skin = auto()
    nose = auto()
    l_eye = auto()
    r_eye = auto()
    l_iris = auto()
    r_iris = auto()
    l_brow = auto()
    r_brow = auto()
    u_lip = auto()
    mouth = auto()
    l_lip = auto()
    glasses = auto()
    l_earring = auto()
    r_earring = auto()


#: Parts that are not the subject: surfaces without end, on which one point looks like another.
SURROUNDINGS = frozenset({Part.background})


@dataclass(frozen=True)
class Layout:
    """Geometry of a portrait. Lengths are in head heights unless stated otherwise, angles in radians."""

    center: tuple[float, float]  # of the head, image coordinates
    scale: float  # half the head's height, image coordinates
    roll: float
    yaw: float  # -1 looks left, 1 looks right
    aspect: float  # width over height of the head
    taper: float  # how much the chin narrows
    eye_gap: float
    eye_height: float
    eye_size: float
    eye_open: float
    gaze: float
    brow_lift: float
    brow_tilt: float
    nose_length: float
    mouth_height: float
    mouth_width: float
    mouth_open: float
    smile: float
    hair_volume: float
    hair_length: float  # 0 bald ... 1 to the shoulders
    fringe: float  # how far the hairline comes down
    parting: float
    neckline: float
    glasses: bool
    earrings: bool


@dataclass(frozen=True)
class Style:
    """Appearance of a portrait; colours are RGB in [0, 1]."""

    skin: Array
    hair: Array
    streak: Array
    streaks: int
    streak_strength: float
    iris: Array
    lip: Array
    brow: Array
    blush: float
    shadow: Array
    shadow_strength: float
    freckles: float
    cloth: tuple[Array, Array]
    cloth_pattern: int
    cloth_frequency: float
    background: tuple[Array, Array]
    background_pattern: int
    background_frequency: float
    background_angle: float
    metal: Array
    frame: Array
    lens: float
    light: tuple[float, float]


def sample_layout(rng: np.random.Generator) -> Layout:
    """Draw a random layout. Head position, size and tilt vary widely, so copying an exemplar in place scores badly."""
    u = rng.uniform
    return Layout(
        center=(u(-0.26, 0.26), u(-0.22, 0.12)), scale=u(0.44, 0.66), roll=u(-0.35, 0.35), yaw=u(-1, 1),
        aspect=u(0.68, 0.84), taper=u(0.1, 0.34), eye_gap=u(0.3, 0.38), eye_height=u(-0.16, -0.02),
        eye_size=u(0.13, 0.18), eye_open=u(0.45, 0.75), gaze=u(-0.5, 0.5), brow_lift=u(0.17, 0.27),
        brow_tilt=u(-0.15, 0.25), nose_length=u(0.24, 0.36), mouth_height=u(0.5, 0.62), mouth_width=u(0.2, 0.36),
        mouth_open=u(0, 1) * (rng.random() < 0.6), smile=u(-0.2, 1), hair_volume=u(1.06, 1.35),
        hair_length=float(rng.choice([0.0, u(0.2, 0.5), u(0.6, 1.0)], p=[0.08, 0.46, 0.46])), fringe=u(0.25, 0.6),
        parting=u(-0.7, 0.7), neckline=u(0.1, 0.5), glasses=bool(rng.random() < 0.25),
        earrings=bool(rng.random() < 0.35),
    )  # fmt: skip


HAIR = [(0.1, 0.08, 0.07), (0.25, 0.15, 0.09), (0.45, 0.27, 0.13), (0.82, 0.66, 0.36), (0.62, 0.24, 0.1),
        (0.62, 0.62, 0.64), (0.72, 0.3, 0.52), (0.22, 0.38, 0.62)]  # fmt: skip
SKIN = [(0.98, 0.84, 0.74), (0.92, 0.72, 0.58), (0.78, 0.56, 0.41), (0.58, 0.38, 0.26), (0.4, 0.26, 0.18)]
IRIS = [(0.25, 0.42, 0.66), (0.3, 0.52, 0.32), (0.38, 0.22, 0.1), (0.18, 0.11, 0.07), (0.48, 0.5, 0.52)]


def sample_style(rng: np.random.Generator) -> Style:
    """Draw a random style. Surfaces except metal and glass vary in space, so one mean colour per part scores badly."""
    u = rng.uniform

    def near(palette: list[tuple[float, float, float]], spread: float = 0.05) -> Array:
        colour = np.array(palette[rng.integers(len(palette))]) + u(-spread, spread, 3)
        return np.clip(colour, 0.02, 0.98).astype(np.float32)

    def any_colour(low: float, high: float) -> Array:
        return u(low, high, 3).astype(np.float32)

    skin, hair = near(SKIN), near(HAIR)
    wall = any_colour(0.25, 0.9)
    garment = any_colour(0.08, 0.95)
    return Style(
        skin=skin, hair=hair, streak=np.clip(hair * u(1.3, 1.9) + 0.06, 0, 1).astype(np.float32),
        streaks=int(rng.integers(5, 11)), streak_strength=u(0.3, 0.9), iris=near(IRIS),
        lip=np.clip(skin * [0.95, 0.5, 0.52] + [u(0, 0.25), 0, u(0, 0.12)], 0, 1).astype(np.float32),
        brow=hair * 0.6, blush=u(0, 0.5), shadow=any_colour(0.1, 0.7), shadow_strength=u(0, 0.8) * (rng.random() < 0.6),
        freckles=u(0, 0.22) * (rng.random() < 0.3),
        cloth=(garment, np.clip(garment + u(-0.25, 0.25, 3), 0, 1).astype(np.float32)),
        cloth_pattern=int(rng.integers(4)), cloth_frequency=u(1.5, 3.2),
        background=(wall, np.clip(wall + u(-0.22, 0.22, 3), 0, 1).astype(np.float32)),
        background_pattern=int(rng.integers(5)), background_frequency=u(1.2, 3), background_angle=u(0, np.pi),
        metal=near([(0.9, 0.75, 0.3), (0.85, 0.86, 0.9)], 0.04), frame=near([(0.1, 0.1, 0.12), (0.4, 0.2, 0.1)], 0.06),
        lens=u(0, 0.25), light=(u(-0.3, 0.3), u(-0.3, 0.1)),
    )  # fmt: skip


def frames(layout: Layout) -> Array:
    """Frame of each part, (len(Part), 2, 3): surface coordinates to image coordinates."""
    lo = layout
    head = affine(lo.center, lo.scale, lo.roll)
    body = affine((lo.center[0] * 0.9, lo.center[1] + 1.5 * lo.scale), lo.scale)
    turn = 0.16 * lo.yaw  # the features slide over the head when it turns
    table = np.repeat(head[None], len(Part), axis=0)
    table[Part.background] = affine((0.6 * lo.center[0], 0.6 * lo.center[1]))  # parallax of a moving camera
    table[Part.cloth] = body
    table[Part.neck] = affine((0.0, -0.62), (0.36, 0.5), parent=body)
    table[Part.skin] = affine((0, 0), (lo.aspect, 1.0), parent=head)
    table[Part.hair] = affine((0, -0.08), (lo.aspect * lo.hair_volume, lo.hair_volume), parent=head)
    table[Part.nose] = affine((1.5 * turn, lo.eye_height + lo.nose_length), (0.1, lo.nose_length * 0.62), parent=head)
    mouth = affine((1.2 * turn, lo.mouth_height), (lo.mouth_width, lo.mouth_width), parent=head)
    gap = 0.1 + 0.24 * lo.mouth_open
    table[Part.u_lip] = affine((0, -0.5 * gap), (1.0, 0.24), parent=mouth)
    table[Part.mouth] = affine((0, 0), (0.86, gap), parent=mouth)
    table[Part.l_lip] = affine((0, 0.5 * gap), (0.9, 0.3), parent=mouth)
    for side, eye, iris, brow, ear, ring in (
        (-1, Part.l_eye, Part.l_iris, Part.l_brow, Part.l_ear, Part.l_earring),
        (1, Part.r_eye, Part.r_iris, Part.r_brow, Part.r_ear, Part.r_earring),
    ):
        near = 1 - 0.22 * side * lo.yaw  # the far side is foreshortened
        size = lo.eye_size * near
        x = turn + side * lo.eye_gap * near
        table[eye] = affine((x, lo.eye_height), (size, lo.eye_size * lo.eye_open), parent=head)
        radius = lo.eye_size * 0.55
        table[iris] = affine((x + 0.35 * size * lo.gaze, lo.eye_height), radius, parent=head)
        tilt = side * lo.brow_tilt
        table[brow] = affine((x, lo.eye_height - lo.brow_lift), (size * 1.25, 0.055), tilt, parent=head)
        reach = side * lo.aspect * (1.0 - 0.08 * side * lo.yaw)
        table[ear] = affine((reach, 0.02), (0.11, 0.2), side * 0.15, parent=head)
        table[ring] = affine((reach + side * 0.02, 0.33), 0.085, parent=head)
    table[Part.glasses] = affine((turn, lo.eye_height), (lo.eye_gap, lo.eye_gap), parent=head)
    return table


class Portrait:
    """A portrait being drawn: the canvas, the frames and the style, with one method per group of parts."""

    def __init__(self, layout: Layout, style: Style, size: int) -> None:
        self.layout, self.style, self.canvas = layout, style, Canvas(size)
        self.frames = frames(layout)

    def around(self, part: Part, reach: float = 1.5) -> tuple[Canvas, Array, Array]:
        """The window around a part, with the part's surface coordinates."""
        window = self.canvas.near(self.frames[part], reach)
        return window, *window.local(self.frames[part])

    def shaded_skin(self, u: Array, v: Array) -> Array:
        """Skin colours lit from the style's side, darker towards the rim."""
        light = self.style.light
        shade = 1.02 + 0.5 * (light[0] * u + light[1] * v) - 0.13 * (u * u + v * v)
        return self.style.skin * shade[..., None]

    def draw_background(self) -> None:
        """A patterned wall that follows the camera, and a soft vignette around the sitter."""
        s = self.style
        u, v = self.canvas.local(self.frames[Part.background])
        cos, sin = math.cos(s.background_angle), math.sin(s.background_angle)
        weight = pattern(s.background_pattern, cos * u + sin * v, cos * v - sin * u, s.background_frequency)
        colours = blend(*s.background, weight) * (1 - 0.12 * (u * u + v * v))[..., None]
        self.canvas.paint(np.ones_like(u), colours, Part.background)

    def hair_colours(self, u: Array, v: Array) -> Array:
        """Strands that radiate from the crown, with a ring of light."""
        s = self.style
        angle, radius = np.arctan2(u, v + 0.62), np.sqrt(u * u + (v + 0.62) ** 2)
        strands = 0.5 + 0.5 * np.cos(s.streaks * angle + 1.5 * np.sin(3 * radius))
        gloss = 0.35 * np.exp(-40 * (radius - 0.42) ** 2)
        weight = np.clip(s.streak_strength * strands * smooth_step(radius, 0.05, 0.5) + gloss, 0, 1)
        return blend(s.hair, s.streak, weight) * (1.04 - 0.16 * np.clip(v, -1, 1.5))[..., None]

    def draw_body(self) -> None:
        """Hair behind the head, shoulders with a patterned garment, neck."""
        lo, s, canvas = self.layout, self.style, self.canvas
        if lo.hair_length > 0:
            window, u, v = self.around(Part.hair, 1.6)
            fall = box(u / 0.98, (v - 0.75 * lo.hair_length) / (0.75 * lo.hair_length), 0.4)
            alpha = window.coverage(np.minimum(ellipse(u, v), fall), self.frames[Part.hair])
            window.paint(alpha, self.hair_colours(u, v) * 0.8, Part.hair, "hair")
        u, v = canvas.local(self.frames[Part.cloth])
        alpha = canvas.coverage(0.75 * (0.3 * u * u * np.sqrt(np.abs(u)) - 0.42 - v), self.frames[Part.cloth])
        weight = pattern(s.cloth_pattern, u, v, s.cloth_frequency)
        canvas.paint(alpha, blend(*s.cloth, weight) * (1.05 - 0.18 * np.abs(u))[..., None], Part.cloth)
        canvas.hide(("hair",), alpha)
        window, u, v = self.around(Part.neck, 1.8)
        sides = np.maximum(np.abs(u) - 1, -1.2 - v)
        alpha = window.coverage(np.maximum(sides, v - 0.6 - lo.neckline * (1 - u * u)), self.frames[Part.neck])
        window.paint(alpha, self.shaded_skin(u, 0.3 * v) * (0.86 + 0.06 * v)[..., None], Part.neck)
        window.hide(("hair",), alpha)

    def draw_head(self) -> None:
        """Ears, earrings, face with blush and freckles, hair in front."""
        lo, s = self.layout, self.style
        for ear, ring, name in ((Part.l_ear, Part.l_earring, "l_ear"), (Part.r_ear, Part.r_earring, "r_ear")):
            window, u, v = self.around(ear)
            alpha = window.coverage(ellipse(u, v), self.frames[ear])
            shade = 0.93 - 0.12 * np.exp(-4 * (u * u + v * v))
            window.paint(alpha, self.shaded_skin(0.5 * u, 0.5 * v) * shade[..., None], ear, name)
            window.hide(("hair",), alpha)
            if lo.earrings:
                window, u, v = self.around(ring)
                alpha = window.coverage(ellipse(u, v), self.frames[ring])
                window.paint(alpha, s.metal * (1.05 - 0.3 * (u + v))[..., None], ring)
        window, u, v = self.around(Part.skin, 1.1)
        alpha = window.coverage(egg(u, v, lo.taper), self.frames[Part.skin])
        colours: Array = self.shaded_skin(u, v)
        cheeks = np.exp(-9 * ((np.abs(u) - 0.5) ** 2 + (v - 0.32) ** 2))
        colours -= (s.blush * cheeks)[..., None] * np.array([0, 0.16, 0.12], np.float32)
        spots = s.freckles * smooth_step(np.cos(15 * u + 4 * v) * np.cos(13 * v - 5 * u), 0.35, 0.8)
        colours *= (1 - spots * np.exp(-6 * (v - 0.22) ** 2))[..., None]
        window.paint(alpha, colours, Part.skin, "skin")
        window.hide(("hair", "l_ear", "r_ear"), alpha)
        if lo.hair_length > 0:
            self.draw_fringe()

    def draw_fringe(self) -> None:
        """Hair over the forehead: inside the crown, above a hairline that parts to one side."""
        lo = self.layout
        window, u, v = self.around(Part.hair, 1.05)
        line = -0.95 + lo.fringe * (0.55 + 0.9 * (u - 0.5 * lo.parting) ** 2) + 0.1 * np.cos(5 * (u - lo.parting))
        alpha = window.coverage(np.maximum(ellipse(u, v), v - line), self.frames[Part.hair])
        window.paint(alpha, self.hair_colours(u, v), Part.hair, "hair")
        window.hide(("skin", "l_ear", "r_ear"), alpha)

    def draw_eyes(self) -> None:
        """Make-up on the lids, eyes, irises, brows."""
        s = self.style
        for eye, iris, brow, side in (
            (Part.l_eye, Part.l_iris, Part.l_brow, "l_"),
            (Part.r_eye, Part.r_iris, Part.r_brow, "r_"),
        ):
            window, u, v = self.around(eye, 2.2)
            alpha = window.coverage(ellipse(u, v), self.frames[eye])
            lid = np.exp(-1.2 * (0.6 * u * u + (0.55 * v + 0.55) ** 2) ** 1.5)
            window.paint(s.shadow_strength * lid, s.shadow)
            white = 0.97 - 0.1 * (u * u + v * v) - 0.12 * smooth_step(-v, 0.2, 1.0)
            window.paint(alpha, white[..., None] * np.array([1, 0.98, 0.96], np.float32), eye, f"{side}eye")
            ui, vi = window.local(self.frames[iris])
            radius = np.sqrt(ui * ui + vi * vi)
            colours = blend(s.iris, s.iris * 0.45, smooth_step(radius, 0.55, 1.0))
            colours *= smooth_step(radius, 0.3, 0.5)[..., None]
            colours += 0.8 * np.exp(-18 * ((ui + 0.35) ** 2 + (vi + 0.35) ** 2))[..., None]
            window.paint(window.coverage(radius - 1, self.frames[iris]) * alpha, colours, iris)
            lash = window.coverage(np.abs(ellipse(u, v)) - 0.1, self.frames[eye])
            window.paint(lash * (v < 0.1), s.brow * 0.5)
            window, u, v = self.around(brow, 1.3)
            bow = ellipse(u, 0.8 * v + 0.7 * (u * u - 0.4))
            alpha = window.coverage(bow, self.frames[brow])
            window.paint(alpha, s.brow * (1 + 0.25 * np.cos(9 * u))[..., None], brow, f"{side}brow")

    def draw_nose_and_mouth(self) -> None:
        """The nose by its light and nostrils, the lips around an open or closed mouth."""
        lo, s = self.layout, self.style
        window, u, v = self.around(Part.nose, 1.2)
        alpha = window.coverage(ellipse(u / (0.55 + 0.4 * np.clip(v, -1, 1)), v), self.frames[Part.nose])
        shade = 1.04 + 0.5 * s.light[0] * u - 0.18 * smooth_step(np.abs(u), 0.4, 1.0) - 0.12 * smooth_step(v, 0.5, 1.0)
        nostril = np.exp(-30 * ((np.abs(u) - 0.45) ** 2 + 0.25 * (v - 0.85) ** 2))
        window.paint(alpha, s.skin * (shade * (1 - 0.55 * nostril))[..., None], Part.nose, "nose")
        window = self.canvas.near(self.frames[Part.mouth], 2.5)
        for part, name in ((Part.mouth, "mouth"), (Part.u_lip, "u_lip"), (Part.l_lip, "l_lip")):
            u, v = window.local(self.frames[part])
            height = np.linalg.norm(self.frames[part][:, 1]) / np.linalg.norm(self.frames[part][:, 0])
            v = v + 0.3 * lo.smile * (u * u - 0.3) / float(height)
            alpha = window.coverage(ellipse(u, v), self.frames[part])
            if part == Part.mouth:
                colours = blend((0.25, 0.05, 0.06), (0.95, 0.93, 0.9), smooth_step(-v, -0.1, 0.35))
            else:
                colours = s.lip * (1.0 + 0.22 * np.exp(-6 * (u * u + (v - 0.1) ** 2)) - 0.12 * np.abs(u))[..., None]
            window.paint(alpha, colours, part, name)

    def draw_glasses(self) -> None:
        """Two rims, a bridge and tinted lenses."""
        lo, s = self.layout, self.style
        if not lo.glasses:
            return
        frame = self.frames[Part.glasses]
        window, u, v = self.around(Part.glasses, 2.2)
        near = 1 - 0.22 * lo.yaw * np.sign(u)
        lens = box((np.abs(u) - near) / 0.72, v / 0.62, 0.5) * 0.65
        rim = np.minimum(np.abs(lens) - 0.07, np.maximum(np.abs(v + 0.15) - 0.07, np.abs(u) - 0.4))
        glass = window.coverage(lens, frame)
        window.paint(glass * s.lens, s.frame)
        window.paint(glass * 0.5 * np.exp(-30 * (u - v * 0.8 - np.sign(u) * near + 0.25) ** 2), (1.0, 1.0, 1.0))
        window.paint(window.coverage(rim, frame), s.frame, Part.glasses, "eye_g")


def render(layout: Layout, style: Style, size: int) -> Scene:
    """Draw one portrait of `size` x `size` pixels, with its part labels, frames and condition masks."""
    portrait = Portrait(layout, style, size)
    portrait.draw_background()
    portrait.draw_body()
    portrait.draw_head()
    portrait.draw_eyes()
    portrait.draw_nose_and_mouth()
    portrait.draw_glasses()
    image = (portrait.canvas.image * 255 + 0.5).clip(0, 255).astype(np.uint8)
    return Scene(image, portrait.canvas.labels, portrait.frames, portrait.canvas.masks)


def condition(scene: Scene) -> np.ndarray:
    """The 15 edge channels of CelebA-HQ for a drawn portrait, (15, H, W) uint8; distances as in a 256-pixel image."""
    grey = (scene.image @ np.array([19595, 38470, 7471]) + 32768 >> 16).astype(np.uint8)
    masks = {name: mask for name, mask in scene.masks.items() if mask.any()}
    return edge_condition(grey, masks, pixel=256 / len(grey))
