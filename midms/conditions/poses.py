"""Files of body poses: OpenPose's candidate/subset text files and its JSON, read, chosen from and written.

A pose is float64 (18, 3): x and y in pixels of the photo and a score for each of `JOINTS`; a row of NaN where the
joint is unseen. All people in a file are read. `main_person` takes the one with the highest total score.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midms.conditions.keypoints import JOINTS, check_joints
from midms.io.files import BrokenFileError, atomic_write, read_text, write_atomically

Pose = NDArray[np.float64]
#: Rows of OpenPose's BODY_25 that are the 18 `JOINTS`. The other seven are the mid-hip and the feet.
_FROM_BODY_25 = (*range(8), *range(9, 19))


def read_text_poses(candidate_file: Path, subset_file: Path) -> list[Pose]:
    """Poses of all people in a pair of candidate and subset files.

    The candidate file has a line ``x y score index`` per detected joint; a single line is valid. The subset file has a
    line of 20 numbers per person: each joint's row in the candidate file or -1, the total score, the number of joints.

    Raises:
        BrokenFileError: a file is missing or not a table of numbers, names a row that does not exist, or holds
            coordinates in 0 ... 1.
    """
    candidate, subset = _table(candidate_file, 2), _table(subset_file, len(JOINTS))
    people = []
    for line in subset:
        named = line[: len(JOINTS)]
        if named.max() >= len(candidate):
            raise BrokenFileError(
                subset_file, f"names row {named.max():g} of {candidate_file.name}, which has {len(candidate)}"
            )
        rows = named.clip(min=-1).astype(int)
        pose = np.full((len(JOINTS), 3), np.nan)
        seen = rows >= 0
        pose[seen, :2] = candidate[rows[seen], :2]
        pose[seen, 2] = candidate[rows[seen], 2] if candidate.shape[1] > 2 else 1.0
        people.append(_without_unseen(pose, candidate_file))
    places = _seen_places(people)
    if len(places) > 1 and (np.abs(places) <= 1).all():
        raise BrokenFileError(candidate_file, "joints between -1 and 1; expected pixels of the photo")
    return people


def _seen_places(people: Sequence[Pose]) -> NDArray[np.float64]:
    """x and y of every seen joint, (N, 2)."""
    places = np.concatenate([pose[:, :2] for pose in people]) if people else np.zeros((0, 2))
    return places[~np.isnan(places[:, 0])]


class PoseFile(NamedTuple):
    """The contents of an OpenPose file."""

    people: list[Pose]  # in pixels of the canvas, or in 0 ... 1 where `relative`
    canvas: tuple[int, int] | None  # width and height of the picture that was annotated, where the file says so
    relative: bool  # whether all coordinates lie in 0 ... 1 (OpenPose's --keypoint_scale 3)

    def in_pixels(self, size: tuple[int, int]) -> list[Pose]:
        """The poses in pixels of a picture of `size` (width, height) with the same content as the canvas."""
        unit = (1, 1) if self.relative else self.canvas or size
        scale = np.array([size[0] / unit[0], size[1] / unit[1], 1.0])
        return [pose * scale for pose in self.people]


def read_pose_file(file: Path) -> PoseFile:
    """Poses of all people in an OpenPose JSON file of 18 or 25 joints; of 25, the 18 `JOINTS` are kept.

    A joint is unseen where its score is 0 or less, or its position is (0, 0) or (-1, -1): "not found".
    An entry of ``people`` that is null, empty or without joints is left out. A list of frames (ComfyUI) may hold only
    one.

    Raises:
        BrokenFileError: the file is missing, is not JSON, has another format or several frames, or holds coordinates
            outside any possible picture.
    """
    from midms.conditions.openpose import read_frame  # noqa: PLC0415 - pydantic takes a tenth of a second

    frame = read_frame(file)
    tables = [np.asarray(person.pose_keypoints_2d) for person in frame.people if person and person.pose_keypoints_2d]
    for table in tables:
        if table.size not in (54, 75):
            raise BrokenFileError(
                file, f"{table.size} numbers for a person; expected 54 or 75: x, y and score of 18 or 25 joints"
            )
    people = [
        table.reshape(-1, 3)[list(_FROM_BODY_25)] if table.size == 75 else table.reshape(-1, 3) for table in tables
    ]
    people = [_without_unseen(pose, file) for pose in people]
    places = _seen_places(people)
    relative = len(places) > 0 and bool((np.abs(places) <= 1).all())
    if relative and places.min() < 0:
        raise BrokenFileError(
            file, "joints between -1 and 1 (--keypoint_scale 4); expected pixels, or 0 to 1 (--keypoint_scale 3)"
        )
    canvas = None
    if frame.canvas_width is not None and frame.canvas_height is not None:
        canvas = (frame.canvas_width, frame.canvas_height)
    return PoseFile(people, canvas, relative)


def _without_unseen(pose: Pose, file: Path) -> Pose:
    """A pose with NaN where a joint is unseen.

    Raises:
        BrokenFileError: a coordinate lies beyond `MAX_COORDINATE`.
    """
    pose = pose.copy()
    x, y = pose[:, 0], pose[:, 1]
    pose[(pose[:, 2] <= 0) | ((x == 0) & (y == 0)) | ((x == -1) & (y == -1))] = np.nan
    try:
        check_joints(pose[:, :2])
    except ValueError as error:
        raise BrokenFileError(file, str(error)) from None
    return pose


def read_json_poses(file: Path, size: tuple[int, int] | None = None) -> list[Pose]:
    """The people of `read_pose_file` in pixels.

    Args:
        size: (width, height) of the photo; None: the canvas of the file is the photo.
    Raises:
        BrokenFileError: see `read_pose_file`; or coordinates in 0 ... 1 without `size` and without a canvas.
    """
    found = read_pose_file(file)
    size = size or found.canvas
    if size is None:
        if found.relative:
            raise BrokenFileError(
                file, "joints between 0 and 1 without canvas_width and canvas_height; expected pixels"
            )
        return found.people
    return found.in_pixels(size)


def read_poses(stem: Path, size: tuple[int, int] | None = None) -> list[Pose]:
    """Poses of all people in ``<stem>_keypoints.json``, or else in ``<stem>_candidate.txt`` and ``<stem>_subset.txt``.

    Args:
        size: (width, height) of the photo, see `read_json_poses`.
    """
    json_file = stem.with_name(f"{stem.name}_keypoints.json")
    if json_file.is_file():
        return read_json_poses(json_file, size)
    return read_text_poses(*text_files(stem))


def main_person(poses: Sequence[Pose], file: Path) -> Pose:
    """The pose with the highest sum of scores; the first of equal ones.

    Raises:
        BrokenFileError: there is no pose, or none with a joint. The message names `file`.
    """
    best = max(poses, key=lambda pose: float(np.nansum(pose[:, 2])), default=None)
    if best is None or np.isnan(best[:, 0]).all():
        raise BrokenFileError(file, "no person with a joint in it")
    return best


def text_files(stem: Path) -> tuple[Path, Path]:
    """Paths of the candidate and the subset file of ``folder/name``."""
    return stem.with_name(f"{stem.name}_candidate.txt"), stem.with_name(f"{stem.name}_subset.txt")


def write_text_poses(stem: Path, poses: Sequence[Pose]) -> None:
    """Write the candidate file, then the subset file, whose presence marks the pair as complete."""
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
    text = read_text(file, "a table of numbers", allow_empty=True)  # nobody was found
    try:
        rows = [[float(word) for word in line.split()] for line in text.splitlines() if line.strip()]
        table = np.asarray(rows, np.float64).reshape(len(rows), -1 if rows else columns)
    except ValueError as error:
        raise BrokenFileError(file, f"not a table of numbers ({error})") from None
    if table.shape[1] < columns or not np.isfinite(table).all():
        raise BrokenFileError(file, f"{table.shape[1]} numbers per line; expected at least {columns}, all finite")
    return table
