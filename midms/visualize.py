"""Pictures of a translation's intermediate results.

Primitives: grids with captions, masks over images, colours for coordinates, curves. Figures of one pair, made from the
result of `loop_pictures`: the iterations (Figure 3), the x0 predictions (Figure 11), the correspondence as colours and
as lines, and an animation of the loop.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from midms.diffusion.interleave import StepRecord
from midms.io.files import atomic_write, write_atomically
from midms.io.provenance import SOFTWARE, png_bytes, software_exif

Pixels = NDArray[np.uint8]
Captioned = tuple[str, Tensor] | None  # a tile of a figure: caption and image (3, H, W) in [-1, 1]
#: Colours of classes 1 ... 150 as the field draws them (RGB, from the ADE20K toolkit; 7 and 49 share one), in order.
_ADE20K = """
    787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33
    ff0652 8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff
    08ffd6 07ffe0 ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff
    eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff
    0bc8c8 ff5200 00fff5 003dff 00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad
    0a00ff adff00 00ff99 ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2
    00ff52 000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa
    8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3
    ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff
    00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff
"""
#: RGB of every class, uint8 (151, 3); black for 0, "unlabelled".
ADE20K_COLOURS: NDArray[np.uint8] = np.frombuffer(bytes.fromhex("000000" + _ADE20K), np.uint8).reshape(-1, 3)


def to_pixels(images: Tensor) -> Pixels:
    """Images (..., 3 or 1, H, W) in [-1, 1] to uint8 (..., H, W, 3); values outside are clipped.

    Raises:
        ValueError: NaN or infinite values, which no picture can show.
    """
    if not bool(torch.isfinite(images).all()):
        raise ValueError("the computed picture holds NaN or infinite values; other settings or weights are needed")
    pixels = ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
    return pixels.expand(*pixels.shape[:-3], 3, *pixels.shape[-2:]).movedim(-3, -1).numpy()


def save_png(path: Path, pixels: Pixels, text: Mapping[str, str] | None = None) -> None:
    """Write uint8 (H, W, 3) as PNG, under another name and then renamed; `text` is written to the text chunks."""
    write_atomically(path, png_bytes(pixels, text))


def grid(columns: Sequence[tuple[str, Tensor]], cell: int = 128, gap: int = 3, title: str = "") -> Pixels:
    """Samples as rows, captioned columns: [(caption, (B, 3, H, W) in [-1, 1])] to one uint8 (H', W', 3) picture.

    A title gets a line of its own at the top.
    """
    rows = [
        [(caption if row == 0 else "", images[row]) for caption, images in columns] for row in range(len(columns[0][1]))
    ]
    picture = panels(rows, cell, gap)
    if not title:
        return picture
    line = Image.new("RGB", (picture.shape[1], _CAPTION), (255, 255, 255))
    ImageDraw.Draw(line).text((gap, _CAPTION // 2), title, (0, 0, 0), ImageFont.load_default(12), anchor="lm")
    return np.concatenate([np.asarray(line), picture])


def condition_image(condition: Tensor) -> Tensor:
    """A condition (B, L, H, W) in [0, 1] as a picture, (B, 3, H, W) in [-1, 1].

    Edge maps (15 channels): channel 0 in black on white. Poses (20 channels): the skeleton in OpenPose's usual colours
    (the network's input has red and blue exchanged). Class maps: ADE20K's colours, repeated for further classes.
    """
    if condition.shape[1] == 15:
        return (1 - 2 * condition[:, :1]).expand(-1, 3, -1, -1)
    if condition.shape[1] == 20:
        return 2 * condition[:, :3].flip(1) - 1
    colours = torch.tensor(ADE20K_COLOURS, device=condition.device).float() / 127.5 - 1  # (151, 3)
    return colours[condition.argmax(dim=1) % len(colours)].movedim(-1, 1)  # (B, 3, H, W)


def overlay(image: Tensor, mask: Tensor) -> Tensor:
    """Images (B, 3, H, W) with the rejected part of a mask (B, 1, h, w) tinted red."""
    large = torch.nn.functional.interpolate(mask.float(), image.shape[-2:], mode="nearest")
    red = torch.tensor([0.6, -0.9, -0.9], device=image.device).view(1, 3, 1, 1)
    return image * large + (0.4 * image + 0.6 * red) * (1 - large)


def coordinate_colours(coordinates: Tensor) -> Tensor:
    """Coordinates (B, 2, H, W) in [-1, 1] as colours (B, 3, H, W): red grows with x, green with y."""
    blue = -coordinates.mean(dim=1, keepdim=True)
    return torch.cat([coordinates, blue], dim=1).clamp(-1, 1)


def curves(
    path: Path,
    table: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    marks: Mapping[float, str] | None = None,
) -> None:
    """One small plot for each name of points (step, value), written as PNG.

    Steps of `marks` get a dashed line in every plot, and their texts stand below the title.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and no other picture needs it

    names = sorted(table)
    rows = max(1, -(-len(names) // 3))
    figure = Figure(figsize=(12, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, names, strict=False):
        axis.plot(*zip(*table[name], strict=True), linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.3)
        for step in marks or {}:
            axis.axvline(step, color="black", linestyle="--", linewidth=0.8)
    lines = [f"dashed, step {step:g}: {text}" for step, text in (marks or {}).items()]
    figure.suptitle("\n".join([title, *lines]), fontsize=10)
    save_figure(path, figure, dpi=90)


def save_figure(path: Path, figure: Any, dpi: int) -> None:
    """Write a figure of matplotlib; a PNG names this software."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=dpi, metadata={"Software": SOFTWARE} if path.suffix.lower() == ".png" else None)


#: Figures of one translation, by the name that `loop_pictures` takes.
FIGURES = ("steps", "predictions", "correspondence", "animation")
_ITERATIONS, _PREDICTIONS = 3, 12  # steps that the first two show
_CAPTION = 18  # pixels of a line of text


class StepPictures(NamedTuple):
    """One step of the loop; images are (3, H, W) in [-1, 1]."""

    n: int
    prediction: Tensor | None  # x0 before the re-warp; None: no figure shows it
    warp: Tensor | None = None  # re-warped exemplar; None: no re-warp, or no figure shows it
    mask: Tensor | None = None  # (1, h, w): 1 where that warp was trusted; None: no re-warp


class LoopPictures(NamedTuple):
    """One translation, step by step; images are (3, H, W) in [-1, 1]."""

    condition: Tensor  # as `condition_image` shows it
    exemplar: Tensor
    first_warp: Tensor | None  # None: no figure shows it
    steps: list[StepPictures]  # n = N ... 1
    result: Tensor
    correspondence: Tensor | None = None  # (2, h, w): (x, y) in the exemplar, [-1, 1] (align-corners)


def loop_pictures(
    condition: Tensor,
    exemplar: Tensor,
    first_warp: Tensor | None,
    records: Sequence[StepRecord],
    decode_all: Callable[[Sequence[Tensor], tuple[int, int]], list[Tensor]],
    result: Tensor,
    correspondence: Tensor | None = None,
    figures: Collection[str] = FIGURES,
) -> LoopPictures:
    """Collect the pictures of one pair; only what the figures show is decoded, all at once.

    Args:
        condition, exemplar: (3, H, W) in [-1, 1].
        first_warp, result, correspondence: of that pair alone, as `MIDMsPipeline` returns them; the first and the last
            may be None if no figure shows them.
        records: the `StepRecord`s given to its callback.
        decode_all: `MIDMsPipeline.decode_all`: latents and (H, W) to images.
        figures: which of `FIGURES` the pictures are for.
    """
    steps = [StepPictures(r.n, None, mask=r.rewarp.mask[0].float().cpu() if r.rewarp else None) for r in records]
    warped = {step.n for step in _iterations(steps)} if "steps" in figures else set()
    predicted = warped | ({step.n for step in _spread(steps, _PREDICTIONS)} if "predictions" in figures else set())
    if "animation" in figures:
        warped = predicted = {step.n for step in steps}
    latents = {("prediction", r.n): r.prediction for r in records if r.n in predicted}
    latents |= {("warp", r.n): r.rewarp.warp for r in records if r.n in warped and r.rewarp is not None}
    size = (int(result.shape[-2]), int(result.shape[-1]))
    images = {name: image[0].cpu() for name, image in zip(latents, decode_all([*latents.values()], size), strict=True)}
    steps = [s._replace(prediction=images.get(("prediction", s.n)), warp=images.get(("warp", s.n))) for s in steps]
    first = None if first_warp is None else first_warp[0].cpu()
    field = None if correspondence is None else correspondence[0].cpu()
    return LoopPictures(condition.cpu(), exemplar.cpu(), first, steps, result[0].cpu(), field)


def iterations_figure(pictures: LoopPictures, shown: int = _ITERATIONS, cell: int = 160) -> Pixels:
    """Figure 3 for any pair: exemplar and condition, the first warp, some steps of the loop, the result.

    Each step has a column with its prediction, the exemplar warped to that prediction, and the warp with the parts
    rejected by the mask in red.

    Args:
        shown: number of steps, evenly spaced from the first; steps with a re-warp are preferred.
        cell: height of a tile.
    """
    steps = _iterations(pictures.steps, shown)
    columns: list[list[Captioned]] = [
        [
            ("exemplar", pictures.exemplar),
            ("condition", pictures.condition),
            ("first warp", _decoded(pictures.first_warp)),
        ]
    ]
    for step in steps:
        columns.append([(f"n = {step.n}: prediction", _decoded(step.prediction))])
        if step.warp is not None:
            columns[-1] += [("new warp", step.warp), ("rejected in red", _masked(step))]
    columns.append([("result", pictures.result)])
    return panels(list(zip_longest(*columns)), cell)


def predictions_figure(pictures: LoopPictures, shown: int = _PREDICTIONS, columns: int = 6, cell: int = 160) -> Pixels:
    """Figure 11 for any pair: the x0 prediction of each step n = N ... 1 (at most `shown` of them), and the result."""
    tiles: list[Captioned] = [(f"n = {step.n}", _decoded(step.prediction)) for step in _spread(pictures.steps, shown)]
    tiles = [("first warp", _decoded(pictures.first_warp)), *tiles, ("result", pictures.result)]
    return panels([tiles[start : start + columns] for start in range(0, len(tiles), columns)], cell)


def correspondence_field(coordinates: Tensor, size: tuple[int, int]) -> Tensor:
    """Matched exemplar coordinates (2, h, w) in [-1, 1] as colours (3, H, W), enlarged by nearest neighbour."""
    colours = coordinate_colours(coordinates[None].float())
    return torch.nn.functional.interpolate(colours, size, mode="nearest")[0]


def correspondence_lines(
    condition: Tensor, exemplar: Tensor, coordinates: Tensor, count: int = 20, cell: int = 256, gap: int = 6
) -> Pixels:
    """Condition and exemplar side by side, with lines from positions of the condition to their matches.

    A line has the colour of its match in `correspondence_field`.

    Args:
        condition, exemplar: (3, H, W) in [-1, 1], of any two sizes.
        coordinates: (2, h, w): (x, y) in the exemplar, [-1, 1] (align-corners).
        count: number of lines; they start at different heights, distributed over the condition.
        cell: height of the pictures.
    """
    left, right = _tile(condition, 2 * cell), _tile(exemplar, 2 * cell)  # twice as large, for smooth lines
    canvas = Image.new("RGB", (left.width + 2 * gap + right.width, 2 * cell), (255, 255, 255))
    canvas.paste(left, (0, 0))
    canvas.paste(right, (left.width + 2 * gap, 0))
    draw = ImageDraw.Draw(canvas)
    h, w = coordinates.shape[-2:]
    factor = max(1.0, condition.shape[-1] / w)  # pixels per position
    places = torch.tensor([max(1, round(side / factor)) for side in (exemplar.shape[-1], exemplar.shape[-2])])
    colours = to_pixels(coordinate_colours(coordinates[None].float()))[0]  # (h, w, 3)
    for row, column in _scattered(h, w, count):
        x, y = ((coordinates[:, row, column].cpu() + 1) / 2 * (places - 1) + 0.5) / places
        red, green, blue = (int(value) for value in colours[row, column])
        start = ((column + 0.5) / w * left.width, (row + 0.5) / h * left.height)
        end = (left.width + 2 * gap + float(x) * right.width, float(y) * right.height)
        draw.line([start, end], fill=(red, green, blue), width=4)
        for place in (start, end):
            draw.circle(place, 8, fill=(red, green, blue), outline=(255, 255, 255), width=3)
    return np.asarray(canvas.resize((canvas.width // 2, cell), Image.Resampling.LANCZOS))


def correspondence_figure(pictures: LoopPictures, cell: int = 256) -> Pixels:
    """The first match of condition and exemplar: lines between them, and the field of colours beside its legend.

    Raises:
        ValueError: the pictures have no correspondence.
    """
    if pictures.correspondence is None:
        raise ValueError("no correspondence among the pictures; ask the pipeline for it by return_intermediates")
    gap = 6
    lines = correspondence_lines(pictures.condition, pictures.exemplar, pictures.correspondence, cell=cell, gap=gap)
    field = correspondence_field(pictures.correspondence, _height_width(pictures.condition))
    height, width = _height_width(pictures.exemplar)
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    legend = correspondence_field(torch.stack([x, y]), (height, width))
    below = panels(
        [
            [
                ("condition, in the colour of its match", 0.75 * field + 0.25 * pictures.condition),
                ("exemplar, in the colours of its places", 0.5 * legend + 0.5 * pictures.exemplar),
            ]
        ],
        cell,
        gap,
    )
    above = np.full((cell + 2 * gap, below.shape[1], 3), 255, np.uint8)
    columns = min(lines.shape[1], above.shape[1] - gap)
    above[gap : gap + cell, gap : gap + columns] = lines[:, :columns]
    return np.concatenate([above, below])


def animation(pictures: LoopPictures, cell: int = 192) -> list[Pixels]:
    """Frames of the loop: condition and exemplar beside first warp, predictions, new warps with their masks, result."""
    current: list[tuple[str, Tensor]] = [("first warp", _decoded(pictures.first_warp))]
    for step in pictures.steps:
        current.append((f"n = {step.n}: prediction", _decoded(step.prediction)))
        if step.warp is not None:
            current += [(f"n = {step.n}: new warp", step.warp), (f"n = {step.n}: rejected in red", _masked(step))]
    current.append(("result", pictures.result))
    beside: list[Captioned] = [("condition", pictures.condition), ("exemplar", pictures.exemplar)]
    return [panels([[*beside, frame]], cell) for frame in current]


def save_animation(path: Path, frames: Sequence[Pixels], milliseconds: int = 600, last: int = 2400) -> None:
    """Write frames of one size as an endless GIF or WebP, by the file's extension; the last one is shown longer.

    Raises:
        ValueError: no frame, or another extension.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("gif", "webp") or not frames:
        raise ValueError(f"{path}: {len(frames)} frames; expected at least one, and a name ending in .gif or .webp")
    images = [Image.fromarray(frame) for frame in frames]
    durations = [milliseconds] * (len(images) - 1) + [last]
    stream = io.BytesIO()
    options: dict[str, Any] = {"comment": SOFTWARE} if kind == "gif" else {"quality": 90, "exif": software_exif()}
    images[0].save(stream, kind, save_all=True, append_images=images[1:], duration=durations, loop=0, **options)
    write_atomically(path, stream.getvalue())


def panels(rows: Sequence[Sequence[Captioned]], cell: int = 160, gap: int = 6) -> Pixels:
    """Captioned tiles of one height in rows; None leaves a cell empty. Columns are as wide as their widest tile.

    A row without captions (all of them "") has no caption line.
    """
    tiles = [[None if item is None else (item[0], _tile(item[1], cell)) for item in row] for row in rows]
    count = max(map(len, tiles))
    columns = [[row[k] for row in tiles if k < len(row)] for k in range(count)]
    widths = [max([tile[1].width for tile in column if tile is not None], default=0) for column in columns]
    lefts = [gap + sum(widths[:k]) + gap * k for k in range(count)]
    headers = [_CAPTION * any(tile is not None and tile[0] for tile in row) for row in tiles]
    height = sum(headers) + len(tiles) * (cell + gap)
    sheet = Image.new("RGB", (sum(widths) + gap * (count + 1), height), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, (row, header) in enumerate(zip(tiles, headers, strict=True)):
        top = sum(headers[:index]) + index * (cell + gap)
        for left, width, tile in zip(lefts, widths, row, strict=False):
            if tile is not None:
                draw.text((left + width // 2, top + header // 2), tile[0], (0, 0, 0), font, anchor="mm")
                sheet.paste(tile[1], (left + (width - tile[1].width) // 2, top + header))
    return np.asarray(sheet)


def _tile(image: Tensor, height: int) -> Image.Image:
    pixels = to_pixels(image)
    width = max(1, round(height * pixels.shape[1] / pixels.shape[0]))
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def _decoded(image: Tensor | None) -> Tensor:
    if image is None:
        raise ValueError("the pictures lack what this figure shows; name it among the `figures` of loop_pictures")
    return image


def _iterations(steps: Sequence[StepPictures], shown: int = _ITERATIONS) -> list[StepPictures]:
    """Steps of the iterations' figure, spread evenly; those that warp again are preferred."""
    return _spread([step for step in steps if step.mask is not None] or steps, shown)


def _masked(step: StepPictures) -> Tensor:
    assert step.warp is not None and step.mask is not None
    return overlay(step.warp[None], step.mask[None])[0]


def _spread(items: Sequence[StepPictures], count: int) -> list[StepPictures]:
    return (
        [items[index] for index in sorted({round(place) for place in np.linspace(0, len(items) - 1, count)})]
        if items
        else []
    )


def _scattered(height: int, width: int, count: int) -> list[tuple[int, int]]:
    """Up to `count` positions (row, column) distributed over a grid, in different rows if there are enough."""
    steps = np.arange(count) + 0.5
    rows = (steps * height / count).astype(int)
    columns = ((steps * 0.618034) % 1.0 * width).astype(int)  # golden ratio: neighbours lie far apart
    return sorted({(int(row), int(column)) for row, column in zip(rows, columns, strict=True)})


def _height_width(image: Tensor) -> tuple[int, int]:
    return int(image.shape[-2]), int(image.shape[-1])
