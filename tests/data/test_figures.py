"""Drawn people: joints where the limbs are, cloth that goes with the limb, parts that hide."""

from __future__ import annotations

import dataclasses
from functools import partial

import drawn_scenes
import numpy as np
import pytest

from midms.conditions.keypoints import JOINTS
from midms.data.procedural import figures
from midms.data.procedural.figures import Part

layout_and_style = partial(drawn_scenes.layout_and_style, "figures")
draw = partial(drawn_scenes.draw, "figures")


def joints_of(scene):
    return scene.frames[len(Part) :, :, 2]


def test_condition_has_the_published_form_at_every_size():
    layout, style = layout_and_style(2)
    maps = figures.condition(figures.render(layout, style, 64))
    assert maps.shape == (20, 64, 64) and maps.dtype == np.uint8
    large = figures.condition(figures.render(layout, style, 256)).astype(float)
    seen = (maps[3:].min(axis=(1, 2)) == 0) & (large[3:].min(axis=(1, 2)) == 0)
    reduced = large[3:].reshape(17, 64, 4, 64, 4).mean(axis=(2, 4))
    assert seen.sum() >= 8
    assert np.abs(maps[3:] - reduced)[seen].mean() < 2


def test_wrists_and_knees_lie_on_their_limbs():
    own = {2: range(9, 14), 5: range(14, 19)}
    count = 0
    for index in range(20):
        scene = draw(index)
        for shoulder, parts in own.items():
            wrist = ((joints_of(scene)[shoulder + 2] + 1) * 32).astype(int)
            if (wrist >= 0).all() and (wrist < 64).all():
                count += 1
                assert scene.labels[wrist[1], wrist[0]] in parts
    assert count > 15


@pytest.mark.parametrize(
    ("yaw", "missing"),
    [
        (0.0, set()),
        (np.pi, {"nose", "r_eye", "l_eye"}),
        (np.pi / 2, {"l_eye", "l_ear"}),
        (-np.pi / 2, {"r_eye", "r_ear"}),
    ],
)
def test_the_view_decides_which_joints_of_the_head_are_seen(yaw, missing):
    layout, style = layout_and_style(0)
    layout = dataclasses.replace(layout, yaw=yaw, head_turn=0.0, head=(0.0, -0.5))
    outside = np.abs(joints_of(figures.render(layout, style, 64))).max(axis=1) > 1
    assert {JOINTS[joint] for joint in (0, 14, 15, 16, 17) if outside[joint]} == missing


def test_turning_round_swaps_the_sides_of_the_picture():
    layout, style = layout_and_style(0)
    layout = dataclasses.replace(layout, head=(0.0, -0.5), lean=0.0)
    front, back = (joints_of(figures.render(dataclasses.replace(layout, yaw=yaw), style, 64)) for yaw in (0.0, np.pi))
    assert front[2, 0] < front[5, 0] and back[2, 0] > back[5, 0]
