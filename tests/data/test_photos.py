"""Photos of a folder as a data set of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from midms.data.photos import Photos


def test_photos_are_read_whole_or_in_views(tmp_path):
    (tmp_path / "more").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "more/b.png", "c.png"):
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(tmp_path / name)
    whole, views = Photos(tmp_path, 32, training=False), Photos(tmp_path, 32)
    assert len(whole) == 3 and len(Photos(tmp_path, 32, first=1, every=2)) == 1
    assert whole[0]["image"].shape == (3, 32, 32) and whole[0]["image"].abs().max() <= 1
    assert torch.equal(views[1]["image"], views[1]["image"]) and not torch.equal(views[1]["image"], whole[1]["image"])


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        Photos(tmp_path)
