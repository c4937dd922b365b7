"""Pictures: right size, right colours, written whole."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from midms.data.conditions.keypoints import pose_condition
from midms.visualize import condition_image, coordinate_colours, curves, grid, overlay, save_png, to_pixels


def test_pixels_are_rounded_and_clipped():
    pixels = to_pixels(torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0]).view(5, 1, 1, 1))
    assert pixels.shape == (5, 1, 1, 3)
    assert pixels[:, 0, 0, 0].tolist() == [0, 0, 128, 255, 255]


def test_a_grid_has_a_row_a_sample_and_a_column_a_caption():
    sheet = grid([("red", torch.ones(2, 3, 8, 8)), ("dark", -torch.ones(2, 3, 8, 8))], cell=20, gap=2)
    assert sheet.shape == (16 + 2 * 22, 2 + 2 * 22, 3)
    assert sheet[30, 10].tolist() == [255] * 3 and sheet[30, 30].tolist() == [0] * 3


def test_png_carries_its_settings_and_leaves_no_part_behind(tmp_path):
    save_png(tmp_path / "a/b.png", np.zeros((4, 4, 3), np.uint8), {"midms": "{}"})
    assert Image.open(tmp_path / "a/b.png").text == {"midms": "{}"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.png"]


def test_conditions_of_every_kind_have_a_picture():
    edges = torch.zeros(1, 15, 4, 4)
    edges[0, 0, 1, 1] = 1
    assert condition_image(edges)[0, :, 1, 1].tolist() == [-1] * 3 and condition_image(edges)[0, 0, 0, 0] == 1
    labels = torch.nn.functional.one_hot(torch.tensor([[[0, 1, 3, 150]]]), 151).movedim(-1, 1).float()
    picture = to_pixels(condition_image(labels))  # unlabelled, wall, sky, flag: the colours that the field draws
    assert picture.reshape(4, 3).tolist() == [[0, 0, 0], [120, 120, 120], [6, 230, 230], [92, 0, 255]]
    assert condition_image(torch.ones(1, 200, 4, 4)).shape == (1, 3, 4, 4)


def test_the_right_shoulder_is_red_and_the_eyes_are_violet_as_openpose_draws_them():
    joints = np.full((18, 2), np.nan)
    joints[[1, 2, 14]] = (40, 20), (10, 20), (40, 50)  # neck, right shoulder, right eye
    picture = to_pixels(condition_image(torch.from_numpy(pose_condition(joints, 64, 64))[None] / 255))[0]
    limb, eye = picture[20, 25].tolist(), picture[50, 40].tolist()
    assert limb[0] > 100 and limb[1:] == [0, 0]
    assert eye == [170, 0, 255]


def test_rejected_regions_turn_red_and_coordinates_have_colours():
    washed = overlay(torch.zeros(1, 3, 4, 4), torch.tensor([[1.0, 0.0], [1.0, 1.0]])[None, None])
    assert washed[0, 0, 0, 3] > 0 > washed[0, 1, 0, 3] and (washed[0, :, 3, 3] == 0).all()
    assert coordinate_colours(torch.zeros(2, 2, 3, 3)).shape == (2, 3, 3, 3)


def test_curves(tmp_path):
    curves(tmp_path / "curves.png", {"loss": [(0, 1.0), (1, 0.5)], "psnr": [(0, 3.0)]}, "training")
    assert Image.open(tmp_path / "curves.png").width > 900
