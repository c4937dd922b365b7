"""From a photo to a condition: windows, alignment, the words for what cannot be used, and every program's way in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_portrait import GROUND, mesh, portrait
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from midms.conditions.make import ConditionSpec, is_drawn, make_condition
from midms.conditions.photos import annotate, faces, models, parts, people
from midms.conditions.photos.annotate import PhotoError
from midms.conditions.photos.faces import Box, aligned_window, cut_aligned, is_aligned
from midms.conditions.photos.networks import Window
from midms.config import ConfigError

EDGES, POSES = ConditionSpec(15, 64), ConditionSpec(20, 64)
lengths = st.floats(-500, 500)


@pytest.fixture
def drawn(monkeypatch):
    """The drawn portrait, with networks that know it; `boxes` and `faces` may be changed."""
    known = {"boxes": [box(128, 130, 100)], "portrait": portrait(), "yaw": 0.0, "presence": 1.0, "person": True}

    def look(photo, window=None):
        return [one for one in known["boxes"] if window is None]

    def fit(photo, one):
        scale = len(photo) / 256
        return faces.Face(mesh(known["yaw"]).points * scale * one.size[0] / 100, known["presence"])

    monkeypatch.setattr(faces, "find_boxes", look)
    monkeypatch.setattr(faces, "fit_mesh", fit)
    monkeypatch.setattr(parts, "person_mask", lambda photo: known["person"] * person_of(photo))
    monkeypatch.setattr(models, "have_models", lambda: True)
    return known


def person_of(photo: np.ndarray) -> np.ndarray:
    """All that has not the colour of the ground."""
    return (np.abs(photo.astype(int) - GROUND).sum(-1) > 60).astype(np.float32)


def box(x: float, y: float, side: float) -> Box:
    return Box(0.9, np.array([x, y]), np.array([side, side]), np.array([[x - 20, y], [x + 20, y]]))


@given(st.tuples(lengths, lengths), st.floats(1, 900), st.floats(-3.1, 3.1), st.integers(16, 512))
def test_points_of_a_window_come_back(centre, side, angle, size):
    window = Window(np.array(centre), side, angle)
    points = np.random.default_rng(0).uniform(0, size, (20, 3))
    matrix, back = window.matrix(size), window.to_photo(points, size)
    np.testing.assert_allclose(back[:, :2] @ matrix[:, :2].T + matrix[:, 2], points[:, :2], atol=1e-3)
    np.testing.assert_allclose(window.to_photo(np.full((1, 2), size / 2), size)[0], centre, atol=1e-3)
    np.testing.assert_allclose(back[:, 2], points[:, 2] * side / size)


@given(st.floats(-3.1, 3.1), st.floats(0.3, 4), st.tuples(lengths, lengths))
def test_an_aligned_face_stands_upright_in_the_middle(angle, scale, shift):
    """Whatever the turn, size and place: eyes level, the person's right one on the left, at the same places."""
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = mesh().points.copy()
    points[:, :2] = points[:, :2] @ turn.T + shift
    window = aligned_window(faces.Face(points))
    seen, plain = faces.Face(points).seen_in(window, 256), mesh().seen_in(aligned_window(mesh()), 256)
    np.testing.assert_allclose(seen.points[:, :2], plain.points[:, :2], atol=0.1)
    eyes = [seen.points[list(ids), :2].mean(0) for ids in (faces.RIGHT_EYE_CORNERS, faces.LEFT_EYE_CORNERS)]
    assert eyes[0][0] < 128 < eyes[1][0] and abs(eyes[0][1] - eyes[1][1]) < 3
    assert is_aligned(Window(np.array([128.0, 128.0]), 256), (256, 256))


def test_beyond_the_frame_there_is_a_soft_mirror_image():
    photo = portrait().photo
    cut = cut_aligned(photo, Window(np.array([128.0, 10.0]), 200.0), 100)
    assert cut.shape == (100, 100, 3) and cut.min() > 0
    inside = cut_aligned(photo, Window(np.array([128.0, 128.0]), 256.0), 256)
    assert np.abs(inside.astype(int) - photo).max() <= 1


def test_a_portrait_is_cut_out_unless_it_is_to_stay(drawn):
    photo = Image.fromarray(drawn["portrait"].photo)
    whole = annotate.portrait(photo, align=False)
    assert whole.photo is photo and whole.note == "" and whole.parts.shape == (256, 256)
    assert {1, 4, 5, 8, 13} <= set(np.unique(whole.parts))
    cut = annotate.portrait(photo, min_side=64)
    assert cut.photo.width == cut.photo.height and "cut out" in cut.note and cut.parts.max() == 13
    assert 90 < cut.photo.width < 256


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boxes": []}, "a person, but no face"),
        ({"presence": 0.2}, "a person, but no face"),
        ({"boxes": [], "person": False}, "^no face was found"),
        ({"yaw": 60.0}, "turned by about 60 degrees, at most 36"),
        ({"yaw": -45.0}, "turned by about 45 degrees"),
    ],
)
def test_photos_that_cannot_be_used_are_told_apart(drawn, tmp_path, change, words):
    drawn.update(change)
    photo = Image.fromarray(portrait().photo)
    with pytest.raises(PhotoError, match=words):
        annotate.portrait(photo)
    photo.save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"a\.png: "):
        make_condition(tmp_path / "a.png", EDGES)


def test_of_several_faces_the_largest_is_taken(drawn):
    drawn["boxes"] = [box(128, 130, 100), box(60, 60, 50), box(200, 60, 40)]
    made = annotate.portrait(Image.fromarray(drawn["portrait"].photo), align=False)
    assert made.note.startswith("3 faces: the largest")


def test_a_photo_is_a_portrait_and_a_drawing_a_drawing(drawn, tmp_path):
    Image.fromarray(drawn["portrait"].photo).save(tmp_path / "photo.png")
    made = make_condition(tmp_path / "photo.png", EDGES, align=False)
    assert made.kind == "edges" and made.models and made.maps.shape == (15, 64, 64)
    assert all(float(made.maps[k].min()) == 0 for k in (1, 2, 3, 4, 5, 8, 13)) and made.maps[14].any()
    assert made.photo is not None and made.size == (256, 256)
    aligned = make_condition(tmp_path / "photo.png", EDGES)
    assert aligned.size[0] == aligned.size[1] != 256 and "cut out" in aligned.note
    lines = Image.new("RGB", (200, 200), (250, 248, 240))
    lines.paste((20, 20, 60), (20, 50, 180, 54))
    lines.save(tmp_path / "lines.png")
    assert make_condition(tmp_path / "lines.png", EDGES).kind == "drawing"
    assert is_drawn(lines) and is_drawn(Image.new("RGB", (9, 9))) and not is_drawn(Image.open(tmp_path / "photo.png"))


def test_a_person_gives_joints(drawn, monkeypatch, tmp_path):
    joints = np.full((18, 3), np.nan)
    joints[:8] = np.column_stack([np.linspace(30, 90, 8), np.linspace(20, 120, 8), np.ones(8)])
    monkeypatch.setattr(people, "find_joints", lambda photo: joints.copy())
    Image.new("RGB", (1024, 2048), (9, 99, 199)).save(tmp_path / "a.png")
    made = make_condition(tmp_path / "a.png", POSES)
    assert made.kind == "keypoints" and made.models and made.size == (2048, 1024)
    pose = annotate.pose_of_person(Image.open(tmp_path / "a.png"))
    np.testing.assert_allclose(pose[:8, :2], joints[:8, :2] * 4)  # of 256 x 512, back in the photo's pixels
    monkeypatch.setattr(people, "find_joints", lambda photo: None)
    with pytest.raises(ConfigError, match=r"a\.png: nobody was found"):
        make_condition(tmp_path / "a.png", POSES)


def test_without_networks_the_remedy_is_named(tmp_path):
    Image.fromarray(portrait().photo).save(tmp_path / "a.png")
    made = make_condition(tmp_path / "a.png", EDGES)
    assert "midms get photos" in made.note and torch.equal(made.maps[1:14], torch.ones(13, 64, 64))
    with pytest.raises(ConfigError, match="midms get photos"):
        make_condition(tmp_path / "a.png", POSES)


def test_the_real_networks_on_a_portrait_and_a_person(photo_networks, shared, tmp_path):
    """A photo laid small and turned into a large one is found, and cut out the way it was."""
    root = shared / "samples"
    photo = Image.open(root / "CelebAMask-HQ" / "CelebA-HQ-img" / "26397.jpg").convert("RGB")
    scene = Image.new("RGB", (900, 700), (90, 120, 150))
    scene.paste(photo.resize((300, 300)).rotate(20, fillcolor=(90, 120, 150)), (500, 250))
    window = aligned_window(annotate.find_face(np.asarray(scene))[0])
    assert np.degrees(window.angle) == pytest.approx(-20, abs=4) and window.side == pytest.approx(300, rel=0.15)
    np.testing.assert_allclose(window.centre, (650, 400), atol=25)
    assert is_aligned(aligned_window(annotate.find_face(np.asarray(photo.resize((512, 512))))[0]), (512, 512))
    for name, words in (("Tees_Tanks/id_00007059/03_3_back.jpg", "a person, but no face"),
                        ("Dresses/id_00002791/01_2_side.jpg", "turned by about")):  # fmt: skip
        with pytest.raises(PhotoError, match=words):
            annotate.portrait(Image.open(root / "DeepFashion" / "img" / "WOMEN" / name).convert("RGB"))
    with pytest.raises(PhotoError, match="no face"):
        annotate.portrait(Image.new("RGB", (300, 200), (30, 90, 160)))
    with pytest.raises(PhotoError, match="nobody"):
        annotate.pose_of_person(Image.new("RGB", (300, 200), (30, 90, 160)))
    assert Path(models.model_file(models.BODY)).is_file()
