"""The loader's benchmark: its rows, and that the ways it compares give the same items."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from files_on_disk import celeba

from benchmarks import data, feeding
from midms.data import CelebAEdges, ProceduralPairs
from midms.training.midms import MIDMsTraining

ROOT = Path(__file__).resolve().parents[3]


def options(**changes: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    defaults = parser.parse_args([])
    return argparse.Namespace(**(vars(defaults) | {"device": "cpu", "threads": 1} | changes))


def test_plain_and_raw_items_are_equal(tmp_path):
    root = celeba(tmp_path)
    plain, raw = data.plain_faces(root), CelebAEdges(root, "train", exemplars={"easy": 1.0})
    assert all(torch.equal(plain[1, 3][key], raw[1, 3][key]) for key in ("condition", "exemplar", "source"))


def test_a_prepared_item_is_made_once(tmp_path, monkeypatch):
    """Raw items are made at each reading, prepared ones only at the first: what their times come from."""
    made: list[str] = []
    original = CelebAEdges._make

    def make(self: CelebAEdges, name: str) -> object:
        made.append(name)
        return original(self, name)

    monkeypatch.setattr(CelebAEdges, "_make", make)
    options_of_run = options(root=celeba(tmp_path), items=2, rounds=3, step_ms=50.0)
    rows = {row["name"]: row for row in data.run(options_of_run)}
    assert list(rows) == ["plain", "raw", "prepared"] and rows["plain"]["ratio"] == 1.0
    assert all(row["workers_for_step"] >= 1 for row in list(rows.values())[1:])
    for folder, expected in ((None, 4), (tmp_path / "prepared", 2)):
        dataset = CelebAEdges(options_of_run.root, "train", exemplars={"easy": 1.0}, cache_folder=folder)
        made.clear()
        first, second = dataset[0, 0], dataset[0, 0]
        assert len(made) == expected and torch.equal(first["condition"], second["condition"])


@pytest.mark.parametrize("slow", [True, False])
def test_a_slow_loader_is_told_from_one_that_keeps_up(tiny_weights, monkeypatch, slow):
    """By a clock that only the loader (200 or 1 ms per item) and the training step (100 ms) move on."""
    original, kept, clock = ProceduralPairs.__getitem__, {}, SimpleNamespace(now=1.0)
    clock.perf_counter = lambda: clock.now

    def read(self: ProceduralPairs, index: int) -> dict[str, object]:
        clock.now += 0.2 if slow else 0.001
        return kept.setdefault("item", kept.get("item") or original(self, index))

    def pausing(step: Callable[..., object]) -> Callable[..., object]:
        def paused(*arguments: object) -> object:
            clock.now += 0.1
            return step(*arguments)

        return paused

    monkeypatch.setattr(feeding, "time", clock)
    monkeypatch.setattr(ProceduralPairs, "__getitem__", read)
    monkeypatch.setattr(MIDMsTraining, "training_step", pausing(MIDMsTraining.training_step))
    changes = [f"model.params.weights={tiny_weights}", "data.params.train.params.size=32", "data.params.batch_size=2",
               "model.params.encoders.widths=[8,8,16]", "model.params.encoders.out_channels=16",
               "model.params.encoders.hidden=8"]  # fmt: skip
    measured = data.run(options(config=str(ROOT / "configs/demo.yaml"), set=changes, steps=2))
    rows = {row["name"]: row for row in measured}
    assert list(rows) == ["step", "loader", "training"] and rows["training"]["keeps_up"] is not slow
    assert rows["loader"]["median_ms"] == pytest.approx(400 if slow else 2)
    assert rows["step"]["median_ms"] == pytest.approx(100)
    assert rows["training"]["median_ms"] == pytest.approx(500 if slow else 102) and rows["loader"]["num_workers"] == 0


def test_retrieval_is_timed_and_its_hits_counted():
    pairs, *styles = data.run(options(pairs=50))
    assert pairs["size"] == "50x50" and pairs["median_ms"] > 0
    assert [row["pass"] for row in styles] == ["faces", "figures", "churches"]
    assert all(row["times_chance"] == round(199 * row["hits"]) > 50 for row in styles)


def test_mistakes():
    with pytest.raises(ValueError, match="--items: got 0"):
        list(data.run(options(items=0)))
    with pytest.raises(ValueError, match="20 nearest of 5"):
        list(data.run(options(pairs=5)))
    with pytest.raises(ValueError, match=r"nowhere\.yaml: no such file"):
        list(data.run(options(config="nowhere.yaml")))
