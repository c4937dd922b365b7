"""Pictures of what happens inside: grids with captions, masks over images, colours for coordinates, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from midms.data.conditions.segmentation import ADE20K_COLOURS

Pixels = NDArray[np.uint8]


def to_pixels(images: Tensor) -> Pixels:
    """Images (..., 3 or 1, H, W) in [-1, 1] to uint8 (..., H, W, 3); values outside are clipped."""
    pixels = ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
    return pixels.expand(*pixels.shape[:-3], 3, *pixels.shape[-2:]).movedim(-3, -1).numpy()


def save_png(path: Path, pixels: Pixels, text: Mapping[str, str] | None = None) -> None:
    """Write uint8 (H, W, 3) as PNG, aside and then renamed; `text` goes into the file's text chunks."""
    from PIL import Image, PngImagePlugin  # noqa: PLC0415

    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    Image.fromarray(pixels).save(aside, "PNG", pnginfo=info)
    aside.replace(path)


def grid(columns: Sequence[tuple[str, Tensor]], cell: int = 128, gap: int = 3) -> Pixels:
    """Samples as rows, captioned columns: [(caption, (B, 3, H, W) in [-1, 1])] to one uint8 (H', W', 3) picture."""
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415

    header = 16
    samples = len(columns[0][1])
    sheet = Image.new("RGB", (len(columns) * (cell + gap) + gap, samples * (cell + gap) + header), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for column, (caption, images) in enumerate(columns):
        left = gap + column * (cell + gap)
        draw.text((left + cell // 2, header // 2), caption, (0, 0, 0), font, anchor="mm")
        for row, pixels in enumerate(to_pixels(images)):
            tile = Image.fromarray(pixels).resize((cell, cell), Image.Resampling.BICUBIC)
            sheet.paste(tile, (left, header + row * (cell + gap)))
    return np.asarray(sheet)


def condition_image(condition: Tensor) -> Tensor:
    """A condition (B, L, H, W) in [0, 1] for the eye, (B, 3, H, W) in [-1, 1].

    Edge maps (15 channels) show channel 0 as ink on paper; poses (20 channels) their skeleton in OpenPose's usual
    colours (the network reads it with red and blue exchanged); class maps ADE20K's colours, which a map of more classes
    than ADE20K's uses again.
    """
    if condition.shape[1] == 15:
        return (1 - 2 * condition[:, :1]).expand(-1, 3, -1, -1)
    if condition.shape[1] == 20:
        return 2 * condition[:, :3].flip(1) - 1
    colours = torch.tensor(ADE20K_COLOURS, device=condition.device).float() / 127.5 - 1  # (151, 3)
    return colours[condition.argmax(dim=1) % len(colours)].movedim(-1, 1)  # (B, 3, H, W)


def overlay(image: Tensor, mask: Tensor) -> Tensor:
    """Images (B, 3, H, W) with the rejected part of a mask (B, 1, h, w) washed out in red."""
    large = torch.nn.functional.interpolate(mask.float(), image.shape[-2:], mode="nearest")
    red = torch.tensor([0.6, -0.9, -0.9], device=image.device).view(1, 3, 1, 1)
    return image * large + (0.4 * image + 0.6 * red) * (1 - large)


def coordinate_colours(coordinates: Tensor) -> Tensor:
    """Coordinates (B, 2, H, W) in [-1, 1] as colours (B, 3, H, W): red grows with x, green with y."""
    blue = -coordinates.mean(dim=1, keepdim=True)
    return torch.cat([coordinates, blue], dim=1).clamp(-1, 1)


def curves(path: Path, table: Mapping[str, Sequence[tuple[float, float]]], title: str) -> None:
    """One small plot for each name of points (step, value), written as PNG."""
    import matplotlib  # noqa: PLC0415 - heavy

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    names = sorted(table)
    rows = max(1, -(-len(names) // 3))
    figure, axes = pyplot.subplots(rows, 3, figsize=(12, 2.6 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, names, strict=False):
        axis.plot(*zip(*table[name], strict=True), linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
