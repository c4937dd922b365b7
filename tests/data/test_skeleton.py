"""The skeleton of drawn people: bones that keep their length, views from all sides, frames that hang on the joints."""

from __future__ import annotations

import dataclasses
from functools import partial

import drawn_scenes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midms.data.procedural import pose
from midms.data.procedural.pose import BONES, SLEEVES, Limb, Part, between, bone, frames, skeleton

layout_and_style = partial(drawn_scenes.layout_and_style, "figures")
HEAD, NECK = 22, 1
#: Joints at both ends of a bone and its length in body heights; the two sides are alike.
LENGTHS = {(2, 3): 0.15, (3, 4): 0.135, (5, 6): 0.15, (6, 7): 0.135, (8, 9): 0.235, (9, 10): 0.225, (11, 12): 0.235,
           (12, 13): 0.225}  # fmt: skip
angles = st.floats(-3.0, 3.0)


def person(**changes: object) -> pose.Layout:
    """Someone who stands upright, faces the viewer and lets both arms hang, with changes."""
    arm, leg = Limb(0.2, 0.0, 0.0, 0.0), Limb(0.05, 0.0, 0.0, 0.0)
    plain = {"head": (0.0, -0.6), "scale": 1.6, "lean": 0.0, "yaw": 0.0, "head_turn": 0.0, "head_tilt": 0.0}
    plain |= {"arms": (arm, arm), "legs": (leg, leg)}
    return dataclasses.replace(layout_and_style(0)[0], **(plain | changes))


@given(angles, angles)
def test_a_bone_has_length_one_and_mirrors_with_the_side(spread, swing):
    right, left = bone(-1, spread, swing), bone(1, spread, swing)
    assert np.linalg.norm(left) == pytest.approx(1)
    np.testing.assert_allclose(right, left * (-1, 1, 1))


def test_angles_of_a_bone():
    np.testing.assert_allclose(bone(1, 0, 0), [0, 1, 0], atol=1e-12)  # hangs down
    np.testing.assert_allclose(bone(1, np.pi / 2, 0), [1, 0, 0], atol=1e-12)  # to the side
    np.testing.assert_allclose(bone(1, 0, np.pi / 2), [0, 0, 1], atol=1e-12)  # towards the viewer
    np.testing.assert_allclose(bone(1, np.pi, 0), [0, -1, 0], atol=1e-12)  # up


@pytest.mark.parametrize("index", range(12))
def test_bones_keep_their_length_in_every_pose_and_view(index):
    """Picture and nearness together are the joint's place in space."""
    layout = layout_and_style(index)[0]
    points, near = skeleton(layout)
    for (start, end), length in LENGTHS.items():
        across = (points[end] - points[start]) / layout.scale
        assert np.hypot(np.linalg.norm(across), near[end] - near[start]) == pytest.approx(length, abs=1e-5)


@pytest.mark.parametrize("index", range(6))
def test_the_head_is_where_the_layout_says(index):
    layout = layout_and_style(index)[0]
    points, near = skeleton(layout)
    assert points.shape == (23, 2) and near.shape == (23,)
    np.testing.assert_allclose(points[HEAD], layout.head, atol=1e-6)


def test_a_larger_person_is_the_same_person_enlarged_around_the_head():
    small, large = (skeleton(person(scale=scale)) for scale in (1.0, 2.0))
    np.testing.assert_allclose(large[0] - large[0][HEAD], 2 * (small[0] - small[0][HEAD]), atol=1e-6)
    np.testing.assert_array_equal(small[1], large[1])


def test_someone_who_stands_straight_is_symmetric():
    points, near = skeleton(person())
    for right, left in ((2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13), (14, 15), (16, 17), (18, 19), (20, 21)):
        np.testing.assert_allclose(points[right] * (-1, 1), points[left], atol=1e-6)
        assert near[right] == pytest.approx(near[left])
        assert points[right, 0] < points[left, 0], "the person's right is the left of the picture"
    assert points[HEAD, 1] < points[NECK, 1] < points[8, 1] < points[9, 1] < points[10, 1]


def test_someone_seen_from_behind_is_the_mirror_of_the_front_in_depth_too():
    layout = layout_and_style(3)[0]
    front, back = (dataclasses.replace(layout, yaw=yaw, lean=0.0) for yaw in (0.3, 0.3 + np.pi))
    (points, near), (behind, far) = skeleton(front), skeleton(back)
    joints = range(18)  # hands and toes are seen from above
    np.testing.assert_allclose(behind[joints, 1], points[joints, 1], atol=1e-5)
    np.testing.assert_allclose(near[joints], -far[joints], atol=1e-6)
    np.testing.assert_allclose(points[joints, 0] - points[NECK, 0], behind[NECK, 0] - behind[joints, 0], atol=1e-5)


@pytest.mark.parametrize("lean", [-0.16, 0.1])
def test_leaning_turns_the_whole_body_around_the_head(lean):
    straight, leaning = skeleton(person()), skeleton(person(lean=lean))
    rotation = np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]])
    expected = (straight[0] - straight[0][HEAD]) @ rotation.T
    np.testing.assert_allclose(leaning[0] - leaning[0][HEAD], expected, atol=1e-5)
    np.testing.assert_array_equal(straight[1], leaning[1])


def test_an_arm_that_moves_moves_nothing_else():
    still, raised = skeleton(person()), skeleton(person(arms=(Limb(2.5, 0, 0, 0), Limb(0.2, 0, 0, 0))))
    moved = np.flatnonzero((still[0] != raised[0]).any(axis=1))
    assert moved.tolist() == [3, 4, 18], "elbow, wrist and hand of the right arm"
    assert raised[0][4, 1] < raised[0][2, 1] < still[0][4, 1]


def test_turning_the_head_moves_the_face_alone():
    still, turned = skeleton(person()), skeleton(person(head_turn=0.4))
    moved = np.flatnonzero((still[0] != turned[0]).any(axis=1))
    assert set(moved) <= {0, 14, 15, 16, 17} and 0 in moved
    assert turned[0][0, 0] > still[0][0, 0]


@given(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9), st.floats(0.1, 0.9), angles, st.floats(0.01, 0.12))
def test_the_frame_of_a_limb_runs_from_joint_to_joint_with_the_width_at_its_sides(x, y, length, angle, width):
    start = np.array([x, y])
    end = start + length * np.array([np.cos(angle), np.sin(angle)])
    frame = between(start, end, width)
    along, middle = frame[:, 1], frame[:, 2]
    np.testing.assert_allclose(middle, (start + end) / 2, atol=1e-5)
    assert np.linalg.norm(frame[:, 0]) == pytest.approx(width, rel=1e-3)
    assert abs(frame[:, 0] @ along) < 1e-5, "across and along are at right angles"
    stretch = np.linalg.norm(along) / (length / 2)
    assert stretch == pytest.approx(max(1.0, 0.7 * width / (length / 2)), rel=1e-3)
    np.testing.assert_allclose(middle + along / stretch, end, atol=1e-4)


def test_a_limb_that_points_at_the_viewer_keeps_a_frame_that_can_be_inverted():
    point = np.array([0.3, -0.2])
    frame = between(point, point, 0.05)
    assert np.isfinite(frame).all() and abs(np.linalg.det(frame[:, :2])) > 1e-6
    np.testing.assert_allclose(frame[:, 2], point, atol=1e-6)


@pytest.mark.parametrize("index", range(4))
def test_cloth_hangs_on_its_limb_and_joints_are_the_skeletons(index):
    layout = layout_and_style(index)[0]
    table, (points, _) = frames(layout), skeleton(layout)
    assert table.shape == (len(Part) + 18, 2, 3)
    for cloth, limb in SLEEVES.items():
        np.testing.assert_array_equal(table[cloth], table[limb])
    np.testing.assert_array_equal(table[len(Part) :, :, 2], points[:18])
    for part, (start, end, _) in BONES.items():
        np.testing.assert_allclose(table[part][:, 2], (points[start] + points[end]) / 2, atol=1e-5)


@pytest.mark.parametrize(("hand", "joint"), [(0, 18), (1, 19)])
def test_a_bag_hangs_below_the_hand_that_carries_it(hand, joint):
    layout = person(bag=hand)
    points = skeleton(layout)[0]
    place = frames(layout)[Part.bag][:, 2]
    assert place[0] == pytest.approx(points[joint, 0], abs=1e-6) and place[1] > points[joint, 1]


def test_the_trunk_is_narrower_from_the_side():
    """And as wide from behind as from the front, whichever way the person turns."""
    yaws = (0.0, np.pi / 2, -np.pi / 2, np.pi)
    front, right, left, back = (np.linalg.norm(frames(person(yaw=yaw))[Part.torso][:, 0]) for yaw in yaws)
    assert right == pytest.approx(left, rel=1e-4) and back == pytest.approx(front, rel=1e-4) and right < 0.7 * front


def test_sampled_layouts_hold_what_their_fields_promise():
    drawn = [layout_and_style(index)[0] for index in range(60)]
    assert all((lo.skirt == 0) != (lo.trousers == 0) for lo in drawn), "a skirt or trousers"
    assert {lo.bag for lo in drawn} == {-1, 0, 1} and {lo.hat for lo in drawn} == {True, False}
    assert all(0 <= lo.sleeve <= 2 and 0 <= lo.trousers <= 2 for lo in drawn)
    views = np.array([np.cos(lo.yaw) for lo in drawn])
    assert (views > 0.7).any() and (views < -0.8).any() and (np.abs(views) < 0.4).any(), "front, back and side"
    heads = np.array([lo.head for lo in drawn])
    assert (np.abs(heads[:, 0]) <= 0.32).all() and (heads[:, 1] > -0.93).all()
