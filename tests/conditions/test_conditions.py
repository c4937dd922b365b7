"""Conditions from drawings, photos, joints, labels and ready maps."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from midms.conditions import annotators
from midms.conditions.edges import FACE_PARTS, edge_condition
from midms.conditions.keypoints import pose_condition
from midms.conditions.make import ConditionSpec, label_maps, line_drawing, make_condition, photo_edges, pose_maps
from midms.conditions.poses import write_json_poses, write_text_poses
from midms.config import ConfigError
from midms.io.maps import read_maps

EDGES, POSES, CLASSES, IMAGES = (
    ConditionSpec(15, 64),
    ConditionSpec(20, 64),
    ConditionSpec(151, 64),
    ConditionSpec(3, 64, images=True),
)


def pose(width: int, height: int, seed: int = 0) -> np.ndarray:
    joints = np.random.default_rng(seed).uniform(0.1, 0.9, (18, 3))
    return joints * (width, height, 1)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_thin_lines_survive_whatever_the_size(width: int, height: int, seed: int) -> None:
    pixels = np.full((height, width), 255, np.uint8)
    row = int(np.random.default_rng(seed).integers(height))
    if height > 2:
        pixels[row] = 0
    maps = line_drawing(Image.fromarray(pixels), 64)
    assert maps.shape[0] == 15 and 16 <= min(maps.shape[1:]) and max(maps.shape[1:]) <= 256
    rows = maps[0].mean(dim=1)
    assert set(rows.tolist()) <= {0.0, 1.0} and (rows.max() == 1) == (height > 2)
    assert set(maps[1:14].unique().tolist()) == {1.0} and not maps[14].any()


def test_dark_paper_and_light_paper_are_the_same_drawing() -> None:
    pixels = np.full((80, 80, 3), 250, np.uint8)
    pixels[20:60, 30] = 10
    assert torch.equal(line_drawing(Image.fromarray(pixels), 64), line_drawing(Image.fromarray(255 - pixels), 64))
    assert torch.equal(line_drawing(Image.fromarray(pixels), 80), line_drawing(Image.fromarray(pixels)))


def test_edges_of_a_photo_are_the_data_sets_own(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC).convert("RGB")
    parts = np.zeros((64, 64), np.uint8)
    parts[10:50, 10:50] = 1
    expected = edge_condition(np.asarray(photo.convert("L")), {"skin": parts == 1}, pixel=4.0)
    assert torch.equal(photo_edges(photo, 64, parts) * 255, torch.from_numpy(expected).float())
    photo.resize((150, 100)).save(tmp_path / "photo.jpg")
    made = make_condition(tmp_path / "photo.jpg", EDGES, "edges")
    assert made.size == (100, 150) and made.maps.shape == (15, 52, 78) and made.maps[0].any()
    assert "midms get photos" in made.note and (made.maps[1:14] == 1).all()


@pytest.mark.slow
def test_a_face_parser_adds_the_outlines_of_parts(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra [text]")
    names = ["background", *FACE_PARTS]
    config = transformers.SegformerConfig(
        num_encoder_blocks=1, depths=[1], sr_ratios=[1], hidden_sizes=[8], patch_sizes=[7], strides=[4],
        num_attention_heads=[1], mlp_ratios=[1], decoder_hidden_size=8, id2label=dict(enumerate(names)),
        label2id={name: k for k, name in enumerate(names)},
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "parser")
    photo = Image.effect_noise((90, 60), 80).convert("RGB")
    photo.save(tmp_path / "photo.png")
    made = make_condition(tmp_path / "photo.png", EDGES, "edges", [str(tmp_path / "parser")])
    parts = annotators.face_parser(str(tmp_path / "parser"))([photo])[0]
    assert torch.equal(made.maps, photo_edges(photo, 64, parts))
    assert made.maps[14].any() and not made.note and made.size == (60, 90)
    with pytest.raises(ConfigError, match="no SegformerForSemanticSegmentation weights"):
        make_condition(tmp_path / "photo.png", EDGES, "edges", [str(tmp_path)])


@pytest.mark.parametrize("form", ["json", "candidate", "subset"])
def test_joints_in_files(tmp_path: Path, form: str) -> None:
    joints = pose(64, 64)
    write_json_poses(tmp_path / "a_keypoints.json", [joints])
    write_text_poses(tmp_path / "a", [joints])
    file = tmp_path / {"json": "a_keypoints.json"}.get(form, f"a_{form}.txt")
    made = make_condition(file, POSES)
    expected = pose_condition(joints[:, :2], 64, 64, pixel=4.0)
    assert made.size == (64, 64) and torch.equal(made.maps * 255, torch.from_numpy(expected).float())


def test_joints_need_the_size_of_their_photo(tmp_path: Path) -> None:
    joints = pose(200, 100)
    file = tmp_path / "a_keypoints.json"
    write_json_poses(file, [joints])
    with pytest.raises(ConfigError, match="--condition-size"):
        make_condition(file, POSES)
    made = make_condition(file, POSES, canvas=(200, 100))
    assert made.size == (100, 200) and torch.equal(made.maps, pose_maps(joints, (200, 100), 64))
    Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg")
    assert torch.equal(make_condition(file, POSES).maps, made.maps)


def test_a_photo_without_a_pose_network_says_what_to_do(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="OpenPose JSON"):
        make_condition(tmp_path / "a.png", POSES)
    with pytest.raises(ConfigError, match=r"rtmlib|no such file"):
        make_condition(tmp_path / "a.png", POSES, weights=["pose.onnx"])
    with pytest.raises(ConfigError, match="upernet"):
        make_condition(tmp_path / "a.png", CLASSES)


def test_a_map_of_classes(tmp_path: Path) -> None:
    labels = np.zeros((30, 120), np.uint8)
    labels[:, 60:] = 3
    labels[0, 0] = 255
    Image.fromarray(labels).save(tmp_path / "labels.png")
    made = make_condition(tmp_path / "labels.png", CLASSES)
    assert made.size == (30, 120) and made.maps.shape == (151, 32, 128)
    assert (made.maps.sum(dim=0) == 1).all() and made.maps[3, :, 64:].all() and made.maps[150, 0, 0] == 1
    assert torch.equal(made.maps, label_maps(labels, 64, 151))
    Image.fromarray(np.full((4, 4), 200, np.uint8)).save(tmp_path / "labels.png")
    with pytest.raises(ConfigError, match="label 200"):
        make_condition(tmp_path / "labels.png", CLASSES)


def test_ready_maps_are_taken_as_they_are(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).integers(0, 256, (15, 20, 31), dtype=np.uint8)
    np.save(tmp_path / "a.npy", maps)
    np.savez(tmp_path / "a.npz", maps / 255)
    for name in ("a.npy", "a.npz"):
        made = make_condition(tmp_path / name, EDGES)
        assert made.size == (20, 31) and torch.allclose(made.maps * 255, torch.from_numpy(maps).float(), atol=1e-4)
    Image.fromarray(maps[0]).save(tmp_path / "one.png")
    assert torch.equal(
        make_condition(tmp_path / "one.png", ConditionSpec(1, 64), "map").maps[0] * 255, torch.tensor(maps[0])
    )
    with pytest.raises(ConfigError, match="1 channels, these weights take 15"):
        make_condition(tmp_path / "one.png", EDGES, "map")
    Image.new("RGB", (100, 100), (255, 0, 0)).save(tmp_path / "image.png")
    image = make_condition(tmp_path / "image.png", IMAGES)
    assert image.maps.shape == (3, 64, 64) and image.maps[:, 5, 5].tolist() == [1, -1, -1]


@pytest.mark.parametrize("spec", [EDGES, CLASSES, IMAGES, ConditionSpec(1, 64)])
def test_a_turned_file_is_the_condition_that_it_shows(tmp_path: Path, spec: ConditionSpec) -> None:
    """Its maps, and the size of the picture that is made of it."""
    coarse = np.random.default_rng(0).integers(0, 5, (4, 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    shown = Image.fromarray(coarse).convert("RGB" if spec is IMAGES else "L")
    turn = Image.Exif()
    turn[0x0112] = 8  # is to be shown a quarter turn anticlockwise
    shown.save(tmp_path / "upright.png")
    shown.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "turned.png", exif=turn)
    kind = "drawing" if spec is EDGES else "map" if spec.channels == 1 else None
    upright, turned = (make_condition(tmp_path / f"{name}.png", spec, kind) for name in ("upright", "turned"))
    assert turned.size == upright.size == (32, 64) and torch.equal(turned.maps, upright.maps)


@pytest.mark.parametrize(
    ("spec", "kind", "words"),
    [
        (POSES, "edges", "take 20 condition maps; expected map or keypoints"),
        (EDGES, "segmentation", "expected map or drawing or edges"),
        (CLASSES, "drawing", "expected map or segmentation"),
        (IMAGES, "edges", "take an image; expected map"),
        (EDGES, "sketch", "expected one of map, drawing"),
    ],
)
def test_kinds_that_do_not_fit_the_weights(spec: ConditionSpec, kind: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_condition("a.png", spec, kind)


def claims(shape: tuple[int, ...]) -> bytes:
    """The bytes of a .npy file that claims more than it holds."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes; expected condition maps"),
        (b"not an array", "no array"),
        (claims((15, 10**6, 10**6)), "claims an array"),
        (claims((15, 8, 8)), "claims an array"),
        (json.dumps([1]).encode(), "no array"),
    ],
)
def test_files_that_hold_no_maps(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_maps(tmp_path / "a.npy", 15)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((14, 4, 4), np.uint8), r"expected \(15, H, W\)"),
        (np.full((15, 4, 4), 2.0), "values from 2 to 2"),
        (np.full((15, 4, 4), np.nan), "expected 0 to 1"),
        (np.zeros((15, 4, 4), np.complex64), "type complex64"),
        (np.zeros((4, 4)), r"shape \(4, 4\)"),
        (np.array([[["a"]]] * 15), "type"),
    ],
)
def test_arrays_that_are_no_maps(tmp_path: Path, array: np.ndarray, words: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ConfigError, match=words):
        read_maps(tmp_path / "a.npy", 15)


def test_pickles_and_archives_without_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("note.txt", "nothing")
    for name in ("a.npy", "a.npz", "none.npy"):
        with pytest.raises(ConfigError, match=name):
            read_maps(tmp_path / name)


@pytest.mark.parametrize(("paper", "pencil"), [(255, 150), (200, 140), (128, 0), (0, 90), (90, 255)])
def test_pencil_on_any_paper_is_ink(tmp_path: Path, paper: int, pencil: int) -> None:
    """With the grain of a scan; the same pixels as black on white."""
    rng = np.random.default_rng(0)
    lines = np.zeros((64, 64), bool)
    lines[20:40, 30:32], lines[10, 5:60] = True, True
    pixels = np.where(lines, pencil, paper) + rng.integers(-5, 6, lines.shape)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "drawing.png")
    made = make_condition(tmp_path / "drawing.png", EDGES)
    assert torch.equal(made.maps[0], torch.from_numpy(lines).float()) and not made.note


def test_a_large_drawing_takes_a_few_bytes_a_pixel() -> None:
    """So that one of a hundred million pixels, the most that are read, fits the memory of a small machine."""
    drawing = Image.new("L", (1600, 1500), 255)
    drawing.paste(0, (100, 700, 1500, 704))
    tracemalloc.start()
    try:
        maps = line_drawing(drawing, 64)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert maps[0].any() and peak < 16 * 1600 * 1500


def test_blank_paper_and_photos_as_drawings_are_noted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, pixels, words in (
        ("white", np.full((40, 40), 255), "no line was found"),
        ("grain", 250 + rng.integers(0, 5, (40, 40)), "no line was found"),
        ("faint", np.where(np.eye(40, dtype=bool), 245, 252), "no line was found"),
        ("halves", np.repeat([[0, 255]], 40, 0).repeat(20, 1), "50% of the drawing counts as ink"),
        ("one", np.zeros((1, 1)), "no line was found"),
    ):
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{name}.png")
        made = make_condition(tmp_path / f"{name}.png", EDGES, "drawing")
        assert words in made.note and "\n" not in made.note, name
        assert made.maps[0].any() == (name == "halves")


def test_ids_in_a_jpeg_are_refused_and_dont_care_is_noted(tmp_path: Path) -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[:, 20:] = 7
    Image.fromarray(labels).save(tmp_path / "labels.jpg")
    with pytest.raises(ConfigError, match="JPEG compression changes class ids"):
        make_condition(tmp_path / "labels.jpg", CLASSES)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    assert not make_condition(tmp_path / "labels.png", CLASSES).note
    labels[0] = 255
    Image.fromarray(labels).save(tmp_path / "labels.png")
    assert "raise ids that count from 0" in make_condition(tmp_path / "labels.png", CLASSES).note
