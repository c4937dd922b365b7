"""Small data sets in the three layouts, drawn, and the pixels of a file; for tests of loaders and programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from midms.conditions.edges import FACE_PARTS
from midms.conditions.poses import write_text_poses


def photo(file: Path, seed: int, size: tuple[int, int] = (40, 40)) -> None:
    """A smooth random photo (width, height)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, quality=90)


def pixels(file: str | Path) -> np.ndarray:
    """What a picture file holds, (H, W) or (H, W, 3)."""
    return np.asarray(Image.open(file))


def write_lines(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


def circle_pairs(names: list[str], exemplars: int = 2) -> list[str]:
    """A pair list: each name with the ones after it."""
    return [",".join(names[(k + j) % len(names)] for j in range(exemplars + 1)) for k in range(len(names))]


def celeba(root: Path, train: int = 6, val: int = 3, parts: tuple[str, ...] = ("skin", "l_eye", "hair")) -> Path:
    """Faces 0 ... in the layout of CelebAMask-HQ; every third is on the other side of 2000."""
    ids = [k + 2000 * (k % 3 == 0) for k in range(train + val)]
    for number in ids:
        photo(root / "CelebA-HQ-img" / f"{number}.jpg", number)
        for part in parts:
            mask = np.zeros((20, 20), np.uint8)
            start = 2 + FACE_PARTS.index(part) % 5
            mask[start : start + 9, start : start + 12] = 255
            file = root / "CelebAMask-HQ-mask-anno" / str(number // 2000) / f"{number:05d}_{part}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.stack([mask] * 3, -1)).save(file)
    for split, ending, chosen in (("train", "", ids[:train]), ("val", "_test", ids[train:])):
        write_lines(root / f"{split}.txt", [str(number) for number in chosen])
        pairs = circle_pairs([f"{number}.jpg" for number in chosen])
        write_lines(root / "lists" / f"celebahq_ref{ending}.txt", pairs)
    return root


def standing(width: int, height: int) -> np.ndarray:
    """A pose with two unseen joints, (18, 3)."""
    rng = np.random.default_rng(7)
    pose = np.concatenate([rng.uniform(0.2, 0.8, (18, 2)) * (width, height), rng.uniform(0.5, 1, (18, 1))], axis=1)
    pose[[4, 17]] = np.nan
    return pose


def deepfashion(root: Path, train: int = 6, val: int = 3, backslashes: bool = True) -> Path:
    """Photos, poses and lists in the layout of DeepFashion."""
    names = [f"img/WOMEN/Dresses/id_{k:08d}/01_1_front.jpg" for k in range(train + val)]
    for k, name in enumerate(names):
        photo(root / name, k)
        stem = (root / name.replace("img/", "pose/", 1)).with_suffix("")
        write_text_poses(stem, [standing(40, 40)])
    written = [name.replace("/", "\\") for name in names] if backslashes else names
    for split, ending, chosen in (("train", "", written[:train]), ("val", "_test", written[train:])):
        write_lines(root / f"{split}.txt", chosen)
        write_lines(root / "lists" / f"deepfashion_ref{ending}.txt", circle_pairs(chosen))
    return root


def churches(root: Path, train: int = 6, val: int = 3) -> Path:
    """Photos, class maps and lists in the layout of LSUN-Churches."""
    for folder, ending, count in (("training", "", train), ("validation", "_test", val)):
        names = [f"{folder}_{k}.jpg" for k in range(count)]
        for k, name in enumerate(names):
            photo(root / folder / name, k, (44, 36))
            labels = np.random.default_rng(k).integers(0, 151, (6, 6)).astype(np.uint8).repeat(6, 0).repeat(8, 1)
            Image.fromarray(labels[:, :44]).save((root / folder / name).with_suffix(".png"))
        write_lines(root / "lists" / f"lsun_church_ref{ending}.txt", circle_pairs(names))
    return root
