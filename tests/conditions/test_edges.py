"""CelebA-HQ edge conditions: by hand, and equal to the published code's arrays on real faces."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from midms.conditions.edges import FACE_PARTS, distance_map, edge_condition, outline


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
