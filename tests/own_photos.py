"""A folder of four small photos with annotations of every kind and a pair list."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from midms.conditions.poses import write_text_poses

NAMES = ("a.png", "sub/b.jpg", "c.jpg", "d.jpg")
PAIRS = {"a.png": "c.jpg", "sub/b.jpg": "a.png", "c.jpg": "d.jpg"}
SIDE = 64


def write_photos(root: Path) -> tuple[Path, Path]:
    """The folder and the list, whose lines have a second exemplar that no test protocol uses."""
    photos, rng = root / "photos", np.random.default_rng(0)
    for index, name in enumerate(NAMES):
        stem = Path(name).with_suffix("")
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        for folder in ("photos", "photos_parts", "photos_poses", "photos_labels"):
            (root / folder / stem).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(photos / name)
        parts = np.zeros((SIDE, SIDE), np.uint8)
        parts[8:56, 8:56], parts[20:26, 16:26] = 1, 4  # skin and one eye
        Image.fromarray(parts).save((root / "photos_parts" / stem).with_suffix(".png"))
        Image.fromarray(np.full((SIDE, SIDE), index + 1, np.uint8)).save(
            (root / "photos_labels" / stem).with_suffix(".png")
        )
        pose = np.full((18, 3), np.nan)
        pose[:3] = [[10 + index, 20, 0.9], [30, 20 + index, 0.8], [30, 40, 0.7]]
        write_text_poses(root / "photos_poses" / stem, [pose])
    pairs = root / "pairs.txt"
    pairs.write_text("".join(f"{condition},{exemplar},d.jpg\n" for condition, exemplar in PAIRS.items()))
    return photos, pairs
