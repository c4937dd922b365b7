"""Retrieval of exemplars: time for many photos, and share of hits with the same style."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks import timing
from midms.data.procedural.dataset import TASKS, generator, task_module
from midms.data.retrieval import colour_and_gradient_features, nearest

_COUNT, _LENGTH = 20, 512  # exemplars per photo, and numbers of a feature (VGG-19's)


def retrieval_rows(photos: int) -> Iterator[timing.Row]:
    """Row "pairs": the 20 nearest of `photos` random features of length 512, for each of them, without itself.

    Then a row "styles" per task: `hits`, how often the nearest picture has the same style, and `times_chance`.

    Raises:
        ValueError: `photos` is 20 or fewer.
    """
    features = torch.randn(photos, _LENGTH, generator=torch.Generator().manual_seed(0))
    own = torch.arange(photos)
    times = [timing.time_once(lambda: nearest(features, features, _COUNT, own, own), "cpu")]
    yield timing.row("pairs", f"{photos}x{photos}", "cpu", "float32", f"top-{_COUNT}", times, None, None)
    for task in TASKS:
        hits, chance = style_hits(task)
        row = timing.row("styles", "200x200", "cpu", "float32", task, None, None, None)
        yield row | {"hits": round(hits, 3), "times_chance": round(hits / chance)}


def style_hits(task: str, styles: int = 100, scenes: int = 2, size: int = 64) -> tuple[float, float]:
    """Share of unseen pictures whose nearest neighbour by colour features has the same style, and the chance level.

    Args:
        task: of the built-in benchmark.
        styles, scenes: pictures, `scenes` layouts in each of `styles` styles.
        size: pixels per side.
    """
    module = task_module(task)
    rows = []
    for style in range(styles):
        look = module.sample_style(generator("test", style, 1))
        for scene in range(scenes):
            layout = module.sample_layout(generator("test", 100 * style + scene, 0))
            rows.append(colour_and_gradient_features(module.render(layout, look, size).image))
    features, number = torch.from_numpy(np.stack(rows)), torch.arange(len(rows))
    neighbours, _ = nearest(features, features, 1, number, number)
    hits = (neighbours[:, 0] // scenes == number // scenes).float().mean()
    return float(hits), (scenes - 1) / (len(rows) - 1)
