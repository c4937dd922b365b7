"""Scenes with class maps: the released labels, ids or channels, exemplars of another split, colours of the classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from files_on_disk import churches
from PIL import Image

from midms.conditions.segmentation import class_map, one_hot
from midms.data import ChurchesSegmentation
from midms.io.files import BrokenFileError
from midms.visualize import ADE20K_COLOURS
from parity.data import churches_checks


@pytest.mark.parametrize("name", ["lsun_ade_eval", "lsun_ade_train"])
def test_equal_to_the_released_tensors(shared, name):
    checks = churches_checks(shared / "goldens_data" / f"{name}.npz")
    assert checks and all(check.passed for check in checks)


def test_ids_expand_to_the_channels(tmp_path):
    root = churches(tmp_path)
    channels, ids = (ChurchesSegmentation(root, "val", size=16, expand=expand)[1] for expand in (True, False))
    assert ids["condition"].shape == (1, 16, 16)
    assert torch.equal(one_hot(ids["condition"][0]), channels["condition"])
    assert (channels["condition"].sum(0) == 1).all()


def test_exemplars_of_the_other_split(tmp_path):
    root = churches(tmp_path)
    (root / "lists" / "mixed.txt").write_text("validation_0.jpg,training_4.jpg\n")
    dataset = ChurchesSegmentation(root, "val", root / "lists" / "mixed.txt", exemplar_split="train", size=16)
    item = dataset[0]
    assert (item["name"], item["exemplar_name"]) == ("validation/validation_0", "training/training_4")
    with pytest.raises(ValueError, match="expected 'train' or 'val'"):
        ChurchesSegmentation(root, "val", exemplar_split="test")


def test_dont_care_is_the_last_class_and_unknown_classes_are_broken(tmp_path):
    assert class_map(np.array([[0, 150, 255]], np.uint8)).tolist() == [[0, 150, 150]]
    root = churches(tmp_path)
    Image.fromarray(np.full((36, 44), 200, np.uint8)).save(root / "validation" / "validation_0.png")
    with pytest.raises(BrokenFileError, match=r"validation_0\.png: label 200 found"):
        ChurchesSegmentation(root, "val", size=16)[0]


def test_every_class_has_a_colour_of_its_own_but_one():
    assert ADE20K_COLOURS.shape == (151, 3)
    assert len(np.unique(ADE20K_COLOURS, axis=0)) == 150
    assert np.array_equal(ADE20K_COLOURS[7], ADE20K_COLOURS[49])  # road and skyscraper, in the ADE20K toolkit too
