"""Pose conditions: what is drawn where, what an unseen joint leaves out, and how a pose scales."""

from __future__ import annotations

import numpy as np
import pytest

from midms.conditions.keypoints import COLOURS, JOINTS, KEYPOINT_CHANNELS, LIMBS, pose_condition

SIZE = 64
UNSEEN = np.nan


def standing() -> np.ndarray:
    """A person seen from the front, every joint inside 64 x 64 pixels."""
    places = {
        "nose": (32, 10), "neck": (32, 18), "r_shoulder": (24, 19), "r_elbow": (20, 28), "r_wrist": (18, 37),
        "l_shoulder": (40, 19), "l_elbow": (44, 28), "l_wrist": (46, 37), "r_hip": (28, 38), "r_knee": (27, 48),
        "r_ankle": (27, 58), "l_hip": (36, 38), "l_knee": (37, 48), "l_ankle": (37, 58), "r_eye": (30, 8),
        "l_eye": (34, 8), "r_ear": (27, 9), "l_ear": (37, 9),
    }  # fmt: skip
    return np.array([places[name] for name in JOINTS], np.float64)


def joint(name: str) -> int:
    return JOINTS.index(name)


def test_the_form_is_three_colours_and_a_distance_for_each_limb() -> None:
    maps = pose_condition(standing(), SIZE, SIZE)
    assert maps.shape == (KEYPOINT_CHANNELS, SIZE, SIZE) == (20, 64, 64) and maps.dtype == np.uint8
    assert all(maps[channel].min() == 0 for channel in range(3, 20)), "inside its limb a distance is 0"


def test_distances_grow_away_from_the_limb_and_end_at_its_joints() -> None:
    joints = standing()
    maps = pose_condition(joints, SIZE, SIZE)
    for number, (a, b) in enumerate(LIMBS):
        middle = ((joints[a] + joints[b]) / 2).astype(int)
        assert maps[3 + number, middle[1], middle[0]] == 0
        distance = maps[3 + number].astype(int)
        assert distance[63, 63] > 0
        steps = np.abs(np.diff(distance, axis=0)).max(), np.abs(np.diff(distance, axis=1)).max()
        assert max(steps) <= 1, "a third of a pixel a pixel, cut to whole numbers"


def test_an_unseen_joint_takes_its_limbs_and_nothing_else_away() -> None:
    joints = standing()
    joints[joint("l_elbow")] = UNSEEN
    maps, whole = pose_condition(joints, SIZE, SIZE), pose_condition(standing(), SIZE, SIZE)
    for number, limb in enumerate(LIMBS, start=3):
        if joint("l_elbow") in limb:
            assert (maps[number] == 255).all()
        else:
            np.testing.assert_array_equal(maps[number], whole[number])
    x, y = standing()[joint("r_ankle")].astype(int)
    np.testing.assert_array_equal(maps[:3, y, x], whole[:3, y, x])


def test_nobody_is_black_and_far_away() -> None:
    maps = pose_condition(np.full((18, 2), UNSEEN), SIZE, SIZE)
    assert not maps[:3].any() and (maps[3:] == 255).all()


def test_a_lone_joint_is_a_disc_of_its_colour() -> None:
    joints = np.full((18, 2), UNSEEN)
    joints[joint("r_knee")] = (20, 40)
    drawing = pose_condition(joints, SIZE, SIZE)[:3]
    assert drawing[:, 40, 20].tolist() == list(reversed(COLOURS[joint("r_knee")])), "R, G, B of a (B, G, R) table"
    ys, xs = np.nonzero(drawing.any(axis=0))
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (16, 24, 36, 44), "radius 4"


def test_mirroring_a_person_swaps_left_and_right_limbs() -> None:
    joints = standing()
    mirrored = joints.copy()
    for name in JOINTS:
        other = name.replace("l_", "R_", 1).replace("r_", "l_", 1).replace("R_", "r_", 1) if "_" in name else name
        mirrored[joint(name)] = (SIZE - joints[joint(other)][0], joints[joint(other)][1])
    one, two = pose_condition(joints, SIZE, SIZE), pose_condition(mirrored, SIZE, SIZE)
    pairs = {("r_shoulder", "r_elbow"): ("l_shoulder", "l_elbow"), ("r_hip", "r_knee"): ("l_hip", "l_knee")}
    for right, left in pairs.items():
        a, b = (3 + LIMBS.index((joint(limb[0]), joint(limb[1]))) for limb in (right, left))
        difference = np.abs(one[a][:, 1:].astype(int) - two[b][:, :0:-1].astype(int))
        assert difference.max() <= 1


def test_a_pose_at_twice_the_size_is_the_same_picture() -> None:
    small = pose_condition(standing(), SIZE, SIZE, pixel=1.0)
    large = pose_condition(2 * standing(), 2 * SIZE, 2 * SIZE, pixel=0.5)
    difference = np.abs(large[3:, ::2, ::2].astype(int) - small[3:].astype(int))
    assert difference.mean() < 0.5 and difference.max() <= 3


def test_resampling_as_the_release_does_keeps_the_form() -> None:
    maps = pose_condition(standing(), SIZE, SIZE, size=32)
    assert maps.shape == (20, 32, 32)
    same = pose_condition(standing(), SIZE, SIZE, size=SIZE)
    np.testing.assert_array_equal(same, pose_condition(standing(), SIZE, SIZE))
    colours = {tuple(colour) for colour in pose_condition(standing(), SIZE, SIZE)[:3].reshape(3, -1).T}
    assert {tuple(colour) for colour in maps[:3].reshape(3, -1).T} <= colours, "no new colours between pixels"


@pytest.mark.parametrize("shape", [(17, 2), (18, 3), (36,)])
def test_another_number_of_joints_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(18, 2\), NaN where one is unseen"):
        pose_condition(np.zeros(shape), SIZE, SIZE)
