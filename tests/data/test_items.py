"""Every data set gives the same documented dicts to anyone's training code (the table in docs/data.md)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from files_on_disk import celeba, churches, deepfashion, photo
from torch.utils.data import default_collate

from midms.data import CelebAEdges, ChurchesSegmentation, DeepFashionKeypoints, ImageFolder, ProceduralPairs

SIZE = 24
DOCUMENTED = {"condition", "source", "exemplar", "exemplar_condition", "name", "exemplar_name"}
TRUTH = {"truth", "coordinates", "visible", "labels", "exemplar_labels", "subject"}
DATA = {
    "celeba": (celeba, CelebAEdges, 15),
    "deepfashion": (deepfashion, DeepFashionKeypoints, 20),
    "churches": (churches, ChurchesSegmentation, 151),
}


def check(item: dict[str, object], channels: int, keys: set[str]) -> None:
    assert set(item) == keys
    for key in sorted(keys & {"condition", "exemplar_condition", "source", "exemplar", "truth"}):
        value, maps = item[key], "condition" in key
        assert isinstance(value, torch.Tensor) and value.dtype == torch.float32
        assert value.shape == (channels if maps else 3, SIZE, SIZE), key
        assert (0 if maps else -1) <= value.min() < value.max() <= 1, key
    assert all(isinstance(item[key], str) and item[key] for key in keys & {"name", "exemplar_name"})


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("kind", DATA)
def test_data_sets_on_disk(tmp_path, kind, split):
    make, data_set, channels = DATA[kind]
    dataset = data_set(make(tmp_path), split, size=SIZE)
    for item in (dataset[0], dataset[1, 7]):
        check(item, channels, DOCUMENTED)
        assert not Path(str(item["name"])).suffix
    batch = default_collate([dataset[0], dataset[1]])
    assert batch["condition"].shape == (2, channels, SIZE, SIZE) and len(batch["exemplar_name"]) == 2


def test_own_photos(tmp_path):
    for k in range(3):
        photo(tmp_path / "photos" / f"{k}.jpg", k)
    check(ImageFolder(tmp_path / "photos", "edges", size=SIZE)[0], 15, DOCUMENTED)


@pytest.mark.parametrize(("task", "channels"), [("faces", 15), ("figures", 20), ("churches", 151)])
def test_drawn_pairs(task, channels):
    keys = DOCUMENTED - {"exemplar_name"}
    check(ProceduralPairs(task, SIZE)[3], channels, keys)
    item = ProceduralPairs(task, SIZE, truth=True)[3]
    check(item, channels, keys | TRUTH)
    assert item["coordinates"].shape == (2, SIZE, SIZE)
    assert item["visible"].dtype == item["subject"].dtype == torch.bool and item["labels"].shape == item[
        "visible"
    ].shape == (SIZE, SIZE)
