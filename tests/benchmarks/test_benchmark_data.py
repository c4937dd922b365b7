"""The loader's benchmark: its rows, and that the ways it compares give the same items."""

from __future__ import annotations

import argparse

import pytest
import torch
from files_on_disk import celeba

from midms.benchmarks import data
from midms.data import CelebAEdges


def options(**changes: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    found = parser.parse_args([])
    return argparse.Namespace(**(vars(found) | {"device": "cpu", "threads": 1} | changes))


def test_plain_and_raw_items_are_equal(tmp_path):
    root = celeba(tmp_path)
    plain, raw = data.plain_faces(root), CelebAEdges(root, "train", exemplars={"easy": 1.0})
    assert all(torch.equal(plain[1, 3][key], raw[1, 3][key]) for key in ("condition", "exemplar", "source"))


def test_a_prepared_item_is_many_times_cheaper_than_a_raw_one(tmp_path):
    rows = {row["name"]: row for row in data.run(options(root=celeba(tmp_path), items=2, rounds=3, step_ms=50.0))}
    assert list(rows) == ["plain", "raw", "prepared"]
    assert rows["plain"]["ratio"] == 1.0 and rows["prepared"]["ratio"] > 2  # these files are tiny
    assert rows["raw"]["workers_for_step"] >= rows["prepared"]["workers_for_step"] >= 1


def test_mistakes():
    with pytest.raises(ValueError, match="--items: got 0"):
        list(data.run(options(items=0)))
