"""The benchmark of conditions from photos, and the bars that it is held to."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import photos
from midms.conditions.edges import INSIDE_SKIN
from midms.conditions.photos import annotate
from midms.io.images import read_labels, read_rgb

#: Classes of the one-file label maps of CelebAMask-HQ.
CLASSES = ("skin", "hair", "l_brow", "r_brow", "l_eye", "r_eye", "l_ear", "r_ear", "nose", "u_lip", "mouth", "l_lip")


def rows(**changes: object) -> dict[str, dict[str, object]]:
    options = argparse.Namespace(**({"faces": None, "people": None, "threads": 1} | changes))
    return {str(row["name"]): row for row in photos.run(options)}


def test_the_true_answer_has_no_difference(monkeypatch):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
    ids = np.zeros((256, 256), np.uint8)
    ids[50:200, 60:190], ids[90:100, 80:110] = 1, 5
    masks = {"skin": ids > 0, "r_eye": ids == 5}
    monkeypatch.setattr(annotate, "portrait", lambda photo, align: annotate.Portrait(photo, ids))
    score = photos.score_face(picture, masks)
    assert score.difference == 0 and score.canny > 0.05 and score.missed == score.invented == []
    score = photos.score_face(picture, {"skin": masks["skin"], "hair": masks["skin"]})
    assert score.missed == ["hair"] and score.invented == ["r_eye"] and score.difference > 0.05


def test_joints_are_counted(monkeypatch):
    true, found = (np.full((18, 3), np.nan) for _ in range(2))
    true[:4], found[:3] = 50.0, 50.0
    found[1, 0], found[2, 0], found[9] = 54.0, 56.0, 10.0  # near, far, invented
    monkeypatch.setattr(annotate, "pose_of_person", lambda photo: found)
    assert photos.score_pose(Image.new("RGB", (60, 100)), true)[:4] == (4, 3, 2, 1)


@pytest.mark.parametrize("words", [{}, {"faces": Path("nowhere")}, {"people": Path("nowhere")}])
def test_folders_without_photos_are_refused(words):
    with pytest.raises(ValueError, match=r"expected --faces|nowhere: no"):
        rows(**words)


def test_faces_of_celeba_keep_the_bar(photo_networks, shared):
    """The bar of 0.055 for the photos with all masks."""
    found = rows(faces=shared / "samples" / "CelebAMask-HQ")
    assert len(found) == 7 and found["all"]["difference"] <= 0.055 and found["all"]["canny"] > 0.5


@pytest.mark.parametrize("change", ["none", "quarter", "dark", "flip"])
def test_other_portraits_keep_a_wider_bar(photo_networks, shared, change):
    """The bar of 0.075 for photos of the same form, whole and changed; their truth is a one-file label map."""
    root = shared / "samples" / "CelebAMask-HQ-eyes-only"
    scores = []
    for file in sorted((root / "CelebA-HQ-img").glob("*.jpg")):
        name = f"all_parts_except_glasses/{int(file.stem):05d}.png"
        masks = masks_of(read_labels(root / "CelebAMask-HQ-mask-anno" / name, photos.SIDE))
        photo = read_rgb(file)
        if change == "quarter":
            photo = photo.resize((photo.width // 4, photo.height // 4), Image.Resampling.BOX)
        elif change == "dark":
            photo = photo.point(lambda value: value * 0.4)
        elif change == "flip":
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            masks = {mirrored(part): mask[:, ::-1] for part, mask in masks.items()}
        scores.append(photos.score_face(photo, masks).difference)
    assert len(scores) == 4 and np.mean(scores) <= 0.075


def masks_of(labels: np.ndarray) -> dict[str, np.ndarray]:
    masks = {part: labels == k for k, part in enumerate(CLASSES, start=1) if (labels == k).any()}
    masks["skin"] = np.logical_or.reduce([masks[part] for part in ("skin", *INSIDE_SKIN) if part in masks])
    return masks


def mirrored(part: str) -> str:
    return {"l": "r", "r": "l"}[part[0]] + part[1:] if part[1] == "_" and "lip" not in part else part


def test_joints_of_deepfashion_keep_the_bar(photo_networks, shared):
    """At least 85 % of the joints that were found within 5 % of the side, and of all; at most 6 invented."""
    whole = rows(people=shared / "samples" / "DeepFashion")["all"]
    assert whole["joints"] == 82 and whole["invented"] <= 6
    assert whole["near"] >= 0.85 * 82 and whole["near"] >= 0.85 * whole["found"]
