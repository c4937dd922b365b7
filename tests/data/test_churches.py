"""Scenes with class maps as a data set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from files_on_disk import churches, write_lines
from PIL import Image

from midms.data import ChurchesSegmentation
from midms.data.churches import natural_key
from midms.data.conditions.segmentation import class_map, one_hot
from midms.data.files import BrokenFileError
from midms.parity.data import churches_checks


@pytest.mark.parametrize("name", ["lsun_ade_eval", "lsun_ade_train"])
def test_equal_to_the_released_tensors(shared, name):
    checks = churches_checks(shared / "goldens_data" / f"{name}.npz")
    assert checks and all(check.passed for check in checks)


def test_items(tmp_path):
    root = churches(tmp_path)
    item = ChurchesSegmentation(root, "val", size=32)[0]
    assert item["condition"].shape == (151, 32, 32) and (item["condition"].sum(0) == 1).all()
    assert (item["name"], item["exemplar_name"]) == ("validation/validation_0", "validation/validation_1")
    ids = ChurchesSegmentation(root, "val", size=32, expand=False)[0]["condition"]
    assert ids.shape == (1, 32, 32) and torch.equal(one_hot(ids[0]), item["condition"])


def test_exemplars_from_the_other_split(tmp_path, shared):
    root = churches(tmp_path)
    write_lines(tmp_path / "ade.txt", ["validation_2.jpg,training_1.jpg"])
    dataset = ChurchesSegmentation(root, "val", tmp_path / "ade.txt", exemplar_split="train", size=8)
    assert len(dataset) == 1 and dataset[0]["exemplar_name"] == "training/training_1"
    samples = shared / "samples" / "LSUN-church-layout"
    listed = ChurchesSegmentation(samples, "val", samples / "lists" / "ade20k_ref_test.txt", "train", size=8)
    assert [name.partition("/")[0] for row in listed.pairs.values() for name in row] == ["training"] * 4


def test_every_photo_of_the_folder_trains_in_natural_order(tmp_path):
    root = churches(tmp_path, train=12)
    names = ChurchesSegmentation(root, "train", size=8).names
    assert [name.rpartition("_")[2] for name in names] == [f"{k}.jpg" for k in range(12)]
    assert sorted(["a10", "a2", "b1", "a"], key=natural_key) == ["a", "a2", "a10", "b1"]


def test_class_ids():
    assert class_map(np.array([[0, 150, 255]], np.uint8)).tolist() == [[0, 150, 150]]
    with pytest.raises(ValueError, match="label 151 found"):
        class_map(np.array([[151]], np.uint8))
    ids = torch.randint(0, 151, (2, 5, 4))
    assert torch.equal(one_hot(ids).argmax(1), ids) and one_hot(ids).shape == (2, 151, 5, 4)


@pytest.mark.parametrize(("array", "message"), [("RGB", "mode RGB"), ("high", "label 200 found"), ("gone", "no such")])
def test_label_files_that_cannot_be_used_are_named(tmp_path, array, message):
    root = churches(tmp_path)
    file = root / "validation" / "validation_0.png"
    file.unlink()
    if array != "gone":
        shape = (36, 44, 3) if array == "RGB" else (36, 44)
        Image.fromarray(np.full(shape, 200, np.uint8)).save(file)
    with pytest.raises(BrokenFileError, match=message) as caught:
        ChurchesSegmentation(root, "val", size=8)[0]
    assert caught.value.file == file
