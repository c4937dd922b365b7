"""Task `churches`: a church in a landscape. Plan and position are the layout; stone, tiles, sky and light the style.

Surfaces are measured in units of their own part, so a course of stones or tiles corresponds on all buildings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midms.conditions.segmentation import SEGMENTATION_CHANNELS
from midms.data.procedural.drawing import Array, Canvas, Drawing, affine, blend, ellipse, pattern, smooth_step
from midms.data.procedural.plan import ADE20K, CLASSES, IDS, SURROUNDINGS, Layout, Part, frames, sample_layout
from midms.data.procedural.scene import Scene

__all__ = ["ADE20K", "CLASSES", "IDS", "SURROUNDINGS", "Layout", "Part", "Style", "condition", "frames", "render",
           "sample_layout", "sample_style"]  # fmt: skip


@dataclass(frozen=True)
class Style:
    """Appearance of a church; colours are RGB in [0, 1]."""

    zenith: Array
    haze: Array
    cloud: Array
    clouds: float
    cloud_frequency: float
    sun: tuple[float, float, float]  # position in the sky and radius
    sunlight: Array
    tint: Array  # of the whole scene
    side: float  # which side the light comes from
    stone: tuple[Array, Array]
    courses: float
    trim: Array
    tiles: tuple[Array, Array]
    tile_rows: float
    glass: tuple[Array, Array]
    glow: float
    wood: tuple[Array, Array]
    grass: tuple[Array, Array]
    mown: int
    path: tuple[Array, Array]
    leaves: tuple[Array, Array]
    needles: tuple[Array, Array]
    flowers: Array
    rock: tuple[Array, Array]
    snow: float


#: Zenith, haze, cloud, sunlight, tint: clear day, golden evening, pink dawn, grey day, blue hour.
SKIES = [((0.25, 0.5, 0.85), (0.74, 0.87, 0.96), (0.98, 0.98, 1.0), (1.0, 0.96, 0.78), (1.05, 1.03, 1.0)),
         ((0.36, 0.4, 0.66), (0.99, 0.73, 0.42), (0.99, 0.58, 0.42), (1.0, 0.88, 0.52), (1.08, 0.92, 0.76)),
         ((0.55, 0.62, 0.86), (0.99, 0.82, 0.8), (0.99, 0.7, 0.72), (1.0, 0.93, 0.82), (1.02, 0.94, 0.97)),
         ((0.6, 0.66, 0.7), (0.86, 0.88, 0.88), (0.94, 0.94, 0.94), (0.97, 0.97, 0.95), (0.9, 0.92, 0.95)),
         ((0.07, 0.1, 0.3), (0.3, 0.36, 0.6), (0.22, 0.25, 0.46), (0.96, 0.96, 0.88), (0.52, 0.56, 0.8))]  # fmt: skip
STONE = [(0.82, 0.76, 0.64), (0.66, 0.63, 0.6), (0.74, 0.48, 0.38), (0.93, 0.91, 0.86), (0.72, 0.6, 0.44),
         (0.6, 0.36, 0.3)]  # fmt: skip
TILES = [(0.66, 0.3, 0.22), (0.34, 0.37, 0.44), (0.3, 0.52, 0.46), (0.46, 0.32, 0.24), (0.24, 0.25, 0.3)]
LEAVES = [(0.28, 0.48, 0.2), (0.4, 0.56, 0.22), (0.8, 0.46, 0.16), (0.92, 0.66, 0.72), (0.72, 0.3, 0.18)]
GLASS = [(0.2, 0.3, 0.62), (0.62, 0.18, 0.24), (0.16, 0.46, 0.4), (0.2, 0.22, 0.28), (0.85, 0.62, 0.22)]


def sample_style(rng: np.random.Generator) -> Style:
    """Draw a random style. Every surface varies in space, so one mean colour per part scores badly."""
    u = rng.uniform

    def near(palette: list[tuple[float, float, float]], spread: float = 0.05) -> Array:
        colour = np.array(palette[rng.integers(len(palette))]) + u(-spread, spread, 3)
        return np.clip(colour, 0.02, 0.98).astype(np.float32)

    def pair(palette: list[tuple[float, float, float]], contrast: float) -> tuple[Array, Array]:
        colour = near(palette)
        return colour, np.clip(colour + u(-contrast, contrast) + u(-0.06, 0.06, 3), 0, 1).astype(np.float32)

    hour = int(rng.choice(5, p=[0.36, 0.2, 0.14, 0.15, 0.15]))
    zenith, haze, cloud, sunlight, tint = (np.array(c, np.float32) for c in SKIES[hour])
    jitter = u(-0.05, 0.05, 3).astype(np.float32)
    return Style(
        zenith=zenith + jitter, haze=haze + jitter, cloud=cloud, clouds=u(0.2, 0.95), cloud_frequency=u(1.2, 2.4),
        sun=(u(-0.8, 0.8), u(-0.7, 0.0), u(0.07, 0.14)), sunlight=sunlight, tint=tint, side=float(rng.choice([-1, 1])),
        stone=pair(STONE, 0.2), courses=u(3.0, 5.0), trim=near([(0.92, 0.9, 0.84), (0.5, 0.46, 0.42)]),
        tiles=pair(TILES, 0.16), tile_rows=u(2.5, 4.5), glass=pair(GLASS, 0.4), glow=float(hour == 4) * u(0.6, 1),
        wood=pair([(0.42, 0.26, 0.14), (0.3, 0.18, 0.12), (0.55, 0.16, 0.14), (0.16, 0.3, 0.34)], 0.12),
        grass=pair([(0.4, 0.6, 0.26), (0.54, 0.62, 0.3), (0.72, 0.66, 0.36), (0.9, 0.93, 0.96)], 0.14),
        mown=int(rng.integers(5)), path=pair([(0.82, 0.74, 0.6), (0.62, 0.6, 0.58), (0.7, 0.5, 0.4)], 0.14),
        leaves=pair(LEAVES, 0.22), needles=pair([(0.14, 0.34, 0.24), (0.22, 0.4, 0.34), (0.28, 0.36, 0.18)], 0.16),
        flowers=near([(0.94, 0.4, 0.5), (0.98, 0.85, 0.3), (0.7, 0.5, 0.9), (0.97, 0.97, 0.95)]),
        rock=pair([(0.5, 0.54, 0.66), (0.46, 0.5, 0.46), (0.6, 0.5, 0.46)], 0.16), snow=u(0, 1),
    )  # fmt: skip


def courses(u: Array, v: Array, rows: float, columns: float) -> tuple[Array, Array]:
    """Staggered blocks: a tone of each block in [0, 1], and the joints between them, 1 in the middle of a joint."""
    y = v * rows
    row = np.floor(y)
    x = u * columns + 0.5 * (row % 2)
    column = np.floor(x)
    tone = 0.5 + 0.5 * np.sin(2.1 * row + 4.3 * column + 1.7 * np.sin(row * column))
    joint = np.maximum(smooth_step(np.abs(y - row - 0.5), 0.34, 0.5), smooth_step(np.abs(x - column - 0.5), 0.4, 0.5))
    return tone, joint


IMAGE = affine((0.0, 0.0))


class Church(Drawing):
    """A church being drawn, with one method per group of parts."""

    def __init__(self, layout: Layout, style: Style, size: int) -> None:
        super().__init__(frames(layout), size)
        self.layout, self.style = layout, style

    def lay(self, window: Canvas, distance: Array, colours: Array, part: Part) -> None:
        """Paint a shape with the light of the style's sky."""
        window.paint(window.coverage(distance, self.frames[part]), colours * self.style.tint, part)

    def draw_sky(self) -> None:
        """From haze to zenith, with sun or moon and clouds."""
        s, canvas = self.style, self.canvas
        u, v = canvas.local(self.frames[Part.sky])
        colours = blend(s.zenith, s.haze, smooth_step(v, -0.9, 0.7))
        away = np.sqrt((u - s.sun[0]) ** 2 + (v - s.sun[1]) ** 2)
        light = np.maximum(smooth_step(away, s.sun[2] + 0.02, s.sun[2] - 0.02), 0.35 * np.exp(-3 * away))
        colours += (s.sunlight - colours) * light[..., None]
        a, b = s.cloud_frequency * u, 2.2 * s.cloud_frequency * v
        puffs = np.sin(2 * a + 1.5 * np.sin(b)) + np.sin(1.7 * b + np.sin(2.3 * a)) + 0.5 * np.sin(5 * a + 3 * b)
        colours += (s.cloud - colours) * (s.clouds * smooth_step(puffs, 0.2, 1.6))[..., None]
        canvas.paint(np.ones_like(u), colours, Part.sky)

    def draw_land(self) -> None:
        """Mountain, meadow, path."""
        lo, s = self.layout, self.style
        if lo.mountain[2] > 0:
            window, u, v = self.around(Part.mountain, 1.1)
            ridge = 0.8 - 0.8 * np.abs(u) ** 1.3 + 0.1 * np.sin(9 * u) + 0.06 * np.sin(21 * u + 1)
            facets = smooth_step(np.sin(7 * u + 3 * v), -0.4, 0.4)
            snow = smooth_step(-v + 0.15 * np.sin(13 * u), 0.9 - s.snow, 1.1 - s.snow)[..., None]
            colours = blend(*s.rock, facets) * (1 - snow) + 0.95 * snow
            colours = 0.7 * colours + 0.3 * s.haze
            self.lay(window, -v - 2 * ridge + 1, colours, Part.mountain)
        window = self.canvas.near(affine((0, (lo.horizon + 1) / 2), (1, (1 - lo.horizon) / 2)), 1.05)
        u, v = window.local(self.frames[Part.grass])
        far = 1 / (0.35 + np.abs(v))
        weight = 0.7 * pattern(s.mown, u * far, 2.2 * np.log(far), 1.5) + 0.3 * smooth_step(v, 0.6, 0)
        self.lay(window, -v, blend(*s.grass, weight), Part.grass)
        if lo.path < 2:
            bend = (lo.path - lo.foot[0]) / (lo.door[0] * lo.scale)
            window, u, v = self.around(Part.path, 2 + abs(bend) + 1.5)
            middle = bend * np.clip(v, 0, 1) ** 2
            across = (u - middle) / (1 + 1.6 * np.clip(v, 0, 1))
            tone, joint = courses(u / (1 + 1.6 * np.clip(v, 0, 1)), v, 5.0, 1.5)
            colours = blend(*s.path, tone) * (1 - 0.2 * joint)[..., None]
            # the frame is far taller than wide: measure across, where the edges are
            alpha = window.coverage(np.maximum(np.abs(across) - 1, -v * 2) * self.extents[Part.path][0], IMAGE)
            window.paint(alpha, colours * s.tint, Part.path)

    def draw_wall(self, part: Part, rows: float, columns: float, gable: bool = False) -> None:
        """Stone courses, lit from one side, in a rectangle or a triangle with a coping."""
        s = self.style
        window, u, v = self.around(part, 1.1)
        tone, joint = courses(u, v, rows * s.courses / 4, columns * s.courses / 4)
        shade = (1 - 0.22 * joint) * (1.0 + 0.1 * s.side * u) * (1 - 0.1 * smooth_step(v, 0.6, 1.1))
        colours = blend(*s.stone, tone) * shade[..., None]
        if gable:
            edge = np.abs(u) - (v + 1) / 2
            weight = smooth_step(edge, -0.16, -0.12)[..., None]
            distance = np.maximum(edge, v - 1)
        else:
            weight = np.maximum(smooth_step(np.abs(u), 0.88, 0.9), smooth_step(-v, 0.93, 0.95))[..., None] * 0.8
            distance = np.maximum(np.abs(u), np.abs(v)) - 1
        width, height = self.extents[part]
        unit = min(width, height) / (width * height) ** 0.5  # edges of long rectangles keep their sharpness
        self.lay(window, distance * unit, colours + (s.trim - colours) * weight, part)

    def draw_roof(self, part: Part, kind: int, rows: float, columns: float) -> None:
        """Tiles on a spire (0), dome (1), low pyramid (2) or the long side's slope (3)."""
        s = self.style
        window, u, v = self.around(part, 1.3)
        if kind == 3:
            distance = np.maximum(np.maximum(np.abs(v) - 1, np.abs(u) - 1.03), -1.05 - v)
        elif kind == 1:
            onion = 0.95 * np.sqrt(np.maximum(1 - np.clip(0.5 - 0.7 * v, -0.3, 1) ** 2, 0))
            distance = np.maximum(np.abs(u) - onion, v - 1)
            distance = np.minimum(distance, np.maximum(np.abs(u) - 0.07, np.maximum(v, -1.25 - v)))
        else:
            apex, slope = (-0.2, 0.86) if kind == 2 else (-1.0, 0.52)
            distance = np.maximum(np.abs(u) - (v - apex) * slope, v - 1)
        tone, joint = courses(u, v, rows * s.tile_rows / 3, columns * s.tile_rows / 3)
        shade = (1 - 0.2 * joint) * (1.0 + 0.22 * s.side * np.clip(u, -1, 1)) * (0.95 + 0.1 * v)
        self.lay(window, distance * 0.8, blend(*s.tiles, tone) * shade[..., None], part)

    def draw_window(self, part: Part, louvres: bool = False) -> None:
        """A pointed arch of coloured panes, or the dark slats of a belfry."""
        s = self.style
        window, u, v = self.around(part, 1.25)
        arch = np.abs(u) - np.clip(1.15 * np.sqrt(np.clip((v + 1) / 0.9, 0, 1)), 0, 1)
        distance = np.maximum(arch, v - 1)
        if louvres:
            colours = blend(s.stone[0] * 0.3, s.stone[1] * 0.6, 0.5 + 0.5 * np.sin(9 * v))
        else:
            panes = smooth_step(np.sin(2.2 * np.pi * u) * np.sin(2.6 * np.pi * v), -0.3, 0.3)
            colours = self.lit(blend(*s.glass, panes), 0.6 + 0.4 * np.cos(1.5 * v))
        rim = smooth_step(distance, -0.32, -0.26)[..., None]
        colours = colours * (1 - rim) + s.trim * s.tint * rim
        window.paint(window.coverage(distance * 0.7, self.frames[part]), colours, part)

    def lit(self, colours: Array, warmth: Array) -> Array:
        """Glass by day under this sky, by night with candles behind it."""
        s = self.style
        glow = (s.glow * warmth)[..., None]
        return colours * s.tint * (1 - glow) + (0.35 * colours + np.array([0.75, 0.55, 0.2], np.float32)) * glow

    def draw_front(self) -> None:
        """Rose window, door, clock: what the front carries."""
        lo, s = self.layout, self.style
        if lo.rose:
            window, u, v = self.around(Part.rose, 1.2)
            radius, angle = np.sqrt(u * u + v * v), np.arctan2(u, v)
            petals = smooth_step(np.cos(8 * angle) * smooth_step(radius, 0.15, 0.35), -0.35, 0.35)
            rim = np.maximum(smooth_step(radius, 0.74, 0.8), smooth_step(radius, 0.2, 0.14))[..., None]
            colours = self.lit(blend(*s.glass, petals), 1 - 0.4 * radius) * (1 - rim) + s.trim * s.tint * rim
            window.paint(window.coverage(radius - 1, self.frames[Part.rose]), colours, Part.rose)
        window, u, v = self.around(Part.door, 1.2)
        distance = np.maximum(np.abs(u) - np.sqrt(np.clip(1 - np.clip(-v, 0, 1) ** 2, 0, 1)), v - 1)
        planks = blend(*s.wood, 0.5 + 0.5 * np.cos(3 * np.pi * u)) * (1.05 - 0.15 * v)[..., None]
        rim = np.maximum(smooth_step(distance, -0.26, -0.18), 0.9 * np.exp(-900 * u * u))[..., None]
        self.lay(window, distance * 0.8, planks * (1 - rim) + s.trim * rim, Part.door)
        if lo.clock and any(lo.towers):
            window, u, v = self.around(Part.clock, 1.2)
            radius = np.sqrt(u * u + v * v)
            thin = smooth_step(np.abs(u), 0.16, 0.08) * (v < 0.1)
            hands = np.maximum(thin, smooth_step(np.abs(v), 0.16, 0.08) * (u > 0))
            ink = np.maximum(hands * (radius < 0.7), smooth_step(radius, 0.78, 0.84))[..., None]
            self.lay(window, radius - 1, 0.96 * (1 - ink) + s.tiles[0] * 0.6 * ink, Part.clock)

    def draw_tower(self, side: str) -> None:
        """Shaft, roof and belfry of the tower "c" behind the gable, "l" or "r"."""
        self.draw_wall(Part[f"{side}_tower"], 6.5, 1.6)
        self.draw_roof(Part[f"{side}_spire"], self.layout.roof, 3.5, 2.0)
        self.draw_window(Part[f"{side}_belfry"], louvres=True)

    def draw_plants(self) -> None:
        """Oaks, pines, a bush in flower."""
        lo, s = self.layout, self.style
        for part, (_, height) in zip((Part.l_pine, Part.r_pine), lo.trees[2:], strict=True):
            if height:
                window, u, v = self.around(part, 1.1)
                tier = (v + 1) * 1.9 % 1
                cone = np.maximum(np.abs(u) - (v + 1) * (0.36 + 0.16 * tier), v - 0.8)
                shape = np.minimum(cone, np.maximum(np.abs(u) - 0.13, np.maximum(v - 1, -v)))
                weight = 0.6 * (1 - tier) + 0.3 + 0.25 * s.side * np.clip(u, -1, 1)
                colours = blend(*s.needles, np.clip(weight, 0, 1))
                self.lay(window, shape * 0.7, np.where((v > 0.8)[..., None], s.wood[0], colours), part)
        for part, (_, height) in zip((Part.l_oak, Part.r_oak), lo.trees[:2], strict=True):
            if height:
                window, u, v = self.around(part, 1.1)
                w = (v + 0.32) / 0.68
                angle = np.arctan2(u, w)
                crown = np.sqrt(u * u + w * w) - 0.93 - 0.06 * np.cos(9 * angle)
                trunk = np.maximum(np.abs(u) - 0.1 - 0.08 * np.clip(v - 0.7, 0, 1), np.maximum(v - 1, -v))
                weight = pattern(4, 1.3 * u, 1.3 * v, 2.6) + 0.3 * s.side * u - 0.25 * w
                colours = np.where((crown > 0)[..., None], s.wood[0], blend(*s.leaves, np.clip(weight, 0, 1)))
                self.lay(window, np.minimum(crown, trunk), colours, part)
        if lo.bush < 1.5:
            window, u, v = self.around(Part.bush, 1.3)
            shape = np.maximum(ellipse(u, (v - 0.5) / 0.95) - 0.05 * np.cos(12 * u), v - 0.55)
            blossom = smooth_step(np.cos(9 * u + 2 * v) * np.cos(8 * v - 2 * u), 0.35, 0.65)[..., None]
            colours = blend(*s.leaves, 0.5 - 0.5 * v) * 0.85
            self.lay(window, shape, colours * (1 - blossom) + s.flowers * blossom, Part.bush)


def render(layout: Layout, style: Style, size: int) -> Scene:
    """Draw one church of `size` x `size` pixels, with its part labels and frames."""
    church = Church(layout, style, size)
    church.draw_sky()
    church.draw_land()
    if layout.wing:
        church.draw_wall(Part.wing, 3.0, 4.0)
        church.draw_roof(Part.wing_roof, 3, 2.5, 5.0)
        for index in range(layout.windows):
            church.draw_window(Part(Part.window_0 + index))
    if layout.towers[0]:
        church.draw_tower("c")
    church.draw_wall(Part.gable, 2.5, 3.0, gable=True)
    church.draw_wall(Part.nave, 3.5, 3.0)
    for side, tower in zip("lr", layout.towers[1:], strict=True):
        if tower:
            church.draw_tower(side)
    if layout.lancets:
        church.draw_window(Part.l_lancet)
        church.draw_window(Part.r_lancet)
    church.draw_front()
    church.draw_plants()
    image = (church.canvas.image * 255 + 0.5).clip(0, 255).astype(np.uint8)
    return Scene(image, church.canvas.labels, church.frames, {})


def condition(scene: Scene) -> np.ndarray:
    """The ADE20K classes of a drawn church as (151, H, W) uint8, 255 where channel c is the pixel's class, else 0."""
    classes = IDS[scene.labels]
    maps = np.zeros((SEGMENTATION_CHANNELS, *classes.shape), np.uint8)
    np.put_along_axis(maps, classes[None], 255, axis=0)
    return maps
