"""The plan of drawn churches: parts that stand on each other, hang together when they move, and come and go."""

from __future__ import annotations

import dataclasses
from functools import partial
from itertools import pairwise

import drawn_scenes
import numpy as np
import pytest

from midms.conditions.segmentation import SEGMENTATION_CHANNELS
from midms.data.procedural import churches
from midms.data.procedural.plan import ADE20K, IDS, Layout, Part, Tower, frames, rectangle

layout_and_style = partial(drawn_scenes.layout_and_style, "churches")
BUILDING = [part for part in Part if Part.wing <= part <= Part.door]
LANDSCAPE = [Part.sky, Part.mountain, Part.l_oak, Part.r_oak, Part.l_pine, Part.r_pine]


def church(**changes: object) -> Layout:
    """A church with a wing to the right and all three towers, with changes."""
    tower = Tower(0.15, 0.9, 0.4)
    plain = {"foot": (0.0, 0.6), "scale": 0.7, "nave": (0.3, 0.5, 0.3), "wing": 0.6, "towers": (tower, tower, tower)}
    plain |= {"horizon": 0.4, "trees": ((-0.8, 0.6), (0.8, 0.0), (-0.5, 0.0), (0.5, 0.7)), "bush": 0.2, "path": 0.3}
    plain |= {"door": (0.08, 0.25), "rose": 0.1, "clock": True, "lancets": True, "windows": 3}
    return dataclasses.replace(layout_and_style(0)[0], **(plain | changes))


def edges(layout: Layout, part: Part) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of a part in image coordinates."""
    (width, _, x), (_, height, y) = frames(layout)[part].tolist()
    return x - width, x + width, y - height, y + height


def test_a_rectangle_is_the_unit_square_of_its_frame():
    parent = np.array([[2.0, 0, 1.0], [0, 2.0, -1.0]], np.float32)
    frame = rectangle(-0.5, 0.25, 0.0, 1.0, parent)
    corners = frame[:, :2] @ np.array([[-1, 1], [-1, 1]]) + frame[:, 2:]
    np.testing.assert_allclose(corners, [[0.0, 1.5], [-1.0, 1.0]], atol=1e-6)
    assert abs(np.linalg.det(rectangle(0.3, 0.3, 0.0, 0.0, parent)[:, :2])) > 0, "no width can still be inverted"


def test_walls_stand_on_the_ground_and_roofs_on_the_walls():
    layout = church()
    ground = layout.foot[1]
    for part in (Part.nave, Part.door, Part.c_tower, Part.l_tower, Part.r_tower):
        assert edges(layout, part)[3] == pytest.approx(ground, abs=1e-5)
    for roof, wall in ((Part.gable, Part.nave), (Part.wing_roof, Part.wing), (Part.c_spire, Part.c_tower),
                       (Part.l_spire, Part.l_tower), (Part.r_spire, Part.r_tower)):  # fmt: skip
        assert edges(layout, roof)[3] == pytest.approx(edges(layout, wall)[2], abs=1e-5)
        assert (
            edges(layout, roof)[0]
            <= edges(layout, wall)[0] + 1e-5
            <= edges(layout, wall)[1]
            <= edges(layout, roof)[1] + 1e-5
        )


@pytest.mark.parametrize("wing", [-0.8, -0.5, 0.5, 0.9])
def test_a_wing_begins_at_the_nave_and_holds_its_windows(wing):
    layout = church(wing=wing)
    nave, side = edges(layout, Part.nave), edges(layout, Part.wing)
    touching = (side[0], nave[1]) if wing > 0 else (side[1], nave[0])
    assert touching[0] == pytest.approx(touching[1], abs=1e-5)
    assert side[1] - side[0] == pytest.approx(abs(wing) * layout.scale, abs=1e-5)
    for index in range(layout.windows):
        left, right, top, bottom = edges(layout, Part(Part.window_0 + index))
        assert side[0] <= left < right <= side[1] and side[2] <= top < bottom <= side[3]


@pytest.mark.parametrize("windows", [2, 3, 4])
def test_windows_lie_side_by_side(windows):
    layout = church(windows=windows)
    spans = [edges(layout, Part(Part.window_0 + index))[:2] for index in range(windows)]
    assert all(first[1] < second[0] for first, second in pairwise(spans))
    steps = np.diff([sum(span) / 2 for span in spans])
    np.testing.assert_allclose(steps, steps[0], atol=1e-5)


def test_openings_of_the_front_lie_within_it():
    for index in range(30):
        layout = layout_and_style(index)[0]
        left, right, top, bottom = edges(layout, Part.nave)
        for part in (Part.door, Part.l_lancet, Part.r_lancet):
            inner = edges(layout, part)
            assert left < inner[0] < inner[1] < right and top < inner[2] < inner[3] <= bottom + 1e-5


@pytest.mark.parametrize("shift", [(0.2, 0.0), (-0.1, 0.15)])
def test_a_church_that_moves_takes_all_its_parts_with_it_and_leaves_the_landscape(shift):
    here, there = church(), church(foot=(shift[0], 0.6 + shift[1]))
    moved = frames(there) - frames(here)
    np.testing.assert_allclose(moved[BUILDING][:, :, 2], np.tile(shift, (len(BUILDING), 1)), atol=1e-5)
    np.testing.assert_allclose(moved[BUILDING][:, :, :2], 0, atol=1e-6)
    far = [part for part in LANDSCAPE if part in (Part.sky, Part.mountain)]
    np.testing.assert_allclose(moved[far], 0, atol=1e-6)


def test_a_larger_church_grows_around_its_foot():
    small, large = (frames(church(scale=scale))[BUILDING] for scale in (0.4, 0.8))
    foot = np.array([0.0, 0.6])
    np.testing.assert_allclose(large[:, :, :2], 2 * small[:, :, :2], atol=1e-5)
    np.testing.assert_allclose(large[:, :, 2] - foot, 2 * (small[:, :, 2] - foot), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"towers": (None, None, None)}, Part.l_tower),
        ({"towers": (None, None, None)}, Part.c_spire),
        ({"wing": 0.0}, Part.wing),
        ({"clock": False}, Part.clock),
        ({"rose": 0.0}, Part.rose),
        ({"lancets": False}, Part.l_lancet),
        ({"bush": 2.0}, Part.bush),
        ({"path": 3.0}, Part.path),
        ({"trees": ((0.0, 0.0),) * 4}, Part.l_oak),
        ({"trees": ((0.0, 0.0),) * 4}, Part.r_pine),
    ],
)
def test_what_the_layout_leaves_out_is_in_no_pixel(change, part):
    tower = Tower(0.12, 1.1, 0.4)
    layout = church(towers=(Tower(0.2, 1.2, 0.5), tower, tower))
    style = layout_and_style(1)[1]
    assert part in churches.render(layout, style, 96).labels
    assert part not in churches.render(dataclasses.replace(layout, **change), style, 96).labels


def test_the_condition_knows_classes_and_not_which_part_has_them():
    scene = drawn_scenes.draw("churches", 3, 48)
    other = scene._replace(labels=np.where(scene.labels == Part.l_oak, Part.r_pine, scene.labels))
    np.testing.assert_array_equal(churches.condition(scene), churches.condition(other))
    assert IDS.min() >= 1 and IDS.max() < SEGMENTATION_CHANNELS and 0 not in ADE20K.values()


def test_sampled_plans_have_the_towers_of_one_of_four_plans():
    drawn = [layout_and_style(index)[0] for index in range(80)]
    plans = {tuple(tower is not None for tower in lo.towers) for lo in drawn}
    behind, both, left, right, none = (
        (True, False, False), (False, True, True), (False, True, False), (False, False, True), (False,) * 3,
    )  # fmt: skip
    assert plans == {behind, both, left, right, none}
    assert all(lo.wing != 0 for lo in drawn if not any(lo.towers) or lo.towers[0]), "then a wing is seen"
    assert all(abs(lo.foot[0]) < 1 and lo.horizon < lo.foot[1] < 1 for lo in drawn)
    assert all(height == 0 or 0.45 <= height <= 1 for lo in drawn for _, height in lo.trees)
    assert {lo.windows for lo in drawn} == {2, 3, 4} and {lo.roof for lo in drawn} == {0, 1, 2}


def test_blocks_of_stone_are_staggered_and_their_joints_lie_between_them():
    u, v = np.meshgrid(np.linspace(0, 1, 101), np.linspace(0, 1, 101))
    tone, joint = churches.courses(u, v, rows=4, columns=5)
    assert tone.shape == joint.shape == u.shape
    assert tone.min() >= 0 and tone.max() <= 1 and joint.min() >= 0 and joint.max() <= 1
    assert (joint[25] > 0.99).all(), "a joint runs along the edge of two courses"
    middle = 12  # of the first course: its vertical joints are a fifth apart, those of the next half a block aside
    first, second = (np.flatnonzero(joint[row] > 0.99) for row in (middle, middle + 25))
    assert {int(column) for column in (20, 40, 60, 80)} <= set(first)
    assert {int(column) for column in (10, 30, 50, 70, 90)} <= set(second)
