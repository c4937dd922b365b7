"""DeepFashion as a data set: labels, lists of both kinds of slashes, people, and the exemplars of its own rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from files_on_disk import deepfashion, standing

from midms.conditions.keypoints import JOINTS, LIMBS, pose_condition
from midms.conditions.poses import read_poses, text_files, write_text_poses
from midms.data import DeepFashionKeypoints
from midms.data.deepfashion import pose_stem
from midms.io.files import BrokenFileError
from parity.data import deepfashion_checks


@pytest.mark.parametrize("name", ["deepfashion_eval", "deepfashion_train"])
def test_equal_to_the_released_tensors(shared, name):
    checks = deepfashion_checks(shared / "goldens_data" / f"{name}.npz")
    assert checks and all(check.passed for check in checks)


def test_both_slashes_give_the_same_items(tmp_path):
    items = []
    for backslashes in (True, False):
        dataset = DeepFashionKeypoints(
            deepfashion(tmp_path / str(backslashes), backslashes=backslashes), "val", size=32
        )
        items.append(dataset[1])
    assert items[0]["condition"].shape == (20, 32, 32)
    assert items[0]["name"] == items[1]["name"] == "img/WOMEN/Dresses/id_00000007/01_1_front"
    assert all(torch.equal(items[0][key], items[1][key]) for key in items[0] if "name" not in key)


def test_easy_is_the_last_of_the_line_and_hard_any_training_photo(tmp_path):
    root = deepfashion(tmp_path, train=8)
    dataset = DeepFashionKeypoints(root, "train", size=8)
    easy = DeepFashionKeypoints(root, "train", size=8, exemplars={"easy": 1.0})
    assert f"{easy[0, 3]['exemplar_name']}.jpg" == dataset.pairs[dataset.names[0]][-1]
    hard = DeepFashionKeypoints(root, "train", size=8, exemplars={"hard": 1.0}, cache_folder=tmp_path)
    assert len({hard[0, draw]["exemplar_name"] for draw in range(40)}) > 4
    released = DeepFashionKeypoints(
        root, "train", size=8, exemplars={"hard": 1.0}, released=True, cache_folder=tmp_path
    )
    assert len({released[0, draw]["exemplar_name"] for draw in range(20)}) == 1


def test_of_two_people_the_surer_one_is_drawn(tmp_path):
    root = deepfashion(tmp_path)
    dataset = DeepFashionKeypoints(root, "val", size=32)
    alone, name = dataset.read(dataset.names[0]), dataset.names[0]
    faint = standing(40, 40)
    faint[:, :2], faint[:, 2] = faint[::-1, :2], 0.1
    stem = pose_stem(root, name)
    write_text_poses(stem, [faint, *read_poses(stem)])
    assert (dataset.read(name) == alone).all()


def test_a_candidate_file_with_one_line_is_a_pose_with_one_joint(tmp_path):
    root = deepfashion(tmp_path)
    dataset = DeepFashionKeypoints(root, "val", size=40)
    one = np.full((18, 3), np.nan)
    one[0] = (20, 12, 0.9)
    write_text_poses(pose_stem(root, dataset.names[0]), [one])
    maps = dataset.read(dataset.names[0])[3:]
    assert maps[:3].any() and (maps[3:] == 255).all()


@pytest.mark.parametrize(
    ("candidate", "subset", "message"),
    [
        (None, "", "no such file"),
        ("1 2 1 0\n", "5" + " -1" * 17 + " 1 1\n", "names row 5"),
        ("1 2 1 0\n", "1e300" + " -1" * 17 + " 1 1\n", r"names row 1e\+300"),
        ("1 2 1 0\n", "nan" + " -1" * 17 + " 1 1\n", "all finite"),
        ("1 2 1 0\n", "-1 " * 18 + "0 0\n", "no person"),
        ("", "", "no person"),
        ("1 2 one 0\n", "", "not a table of numbers"),
        ("1 2 1 0\n", "0 1 2\n", "3 numbers per line; expected at least 18"),
    ],
)
def test_pose_files_that_cannot_be_used_are_named(tmp_path, candidate, subset, message):
    root = deepfashion(tmp_path)
    dataset = DeepFashionKeypoints(root, "val", size=8)
    files = text_files(pose_stem(root, dataset.names[0]))
    for file, text in zip(files, (candidate, subset), strict=True):
        file.unlink()
        if text is not None:
            file.write_text(text)
    with pytest.raises(BrokenFileError, match=message) as caught:
        dataset[0]
    assert caught.value.file in files


def test_the_skeleton_and_its_distances():
    pose = np.full((18, 2), np.nan)
    pose[1], pose[2] = (20.9, 30.2), (60.0, 30.0)
    maps = pose_condition(pose, 64, 80)
    assert maps.shape == (20, 64, 80)
    assert maps[:3, 30, 21].any() and not maps[:3, 0, 0].any()
    assert maps[3 + LIMBS.index((1, 2)), 30, 40] == 0
    assert (np.delete(maps[3:], LIMBS.index((1, 2)), axis=0) == 255).all()
    assert maps[3, 30 + 4 + 9, 40] == 3  # nine pixels from the limb, in thirds
    with pytest.raises(ValueError, match=r"expected \(18, 2\)"):
        pose_condition(np.zeros((len(JOINTS), 3)), 8, 8)
