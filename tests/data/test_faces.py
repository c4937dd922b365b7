"""Drawn faces: features that follow the head, options of a layout that change their part alone, edge channels."""

from __future__ import annotations

import dataclasses
from functools import partial

import drawn_scenes
import numpy as np
import pytest

from midms.conditions.edges import FACE_PARTS
from midms.data.procedural import faces
from midms.data.procedural.faces import Part

SIZE = 96
layout_and_style = partial(drawn_scenes.layout_and_style, "faces")
FEATURES = [Part.nose, Part.l_eye, Part.r_eye, Part.l_brow, Part.r_brow, Part.u_lip, Part.mouth, Part.l_lip]


def portrait(**changes: object) -> tuple[faces.Layout, faces.Style]:
    """An upright face in the middle that looks at the viewer, with changes."""
    layout, style = layout_and_style(0)
    plain = {"center": (0.0, 0.0), "roll": 0.0, "yaw": 0.0, "gaze": 0.0, "parting": 0.0, "hair_length": 0.5}
    plain |= {"glasses": False, "earrings": False, "mouth_open": 0.5}
    return dataclasses.replace(layout, **(plain | changes)), style


def centres(layout: faces.Layout) -> np.ndarray:
    return faces.frames(layout)[:, :, 2]


def test_a_face_that_looks_at_the_viewer_is_symmetric():
    middle = centres(portrait()[0])
    for left, right in (("l_eye", "r_eye"), ("l_iris", "r_iris"), ("l_brow", "r_brow"), ("l_ear", "r_ear"),
                        ("l_earring", "r_earring")):  # fmt: skip
        np.testing.assert_allclose(middle[Part[left]] * (-1, 1), middle[Part[right]], atol=1e-6)
    assert np.abs(middle[[Part.nose, Part.mouth, Part.u_lip, Part.l_lip, Part.skin, Part.hair], 0]).max() < 1e-6


def test_features_lie_below_each_other():
    for index in range(20):
        layout = dataclasses.replace(layout_and_style(index)[0], roll=0.0)
        y = centres(layout)[:, 1]
        order = [y[part] for part in (Part.l_brow, Part.l_eye, Part.nose, Part.u_lip, Part.mouth, Part.l_lip)]
        assert order == sorted(order)
        assert y[Part.l_ear] < y[Part.l_earring] and y[Part.neck] > y[Part.skin]


@pytest.mark.parametrize("roll", [-0.3, 0.2, np.pi / 2])
def test_features_turn_with_the_head_and_the_background_does_not(roll):
    straight, turned = portrait()[0], portrait(roll=roll)[0]
    rotation = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    np.testing.assert_allclose(centres(turned)[FEATURES], centres(straight)[FEATURES] @ rotation.T, atol=1e-5)
    still = [Part.background, Part.cloth, Part.neck]
    np.testing.assert_array_equal(faces.frames(turned)[still], faces.frames(straight)[still])


def test_a_larger_head_has_larger_features_in_the_same_places():
    small, large = (faces.frames(portrait(scale=scale)[0]) for scale in (0.3, 0.6))
    np.testing.assert_allclose(large[FEATURES], 2 * small[FEATURES], atol=1e-6)


@pytest.mark.parametrize("side", [-1, 1])
def test_the_far_side_of_a_turned_head_is_narrower(side):
    table = faces.frames(portrait(yaw=0.8 * side)[0])
    widths = {part: np.linalg.norm(table[part][:, 0]) for part in (Part.l_eye, Part.r_eye)}
    far, near = (Part.r_eye, Part.l_eye) if side > 0 else (Part.l_eye, Part.r_eye)
    assert widths[far] < widths[near]
    assert side * table[Part.nose][0, 2] > side * table[Part.skin][0, 2], "the nose moves to where the face looks"


def test_eyes_look_where_the_layout_says():
    for gaze in (-0.5, 0.5):
        middle = centres(portrait(gaze=gaze)[0])
        for eye, iris in ((Part.l_eye, Part.l_iris), (Part.r_eye, Part.r_iris)):
            assert np.sign(middle[iris, 0] - middle[eye, 0]) == np.sign(gaze)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"glasses": True}, {Part.glasses}),
        ({"earrings": True}, {Part.l_earring, Part.r_earring}),
        ({"eye_open": 0.75}, {Part.l_eye, Part.r_eye, Part.l_iris, Part.r_iris}),
        ({"neckline": 0.5}, {Part.cloth, Part.neck}),
    ],
)
def test_an_option_of_the_layout_changes_the_labels_of_its_own_parts_alone(change, parts):
    before = faces.render(*portrait(eye_open=0.45, neckline=0.1), SIZE)
    after = faces.render(*portrait(**({"eye_open": 0.45, "neckline": 0.1} | change)), SIZE)
    changed = before.labels != after.labels
    assert changed.any()
    gone, come = set(before.labels[changed]), set(after.labels[changed])
    assert gone & parts or come & parts
    assert all(part in parts for part in set(np.unique(after.labels)) - set(np.unique(before.labels)))
    touched = np.isin(before.labels, list(parts)) | np.isin(after.labels, list(parts))
    assert touched[changed].all()


def test_a_bald_head_has_no_hair_and_long_hair_more_than_short_hair():
    areas = [
        int((faces.render(*portrait(hair_length=length), SIZE).labels == Part.hair).sum()) for length in (0.0, 0.3, 1.0)
    ]
    assert areas[0] == 0 < areas[1] < areas[2]


def test_a_mask_holds_what_is_seen_of_its_part():
    """Eyes and the like lie on the skin, whose mask goes on below them; a part that is hidden is in no mask twice."""
    scene = faces.render(*portrait(glasses=True, earrings=True), SIZE)
    assert set(scene.masks) <= set(FACE_PARTS) and {"skin", "hair", "nose", "eye_g"} <= set(scene.masks)
    for name, part in (("l_eye", Part.l_eye), ("nose", Part.nose), ("mouth", Part.mouth), ("l_brow", Part.l_brow)):
        visible = scene.labels == part
        assert (scene.masks[name][visible]).all(), f"{name} is in its mask where it is on top"
    assert not (scene.masks["hair"] & scene.masks["skin"]).any()
    assert not (scene.masks["hair"] & (scene.masks["l_ear"] | scene.masks["r_ear"])).any()


def test_distance_channels_vanish_on_the_outline_of_their_part_and_absent_parts_are_far_everywhere():
    maps = faces.condition(faces.render(*portrait(), SIZE))
    assert maps.shape == (15, SIZE, SIZE)
    channels = dict(zip(FACE_PARTS, maps[1:14], strict=True))
    assert channels["eye_g"].min() == 255, "no glasses"
    assert all(channels[name].min() == 0 for name in ("skin", "hair", "nose", "l_eye", "r_eye", "mouth"))
    row, column = np.unravel_index(channels["r_eye"].argmin(), channels["r_eye"].shape)
    assert column > SIZE / 2 and channels["l_eye"][row, column] > 0, "the right eye of the picture is on its right"


def test_colours_of_a_style_go_where_their_part_is():
    layout, style = portrait()
    red, blue = (dataclasses.replace(style, iris=np.array(colour, np.float32)) for colour in ((1, 0, 0), (0, 0, 1)))
    first, second = (faces.render(layout, look, SIZE) for look in (red, blue))
    changed = (first.image != second.image).any(axis=2)
    around = np.isin(first.labels, [Part.l_iris, Part.r_iris, Part.l_eye, Part.r_eye, Part.skin])
    assert changed.any() and around[changed].all()
    iris = first.labels == Part.l_iris
    assert first.image[iris][:, 0].mean() > second.image[iris][:, 0].mean()
    np.testing.assert_array_equal(first.labels, second.labels)
