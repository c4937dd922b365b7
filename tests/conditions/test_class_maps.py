"""Maps of classes: ids to channels and back, and what is no class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midms.conditions.edges import FACE_PARTS, edge_condition, part_masks
from midms.conditions.segmentation import SEGMENTATION_CHANNELS, class_map, one_hot


@given(st.integers(2, 151), st.integers(0, 2**32 - 1))
def test_channels_and_ids_say_the_same(classes: int, seed: int) -> None:
    ids = torch.from_numpy(np.random.default_rng(seed).integers(0, classes, (2, 3, 5)))
    channels = one_hot(ids, classes)
    assert channels.shape == (2, classes, 3, 5) and torch.equal(channels.sum(dim=1), torch.ones(2, 3, 5))
    assert torch.equal(channels.argmax(dim=1), ids)


def test_ids_of_any_kind_and_any_number_of_axes() -> None:
    ids = np.array([[0, 150], [3, 3]], np.uint8)
    plain = one_hot(torch.from_numpy(ids))
    assert plain.shape == (SEGMENTATION_CHANNELS, 2, 2) and plain.dtype == torch.float32
    assert torch.equal(one_hot(torch.from_numpy(ids)[None, None])[0, 0], plain)
    assert plain[150, 0, 1] == plain[3, 1, 0] == 1 and plain.sum() == 4


def test_dont_care_is_the_last_class() -> None:
    assert class_map(np.array([[0, 255, 149]], np.uint8)).tolist() == [[0, 150, 149]]
    assert class_map(np.array([[255, 1]], np.uint8), classes=4).tolist() == [[3, 1]]
    assert class_map(np.zeros((0, 0), np.uint8)).shape == (0, 0)


@pytest.mark.parametrize(("label", "classes"), [(151, 151), (254, 151), (4, 4)])
def test_a_number_that_is_no_class_is_named(label: int, classes: int) -> None:
    with pytest.raises(ValueError, match=f"label {label} found; expected 0 ... {classes - 1}, or 255 for don't care"):
        class_map(np.array([[label]], np.uint8), classes)


def test_parts_of_a_face_are_found_by_their_ids() -> None:
    ids = np.zeros((6, 6), np.uint8)
    ids[1:5, 1:5], ids[2, 2] = 1, 4
    masks = part_masks(ids)
    assert (
        list(masks) == ["skin", "l_eye"] and masks["l_eye"].sum() == 1 and masks["skin"].sum() == 16
    )  # below the eye, too
    assert part_masks(np.zeros((2, 2), np.uint8)) == {}


def test_hair_lets_the_photos_edges_through_and_skin_does_not() -> None:
    grey = np.zeros((48, 48), np.uint8)
    grey[:, 24:] = 255  # one sharp edge down the middle
    everywhere = np.ones((48, 48), bool)
    seen = {name: edge_condition(grey, {name: everywhere})[0] for name in ("skin", "hair")}
    assert not seen["skin"].any() and seen["hair"].any()
    both = edge_condition(grey, {"skin": everywhere, "hair": everywhere})[0]
    np.testing.assert_array_equal(both, seen["hair"])


def test_an_unknown_part_or_another_size_is_refused() -> None:
    grey = np.zeros((8, 8), np.uint8)
    for name, shape in (("beard", (8, 8)), ("skin", (8, 9))):
        with pytest.raises(ValueError, match=f"mask '{name}' of shape"):
            edge_condition(grey, {name: np.zeros(shape, bool)})
    assert len(FACE_PARTS) == 13 and (edge_condition(grey, {})[1:14] == 255).all()
