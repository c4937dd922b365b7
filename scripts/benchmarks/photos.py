"""`scripts/benchmark.py photos`: conditions made from photos against those of true masks and joints, and their time.

    midms get photos
    python scripts/benchmark.py photos --faces CelebAMask-HQ
    python scripts/benchmark.py photos --people DeepFashion

One row per photo and one for all, with the processor time of one core. For faces, at 256 pixels: `difference` is the
mean absolute difference of the 15 maps from those of the true masks (0 to 1), `canny` the same for Canny's edges alone,
`missed` and `invented` name parts. For people: the number of `joints` in the file, how many were `found`, how many of
those are `near` (within 5 % of the longer side), and how many were `invented`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from midms.conditions.poses import Pose

SUMMARY = "conditions made from photos, against true masks and joints"
SIDE = 256
_NEAR = 0.05  # of the photo's longer side


class FaceScore(NamedTuple):
    """Errors of the maps of one face photo."""

    difference: float
    canny: float
    missed: list[str]
    invented: list[str]
    seconds: float


class PoseScore(NamedTuple):
    """Errors of the joints of one photo, in numbers of joints."""

    joints: int
    found: int
    near: int
    invented: int
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--faces", type=Path, metavar="DIR", help="CelebAMask-HQ folder: photos and true masks")
    parser.add_argument("--people", type=Path, metavar="DIR", help="DeepFashion folder: photos and OpenPose's joints")


def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row per photo, and one for all.

    Raises:
        ValueError: no folder is named, a folder has no photo, or the networks are missing.
    """
    import cv2

    cv2.setNumThreads(options.threads)
    if options.faces is None and options.people is None:
        raise ValueError("photos: expected --faces CelebAMask-HQ or --people DeepFashion")
    for folder, score, pattern in (
        (options.faces, _score_celeba, "CelebA-HQ-img/*.jpg"),
        (options.people, _score_deepfashion, "img/**/*.jpg"),
    ):
        files = [] if folder is None else sorted(folder.glob(pattern))
        if folder is not None and not files:
            raise ValueError(f"{folder}: no {pattern} in it")
        scores = []
        for file in files:
            scores.append(score(folder, file))
            yield _row(file.stem, [scores[-1]])
        if scores:
            yield _row("all", scores)


def score_face(photo: Image.Image, masks: Mapping[str, NDArray[np.bool_]]) -> FaceScore:
    """Compare a face photo with its true masks, each (256, 256)."""
    from midms.conditions.edges import edge_condition, part_masks
    from midms.conditions.photos.annotate import portrait
    from midms.data.transforms import grey_pixels

    start = time.process_time()
    ids = portrait(photo, align=False).parts
    seconds = time.process_time() - start
    made, grey = part_masks(_sampled(ids)), grey_pixels(photo, SIDE)
    true = edge_condition(grey, masks).astype(np.float64) / 255
    difference, canny = (
        float(np.abs(edge_condition(grey, found) / 255 - true).mean()) for found in (made, dict[str, Any]())
    )
    return FaceScore(difference, canny, sorted(set(masks) - set(made)), sorted(set(made) - set(masks)), seconds)


def score_pose(photo: Image.Image, true: Pose) -> PoseScore:
    """Compare a photo of a person with its true joints, (18, 3)."""
    from midms.conditions.photos.annotate import pose_of_person

    start = time.process_time()
    pose = pose_of_person(photo)
    seconds = time.process_time() - start
    known, found = ~np.isnan(true[:, 0]), ~np.isnan(pose[:, 0])
    away = np.linalg.norm(pose[:, :2] - true[:, :2], axis=1) / max(photo.size)
    near = int((away[known & found] <= _NEAR).sum())
    return PoseScore(int(known.sum()), int((known & found).sum()), near, int((found & ~known).sum()), seconds)


def _sampled(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A map of ids resampled to 256 x 256 by nearest neighbour."""
    from PIL import Image

    return np.asarray(Image.fromarray(ids).resize((SIDE, SIDE), Image.Resampling.NEAREST))


def _score_celeba(root: Path, file: Path) -> FaceScore:
    from midms.conditions.edges import FACE_PARTS
    from midms.data.celeba import mask_file
    from midms.io.images import read_mask, read_rgb

    files = {part: mask_file(root, file.name, part) for part in FACE_PARTS}
    masks = {part: read_mask(name, SIDE) for part, name in files.items() if name.is_file()}
    return score_face(read_rgb(file), masks)


def _score_deepfashion(root: Path, file: Path) -> PoseScore:
    from midms.conditions import poses
    from midms.io.images import read_rgb

    stem = (root / "pose" / file.relative_to(root / "img")).with_suffix("")
    return score_pose(read_rgb(file), poses.main_person(poses.read_poses(stem), file))


def _row(name: str, scores: list[Any]) -> dict[str, Any]:
    """The scores of one or several photos: means of shares, sums of counts."""
    row: dict[str, Any] = {"name": name[:15], "size": len(scores), "device": "cpu", "dtype": "float32"}
    row |= {"pass": "face" if isinstance(scores[0], FaceScore) else "person"}
    row["median_ms"] = round(1e3 * float(np.median([score.seconds for score in scores])), 1)
    row |= {"peak_mb": None, "ratio": None}
    for key in scores[0]._fields[:-1]:
        values = [getattr(score, key) for score in scores]
        if isinstance(values[0], float):
            row[key] = round(float(np.mean(values)), 4)
        else:
            row[key] = sum(values, type(values[0])())
    return row
