"""Masks of face parts from a mesh and a person mask, and the map of ids that holds them."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_portrait import SIDE, mesh, portrait

from midms.conditions.edges import FACE_PARTS, INSIDE_SKIN, part_masks
from midms.conditions.photos import parts
from midms.conditions.photos.annotate import part_ids


@pytest.fixture
def masks_of(monkeypatch):
    def make(**changes):
        drawn = portrait(**changes)
        monkeypatch.setattr(parts, "person_mask", lambda photo: drawn.person)
        return parts.face_masks(drawn.photo, drawn.face), drawn

    return make


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_short_hair_shows_both_ears(masks_of):
    masks, drawn = masks_of()
    assert set(masks) == set(FACE_PARTS) - {"mouth", "eye_g"}
    assert overlap(masks["hair"], drawn.hair) > 0.75
    assert masks["r_ear"][125, 80] and masks["l_ear"][125, 176] and not masks["r_ear"][:, 128:].any()
    assert masks["skin"][150, 128] and not masks["skin"][60, 128] and not (masks["skin"] & masks["hair"]).sum() > 50


def test_long_hair_hides_the_ears(masks_of):
    masks, drawn = masks_of(long_hair=True)
    assert "r_ear" not in masks and "l_ear" not in masks
    assert overlap(masks["hair"], drawn.hair) > 0.75 and masks["hair"][180, 60]


@pytest.mark.parametrize(("yaw", "seen"), [(25, ["r_ear"]), (-25, ["l_ear"]), (5, ["l_ear", "r_ear"])])
def test_the_far_ear_of_a_turned_head_is_hidden(masks_of, yaw, seen):
    masks, drawn = masks_of(yaw=yaw)
    assert drawn.face.yaw == pytest.approx(yaw, abs=1) and sorted(name for name in masks if "ear" in name) == seen


@pytest.mark.parametrize(("apart", "there"), [(0.0, False), (8.0, True)])
def test_an_open_mouth_is_a_part(masks_of, apart, there):
    masks, drawn = masks_of(lips_apart=apart)
    assert ("mouth" in masks) == there and parts.lips_apart(drawn.face) == pytest.approx(apart / drawn.face.height)


def test_a_bald_head_has_no_hair(monkeypatch):
    drawn = portrait()
    photo = np.where(drawn.hair[..., None], np.uint8((205, 160, 135)), drawn.photo)
    monkeypatch.setattr(parts, "person_mask", lambda _: drawn.person)
    masks = parts.face_masks(photo, drawn.face)
    assert "skin" in masks and {"r_ear", "l_ear"} <= set(masks)


def test_ids_give_the_masks_back(masks_of):
    """What lies inside the face covers the skin in a map of ids, and is skin again in the masks read from it."""
    masks, _ = masks_of(lips_apart=8.0)
    read = part_masks(part_ids(masks))
    assert set(read) == set(masks) and overlap(read["skin"], masks["skin"]) > 0.97
    assert all(overlap(read[name], masks[name]) > 0.8 for name in ("hair", "l_ear", "r_ear", "l_eye", "r_brow", "nose"))
    inside = np.logical_or.reduce([read[name] for name in INSIDE_SKIN if name in read])
    assert not (inside & ~read["skin"]).any()


def test_nothing_of_a_person_is_no_hair(monkeypatch):
    monkeypatch.setattr(parts, "person_mask", lambda photo: np.zeros((SIDE, SIDE), np.float32))
    masks = parts.face_masks(portrait().photo, mesh())
    assert "hair" not in masks and "r_ear" not in masks and masks["skin"].any()
