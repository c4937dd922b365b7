"""The same numbers from any number of ranks, batch size and order of work; a narrow network stands in for Inception."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow_features import NarrowFeatures
from PIL import Image

from midms.evaluation import rows
from midms.evaluation.suite import Folders, Options, evaluate

COUNT, SIZE = 9, 32
METRICS = ("fid", "kid", "swd")


pytestmark = pytest.mark.usefixtures("narrow_network")


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for seed, role in enumerate(("generated", "reference")):
        (tmp_path / role).mkdir()
        for index in rng.permutation(COUNT):  # the order in which files appear must not matter
            coarse = np.random.default_rng([index, seed]).uniform(0, 255, (4, 4, 3))
            pixels = coarse.repeat(SIZE // 4, 0).repeat(SIZE // 4, 1).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / role / f"{index}.png")
    return Folders(tmp_path / "generated", tmp_path / "reference")


def numbers(folders: Folders, options: Options) -> dict[str, float]:
    results = evaluate(folders, options, METRICS)
    assert all(result.status == "ok" for result in results), [result.reason for result in results]
    return {name: value for result in results for name, value in result.values.items()}


def one_rank(rank: int, world: int, folders: Folders, shared: Path) -> None:
    """What a process of torchrun does."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{shared}/store", rank=rank, world_size=world)
    values = numbers(folders, Options(batch_size=2))
    torch.distributed.destroy_process_group()
    if rank == 0:
        (shared / "numbers.json").write_text(json.dumps(values))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_change_nothing(folders, tmp_path, world):
    alone = numbers(folders, Options())
    assert alone["fid_reference"] > 0.1 and alone["swd_average"] > 0
    context = multiprocessing.get_context("fork")  # imports are there already
    ranks = [context.Process(target=one_rank, args=(rank, world, folders, tmp_path)) for rank in range(world)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(180)
        assert process.exitcode == 0
    together = json.loads((tmp_path / "numbers.json").read_text())
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        assert together[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


def test_batches_and_the_order_of_work_change_nothing(folders, monkeypatch):
    alone = numbers(folders, Options(batch_size=1))
    subset = rows.Subset
    monkeypatch.setattr(rows, "Subset", lambda dataset, pending: subset(dataset, pending[::-1]))
    for size in (4, COUNT):
        for name, value in numbers(folders, Options(batch_size=size)).items():
            assert value == pytest.approx(alone[name], rel=1e-6, abs=1e-9), (size, name)


def test_a_run_that_died_goes_on_from_its_features(folders, tmp_path):
    """A broken file stops the first run after some images; mended, only the missing ones are computed."""
    cache, broken = tmp_path / "cache", tmp_path / "generated" / "7.png"
    whole = broken.read_bytes()
    stat = broken.stat()
    broken.write_bytes(whole[: len(whole) // 2].ljust(len(whole), b"\0"))
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ValueError, match=r"7\.png: not a whole picture"):
        numbers(folders, Options(cache=cache, batch_size=1))
    marks = [np.fromfile(file, np.uint8) for file in cache.glob("*.done")]
    assert any(0 < mark.sum() < COUNT for mark in marks)
    broken.write_bytes(whole)
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    seen: list[int] = []
    forward = NarrowFeatures.forward

    def counted(self: NarrowFeatures, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return forward(self, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NarrowFeatures, "forward", counted)
        resumed = numbers(folders, Options(cache=cache, batch_size=1))
    assert 0 < sum(seen) < 2 * COUNT
    assert resumed == numbers(folders, Options(batch_size=1))
