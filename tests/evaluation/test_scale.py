"""10,000 images of 256 pixels in flat memory: ``pytest -m slow tests/evaluation/test_scale.py -s`` prints the numbers.

FID and KID run from end to end on 10,000 files. SWD, whose patches take the longest, runs from end to end on
MIDMS_SCALE_SWD files (default: 400; give 10000 for all), and its sorting, the only part of it whose
memory depends on the count, on the patches of 10,000 images. Cheaper than a user's run without a change to memory: a
narrow network, 64 of 512 directions (they are worked on 32 at a time), every picture under ten names.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from midms.evaluation.rows import RowStore, StoredPatches
from midms.evaluation.suite import Folders, Options, evaluate
from midms.metrics import swd

SIZE = 256
COUNT, SWD_COUNT = 10000, int(os.environ.get("MIDMS_SCALE_SWD", "400"))
LIMIT = 2 * 2**30
NAMES = 10


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


@pytest.fixture(autouse=True)
def cheap(monkeypatch, narrow_network):
    directions = swd.random_directions
    monkeypatch.setattr(swd, "random_directions", lambda *arguments: directions(*arguments)[:, :64])


def grown_memory(label: str, function) -> None:
    """Run, print the peak of memory and the time, and hold the growth against the limit."""
    before, start = peak_memory(), time.process_time()
    function()
    grown, seconds = peak_memory() - before, time.process_time() - start
    memory = f"peak memory {before / 2**20:.0f} MiB before, {grown / 2**20:.0f} MiB more"
    print(f"\n{label}: {memory}; {seconds:.0f} s of a core")
    assert grown < LIMIT


@pytest.mark.slow
@pytest.mark.parametrize(("metrics", "count"), [(("fid", "kid"), COUNT), (("swd",), SWD_COUNT)])
def test_folders_from_end_to_end(tmp_path, metrics, count):
    for role, seed in (("few", 0), ("generated", 1), ("reference", 2)):
        draw(tmp_path / role, 4 if role == "few" else count, seed)
    evaluate(Folders(tmp_path / "few", tmp_path / "few"), Options(), metrics)  # everything is loaded

    def run():
        for result in evaluate(Folders(tmp_path / "generated", tmp_path / "reference"), Options(), metrics):
            assert result.status == "ok" and result.images == {"generated": count, "reference": count}

    grown_memory(f"{', '.join(metrics)}, {count} images of {SIZE} pixels", run)


@pytest.mark.slow
def test_sorting_the_patches_of_all_images(tmp_path):
    """The finest level of two sets of 10,000 images; the other levels have as many patches, one after another."""
    rng = np.random.default_rng(0)
    row = swd.PATCHES_PER_IMAGE * 3 * swd.PATCH_SIZE**2
    stores = [RowStore(tmp_path, name, COUNT, row) for name in ("generated", "reference")]
    for store in stores:
        for start in range(0, COUNT, 100):
            store.write(range(start, start + 100), rng.standard_normal((100, row), dtype=np.float32))
    directions = swd.random_directions((SIZE, SIZE), 3, 0)
    distances = []
    grown_memory(
        f"sorting {COUNT} x {swd.PATCHES_PER_IMAGE} patches",
        lambda: distances.append(swd.sliced_distance(*(StoredPatches(store) for store in stores), directions)),
    )
    assert 0 < distances[0] < 0.01  # two samples of one distribution
