"""CelebA-HQ edge conditions: by hand, and equal to the published code's arrays on real faces."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from midms.conditions.edges import FACE_PARTS, PART_ORDERS, distance_map, edge_condition, outline, part_masks


def square(size: int = 16) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[5:10, 4:12] = True
    return mask


def test_outline_is_two_pixels_wide_and_not_at_the_frame():
    edge = outline(square())
    assert edge[7, 3] and edge[7, 4] and not edge[7, 5] and not edge[7, 2]
    assert not outline(np.ones((8, 8), bool)).any()


def test_distance_counts_city_blocks_in_thirds():
    edge = np.zeros((4, 32), bool)
    edge[:, 0] = True
    assert distance_map(edge)[0].tolist() == [x // 3 for x in range(32)]
    assert (distance_map(np.zeros((4, 4), bool)) == 255).all()
    assert distance_map(edge, pixel=4.0)[0, 9] == 12


def test_channels():
    grey = np.full((16, 16), 128, np.uint8)
    maps = edge_condition(grey, {"skin": square(), "hair": square()})
    assert maps.shape == (15, 16, 16)
    assert (maps[14] == 255 * outline(square())).all() and (maps[0] == maps[14]).all()
    assert (maps[1] == maps[13]).all() and (maps[2:13] == 255).all()
    with pytest.raises(ValueError, match="'chin'"):
        edge_condition(grey, {"chin": square()})


@pytest.mark.parametrize("name", ["celeba_edge_eval", "celeba_edge_eyes_only_eval"])
def test_equal_to_the_published_labels(shared, name):
    folder = shared / "samples" / ("CelebAMask-HQ-eyes-only" if "eyes" in name else "CelebAMask-HQ")
    golden = np.load(shared / "goldens_data" / f"{name}.npz")
    for key in [key for key in golden.files if key.endswith("label_u8")]:
        number = int(key.split("::")[0])
        photo = (
            Image.open(folder / "CelebA-HQ-img" / f"{number}.jpg")
            .convert("RGB")
            .resize((256, 256), Image.Resampling.BILINEAR)
        )
        masks = {}
        for part in FACE_PARTS:
            file = folder / "CelebAMask-HQ-mask-anno" / str(number // 2000) / f"{number:05d}_{part}.png"
            if file.is_file():
                mask = np.asarray(Image.open(file).convert("L"))
                masks[part] = cv2.resize(mask, (256, 256), interpolation=cv2.INTER_NEAREST_EXACT) > 127
        maps = edge_condition(np.asarray(photo.convert("L")), masks)
        assert (maps != golden[key]).sum() == 0, key


def test_the_skin_covers_the_parts_that_lie_on_it() -> None:
    """As the masks of CelebAMask-HQ do; ears and hair are no skin."""
    ids = np.zeros((20, 20), np.uint8)
    ids[2:18, 2:18] = 1
    for part, rows in (
        ("l_eye", slice(4, 6)),
        ("nose", slice(7, 9)),
        ("mouth", slice(11, 13)),
        ("hair", slice(15, 18)),
    ):
        ids[rows, 5:9] = FACE_PARTS.index(part) + 1
    masks = part_masks(ids)
    expected = np.zeros((20, 20), bool)
    expected[2:18, 2:18] = True
    expected[15:18, 5:9] = False
    assert (masks["skin"] == expected).all() and masks["l_eye"].sum() == 8
    assert part_masks(np.zeros((4, 4), np.uint8)) == {}


@pytest.mark.parametrize("order", list(PART_ORDERS))
def test_parts_are_the_same_in_every_order(order: str) -> None:
    rng = np.random.default_rng(0)
    names = np.array(["none", *FACE_PARTS])[rng.integers(0, 14, (16, 16))]
    numbers = {name: k for k, name in enumerate(PART_ORDERS[order], start=1)} | {"none": 0}
    ids = np.vectorize(numbers.__getitem__)(names).astype(np.uint8)
    masks = part_masks(ids, order)
    assert masks.keys() == set(FACE_PARTS)
    assert all((masks[part] == (names == part)).all() for part in FACE_PARTS if part != "skin")


def test_published_orders_are_the_known_ones() -> None:
    """Hair is 17 in face-parsing.PyTorch, 13 here and in CelebAMask-HQ, which has the nose second."""
    assert PART_ORDERS["face-parsing.PyTorch"][16] == "hair" and PART_ORDERS["face-parsing.PyTorch"][9] == "nose"
    assert PART_ORDERS["CelebAMask-HQ"][1] == "nose" and PART_ORDERS["CelebAMask-HQ"][12] == "hair"
    assert all(set(FACE_PARTS) <= set(order) for order in PART_ORDERS.values())


def test_ids_of_another_order_are_refused() -> None:
    ids = np.full((4, 4), 17, np.uint8)
    with pytest.raises(ValueError, match=r"part id 17; the order 'midms' has 1 ... 13, .*face-parsing.PyTorch"):
        part_masks(ids)
    assert list(part_masks(ids, "face-parsing.PyTorch")) == ["hair"]
    with pytest.raises(ValueError, match="part id 200"):
        part_masks(ids + 183, "face-parsing.PyTorch")
    with pytest.raises(ValueError, match="part order 'bisenet': expected one of midms"):
        part_masks(ids, "bisenet")
