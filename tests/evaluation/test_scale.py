"""10,000 images of 256 pixels in flat memory: ``pytest -m slow tests/evaluation/test_scale.py -s`` prints the numbers.

MIDMS_SCALE_COUNT=2000 makes it shorter. Three things are cheaper than in a user's run, none of which changes memory:
the features come from a narrow network, SWD takes 64 of its 512 directions (they are worked on 32 at a time), and each
picture is there under ten names. Decoding, rows on disk, moments, subsets, patches and sorting are the program's own.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from midms.evaluation import records, swd
from midms.evaluation.suite import Folders, Options, evaluate

SIZE = 256
LIMIT = 2 * 2**30
NAMES = 10


class Pooled(nn.Module):
    """2048 features of an image that take no time."""

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(3 * 64, 2048, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (nn.functional.adaptive_avg_pool2d(images.float() / 255, 8).flatten(1) @ self.weight).relu()


def draw(folder: Path, count: int, seed: int) -> None:
    """JPEG files: a few broad patches and some grain; every picture under ten names."""
    folder.mkdir()
    distinct = -(-count // NAMES)
    grain = np.random.default_rng(seed).normal(0, 12, (2 * SIZE, 2 * SIZE, 3))
    for index in range(distinct):
        rng = np.random.default_rng([seed, index])
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((SIZE, SIZE), 3)
        y, x = rng.integers(0, SIZE, 2)
        pixels = (np.asarray(coarse) + grain[y : y + SIZE, x : x + SIZE]).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.jpg", quality=75)
    for index in range(distinct, count):
        os.link(folder / f"{index % distinct}.jpg", folder / f"{index}.jpg")


def peak_memory() -> int:
    """Bytes: the largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.slow
def test_memory_stays_flat(tmp_path, monkeypatch):
    count = int(os.environ.get("MIDMS_SCALE_COUNT", "10000"))
    file = tmp_path / "narrow.pth"
    file.write_bytes(b"stands for the weights")
    monkeypatch.setattr(records, "InceptionFeatures", Pooled)
    monkeypatch.setattr(records, "inception_file", lambda path: file)
    directions = swd.random_directions
    monkeypatch.setattr(swd, "random_directions", lambda *arguments: directions(*arguments)[:, :64])
    for role, seed in (("few", 0), ("generated", 1), ("reference", 2)):
        draw(tmp_path / role, 4 if role == "few" else count, seed)
    evaluate(Folders(tmp_path / "few", tmp_path / "few"), Options(), ["fid", "kid", "swd"])  # everything is loaded
    before = peak_memory()
    folders, seconds = Folders(tmp_path / "generated", tmp_path / "reference"), {}
    for metric in ("fid", "kid", "swd"):
        start = time.perf_counter()
        (result,) = evaluate(folders, Options(cache=tmp_path / "cache"), [metric])
        seconds[metric] = time.perf_counter() - start
        assert result.status == "ok" and result.images == {"generated": count, "reference": count}
    grown = peak_memory() - before
    timing = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    memory = f"peak memory {before / 2**20:.0f} MiB before, {grown / 2**20:.0f} MiB more"
    print(f"\n{count} images of {SIZE} pixels: {memory}; {timing}")
    assert grown < LIMIT
