"""Files of body poses: OpenPose's candidate/subset text files and its JSON, read, chosen from and written.

A pose is float64 (18, 3): x and y in pixels of the photo and a score for each of `JOINTS`; a row of NaN where the
joint is unseen. A file with several people is read whole; `main_person` takes the one with the highest total score.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midms.conditions.keypoints import JOINTS
from midms.io.files import BrokenFileError, atomic_write, write_atomically

Pose = NDArray[np.float64]
#: Rows of OpenPose's BODY_25 that are our 18 joints; the other seven are the mid-hip and the feet.
_FROM_BODY_25 = (*range(8), *range(9, 19))


def read_text_poses(candidate_file: Path, subset_file: Path) -> list[Pose]:
    """Everyone in a pair of candidate and subset files.

    The candidate file has a line ``x y score index`` per detected joint (one line is fine); the subset file a line of
    20 numbers per person: for each joint its row in the candidate file or -1, then total score and number of joints.

    Raises:
        BrokenFileError: a file is missing, is no table of numbers, or names a row that is not there.
    """
    candidate, subset = _table(candidate_file, 2), _table(subset_file, len(JOINTS))
    people = []
    for line in subset:
        rows = line[: len(JOINTS)].astype(int)
        if rows.max() >= len(candidate):
            raise BrokenFileError(
                subset_file, f"names row {rows.max()} of {candidate_file.name}, which has {len(candidate)}"
            )
        pose = np.full((len(JOINTS), 3), np.nan)
        seen = rows >= 0
        pose[seen, :2] = candidate[rows[seen], :2]
        pose[seen, 2] = candidate[rows[seen], 2] if candidate.shape[1] > 2 else 1.0
        people.append(pose)
    return people


def read_json_poses(file: Path) -> list[Pose]:
    """Everyone in an OpenPose JSON file (18 joints, or 25 of which ours are taken); score 0 means unseen.

    Raises:
        BrokenFileError: missing, not JSON, or without ``people[].pose_keypoints_2d`` of 54 or 75 numbers.
    """
    try:
        people = json.loads(file.read_text())["people"]
        tables = [np.asarray(person["pose_keypoints_2d"], np.float64).reshape(-1, 3) for person in people]
    except FileNotFoundError:
        raise BrokenFileError(file, "no such file") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenFileError(file, f"not an OpenPose file ({type(error).__name__}: {error})") from None
    poses = []
    for table in tables:
        if len(table) not in (18, 25):
            raise BrokenFileError(file, f"{len(table)} joints; expected 18 or 25")
        pose = table[list(_FROM_BODY_25)] if len(table) == 25 else table.copy()
        pose[pose[:, 2] <= 0] = np.nan
        poses.append(pose)
    return poses


def read_poses(stem: Path) -> list[Pose]:
    """Everyone in ``<stem>_candidate.txt`` and ``<stem>_subset.txt``, or else in ``<stem>_keypoints.json``."""
    json_file = stem.with_name(f"{stem.name}_keypoints.json")
    if json_file.is_file():
        return read_json_poses(json_file)
    return read_text_poses(*text_files(stem))


def main_person(poses: Sequence[Pose], file: Path) -> Pose:
    """The pose with the highest sum of scores; of equals the first.

    Raises:
        BrokenFileError: nobody, or nobody with a joint; `file` is named.
    """
    best = max(poses, key=lambda pose: float(np.nansum(pose[:, 2])), default=None)
    if best is None or np.isnan(best[:, 0]).all():
        raise BrokenFileError(file, "no person with a joint in it")
    return best


def text_files(stem: Path) -> tuple[Path, Path]:
    """Paths of the candidate and the subset file of ``folder/name``."""
    return stem.with_name(f"{stem.name}_candidate.txt"), stem.with_name(f"{stem.name}_subset.txt")


def write_text_poses(stem: Path, poses: Sequence[Pose]) -> None:
    """Write the candidate and the subset file, the subset last: with it the pair is complete."""
    candidate: list[tuple[float, ...]] = []
    subset: list[Pose] = []
    for pose in poses:
        rows = np.full(len(JOINTS) + 2, -1.0)
        for joint, (x, y, score) in enumerate(pose):
            if not np.isnan(x):
                rows[joint] = len(candidate)
                candidate.append((x, y, score, len(candidate)))
        rows[-2:] = np.nansum(pose[:, 2]), (rows[:-2] >= 0).sum()
        subset.append(rows)
    _write_table(text_files(stem)[0], np.asarray(candidate).reshape(-1, 4))
    _write_table(text_files(stem)[1], np.asarray(subset).reshape(-1, len(JOINTS) + 2))


def write_json_poses(file: Path, poses: Sequence[Pose]) -> None:
    """Write an OpenPose JSON file of 18 joints per person."""
    people: list[dict[str, Any]] = [{"pose_keypoints_2d": np.nan_to_num(pose).flatten().tolist()} for pose in poses]
    write_atomically(file, json.dumps({"version": 1.3, "people": people}))


def _write_table(file: Path, table: NDArray[np.float64]) -> None:
    with atomic_write(file) as temporary:
        np.savetxt(temporary, table)


def _table(file: Path, columns: int) -> NDArray[np.float64]:
    try:
        text = file.read_text()
    except FileNotFoundError:
        raise BrokenFileError(file, "no such file") from None
    except UnicodeDecodeError:
        raise BrokenFileError(file, "not a text file") from None
    try:
        rows = [[float(word) for word in line.split()] for line in text.splitlines() if line.strip()]
        table = np.asarray(rows, np.float64).reshape(len(rows), -1 if rows else columns)
    except ValueError as error:
        raise BrokenFileError(file, f"not a table of numbers ({error})") from None
    if table.shape[1] < columns or not np.isfinite(table).all():
        raise BrokenFileError(file, f"{table.shape[1]} numbers per line; expected at least {columns}, all finite")
    return table
