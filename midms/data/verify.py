"""Check a data set and name every file that is broken, missing or inconsistent with the others.

No file is changed. Silent decisions of a loader (one of two people, a photo converted to RGB, an id that occurs twice)
are reported as well: a clean report means that there are none.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from midms.conditions import poses
from midms.conditions.segmentation import IGNORED, class_map
from midms.data import celeba, churches, deepfashion
from midms.data.exemplars import read_names, split_line
from midms.io.files import BrokenFileError
from midms.io.images import LOSSY_FORMATS, open_upright

Progress = Callable[[Iterable[list["Fault"]], int], Iterable[list["Fault"]]]


class Fault(NamedTuple):
    """One fault: the file, relative to the root, and the reason."""

    file: str
    reason: str


@dataclass
class Report:
    """The faults and counts of a check."""

    counts: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


class ListFile(NamedTuple):
    """A list of a data set: of images, or (`pairs`) of images and their exemplars."""

    file: str
    pairs: bool
    name_of: Callable[[str], str]
    exemplar_of: Callable[[str], str]


class Layout(NamedTuple):
    """File layout of a data set. An image's name is the path of its photo relative to the root."""

    lists: tuple[ListFile, ...]
    photos: Callable[[list[str]], list[str]]  # all files -> photos
    check: Callable[[Path, list[str], str], list[Fault]]  # root, annotation files, photo
    annotations: Callable[[list[str]], dict[str, list[str]]]  # all files -> photo -> its annotation files
    misplaced: Callable[[str], str | None]  # an annotation file -> the fault of its location


def verify(kind: str, root: Path, workers: int = 0, progress: Progress = lambda faults, total: faults) -> Report:
    """Check every list and every image of a data set.

    Args:
        kind: "celeba", "deepfashion" or "churches".
        root: its folder.
        workers: processes that decode. 0: this process.
        progress: wraps the iterator over the images' results; also gets the number of images.
    Raises:
        ValueError: unknown kind, or the folder is missing or has no photo.
    """
    if kind not in LAYOUTS:
        raise ValueError(f"data set {kind!r}: expected one of {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    layout = LAYOUTS[kind]
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    photos, annotations = layout.photos(files), layout.annotations(files)
    if not photos:
        raise ValueError(f"{root}: no photo in the layout of {kind}; see docs/data.md")
    listed, faults = check_lists(layout, root, set(files))
    tasks = [(annotations.get(photo, []), photo) for photo in photos]
    faults += [
        fault for item_faults in progress(_run(layout, root, tasks, workers), len(tasks)) for fault in item_faults
    ]
    present = set(photos)
    for owner, own in annotations.items():
        faults += [Fault(file, reason) for file in own if (reason := layout.misplaced(file))]
        if owner not in present and owner not in {fault.file for fault in faults}:
            faults.append(Fault(own[0], f"its photo {owner} is missing"))
    counts = {"files": len(files), "photos": len(photos), "photos in no list": len(present - listed)}
    counts |= {f"entries of {name}": count for name, count in _entries(layout, root)}
    return Report(counts, _merged(faults))


def check_lists(layout: Layout, root: Path, files: set[str]) -> tuple[set[str], list[Fault]]:
    """All images in the lists, and the faults of the lists."""
    faults: list[Fault] = []
    named: dict[str, list[str]] = {}  # image -> lists that name it
    splits: dict[str, list[str]] = {}  # list of images -> its images
    for item in layout.lists:
        if not (root / item.file).is_file():
            if not item.pairs:
                faults.append(Fault(item.file, "no such list"))
            continue
        conditions, exemplars, wrong = _read_list(item, root / item.file)
        faults += wrong
        for name in dict.fromkeys((*conditions, *exemplars)):
            named.setdefault(name, []).append(item.file)
        repeated = [name for name, count in Counter(conditions).items() if count > 1]
        faults += [Fault(item.file, f"{name} occurs more than once") for name in repeated]
        faults += _leaks(item, exemplars, splits.get("train.txt"), files)
        ids = splits.get(_split_list(item.file))
        if item.pairs and ids is not None:
            has_line = set(conditions)
            faults += [Fault(item.file, f"no line for {name}") for name in dict.fromkeys(ids) if name not in has_line]
        elif not item.pairs:
            splits[item.file] = conditions
    for name in sorted(set(splits.get("train.txt", [])) & set(splits.get("val.txt", []))):
        faults.append(Fault("train.txt", f"{name} is also in val.txt"))
    lower = {file.lower(): file for file in files}
    for name, lists in named.items():
        if name not in files:
            other = lower.get(name.lower())
            hint = f", but {other} differs in upper and lower case alone" if other else ""
            faults.append(Fault(name, f"no such file{hint}; named in {', '.join(lists)}"))
    return set(named), faults


def _leaks(item: ListFile, exemplars: list[str], training: list[str] | None, files: set[str]) -> list[Fault]:
    """Training exemplars that are not training images: a model would be tested on images it has seen."""
    if not item.pairs or _split_list(item.file) != "train.txt":
        return []
    known, other = set(training or ()), f"{churches.FOLDERS['val']}/"
    leaked = [
        name
        for name in dict.fromkeys(exemplars)
        if name in files and (name.startswith(other) or (training is not None and name not in known))
    ]
    return [Fault(item.file, f"training exemplar {name} is not an image of the training split") for name in leaked]


def _split_list(file: str) -> str:
    """The list of images that a pair list belongs to."""
    return "val.txt" if file.endswith("_test.txt") else "train.txt"


def _read_list(item: ListFile, file: Path) -> tuple[list[str], list[str], list[Fault]]:
    """Conditions, exemplars and faulty lines of a list."""
    conditions: list[str] = []
    exemplars: list[str] = []
    faults = []
    for number, line in enumerate(read_names(file), start=1):
        try:
            if item.pairs:
                condition, others = split_line(line, str)
                conditions.append(item.name_of(condition))
                exemplars += [item.exemplar_of(other) for other in others]
            else:
                conditions.append(item.name_of(line))
        except ValueError as error:
            faults.append(Fault(item.file, f"line {number}: {error}"))
    return conditions, exemplars, faults


def _entries(layout: Layout, root: Path) -> Iterator[tuple[str, int]]:
    for item in layout.lists:
        if (root / item.file).is_file():
            yield item.file, len(read_names(root / item.file))


def _merged(faults: list[Fault]) -> list[Fault]:
    """Each fault once, with all reasons for a file that is not a list joined."""
    merged: dict[str, list[Fault]] = {}
    for fault in dict.fromkeys(faults):
        key = f"{fault.file}: {fault.reason}" if fault.file.endswith(".txt") else fault.file
        merged.setdefault(key, []).append(fault)
    return sorted(
        Fault(same_file[0].file, "; ".join(fault.reason for fault in same_file)) for same_file in merged.values()
    )


def _run(layout: Layout, root: Path, tasks: list[tuple[list[str], str]], workers: int) -> Iterator[list[Fault]]:
    check = partial(_check_one, layout.check, root)
    if workers < 1:
        yield from map(check, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(check, tasks, chunksize=8)


def _check_one(
    check: Callable[[Path, list[str], str], list[Fault]], root: Path, task: tuple[list[str], str]
) -> list[Fault]:
    return check(root, *task)


def _open(root: Path, file: str, faults: list[Fault]) -> Image.Image | None:
    try:
        return open_upright(root / file)
    except BrokenFileError as error:
        faults.append(Fault(file, error.reason))
        return None


def _photo(root: Path, photo: str, faults: list[Fault]) -> Image.Image | None:
    image = _open(root, photo, faults)
    if image is not None and image.mode != "RGB":
        faults.append(Fault(photo, f"mode {image.mode}; expected RGB"))
    return image


def check_face(root: Path, masks: list[str], photo: str) -> list[Fault]:
    """Check a photo and its part masks: decodable, only 0 and 255, equal sizes, and the photo's aspect ratio."""
    faults: list[Fault] = []
    image = _photo(root, photo, faults)
    if not masks:
        faults.append(Fault(photo, "has no part mask"))
    sizes: dict[str, tuple[int, int]] = {}
    for file in masks:
        mask = _open(root, file, faults)
        if mask is None:
            continue
        sizes[file] = mask.size
        values = np.unique(np.asarray(mask.convert("L")))
        if not set(values.tolist()) <= {0, 255}:
            faults.append(Fault(file, f"mask with values {values[:5].tolist()}; expected 0 and 255"))
    usual = Counter(sizes.values()).most_common(1)[0][0] if sizes else None
    for file, size in sizes.items():
        if size != usual:
            faults.append(Fault(file, f"{size[0]} x {size[1]} pixels, the other masks of this face {usual}"))
        elif image is not None and size[0] * image.height != size[1] * image.width:
            faults.append(Fault(file, f"{size[0]} x {size[1]} pixels, other proportions than its photo {image.size}"))
    return faults


def check_person(root: Path, files: list[str], photo: str) -> list[Fault]:
    """Check a photo and its pose: one person, with all joints inside the photo."""
    faults: list[Fault] = []
    image = _photo(root, photo, faults)
    stem = deepfashion.pose_stem(root, photo)
    subset = poses.text_files(stem)[1]
    try:
        people = poses.read_poses(stem, None if image is None else image.size)
        pose = poses.main_person(people, subset)
    except BrokenFileError as error:
        return [*faults, Fault(error.file.relative_to(root).as_posix(), error.reason)]
    name = subset.relative_to(root).as_posix()
    if len(people) > 1:
        faults.append(Fault(name, f"{len(people)} people; the one with the highest score is drawn"))
    if image is not None and ((pose[:, :2] < 0) | (pose[:, :2] > image.size)).any():
        faults.append(Fault(name, f"joints outside the photo of {image.width} x {image.height} pixels"))
    return faults


def check_scene(root: Path, files: list[str], photo: str) -> list[Fault]:
    """Check a photo and its class map: one channel, values 0 ... 150 or 255, and the photo's size."""
    faults: list[Fault] = []
    image = _photo(root, photo, faults)
    file = Path(photo).with_suffix(".png").as_posix()
    labels = _open(root, file, faults)
    if labels is None:
        return faults
    if image is not None and labels.size != image.size:
        faults.append(Fault(file, f"{labels.size} pixels, its photo {image.size}"))
    if labels.mode not in ("L", "P"):
        return [*faults, Fault(file, f"mode {labels.mode}; expected one channel of 8-bit class ids")]
    if labels.format in LOSSY_FORMATS:
        return [*faults, Fault(file, "JPEG compression changes class ids; save it as PNG")]
    try:
        if (np.asarray(labels) == IGNORED).any():
            reason = f"id {IGNORED} is read as 150; ADE20K's ids are 1 ... 150 here: raise ids that count from 0 by one"
            faults.append(Fault(file, reason))
        class_map(np.asarray(labels))
    except ValueError as error:
        faults.append(Fault(file, str(error)))
    return faults


def _face_masks(files: list[str]) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for file in files:
        parts = file.split("/")
        if parts[0] == "CelebAMask-HQ-mask-anno" and len(parts) == 3 and parts[1].isdigit() and parts[2][:5].isdigit():
            owners.setdefault(f"CelebA-HQ-img/{int(parts[2][:5])}.jpg", []).append(file)
    return owners


def _misplaced_mask(file: str) -> str | None:
    _, folder, name = file.split("/")
    right = int(name[:5]) // 2000
    return None if int(folder) == right else f"lies in folder {folder}, expected {right}"


def _scene_labels(files: list[str]) -> dict[str, list[str]]:
    labels = [file for file in files if file.endswith(".png") and file.split("/")[0] in churches.FOLDERS.values()]
    return {f"{file.removesuffix('.png')}.jpg": [file] for file in labels}


def _celeba_photo(entry: str) -> str:
    return f"CelebA-HQ-img/{celeba.image_name(entry)}"


def _lists(prefix: str, name_of: Callable[[str], str]) -> tuple[ListFile, ...]:
    splits = tuple(ListFile(f"{split}.txt", False, name_of, name_of) for split in ("train", "val"))
    endings = ("", "_test")
    return splits + tuple(ListFile(f"lists/{prefix}_ref{end}.txt", True, name_of, name_of) for end in endings)


def _photos_below(folders: tuple[str, ...], files: list[str]) -> list[str]:
    return [file for file in files if file.endswith(".jpg") and file.split("/")[0] in folders]


def _no_annotations(files: list[str]) -> dict[str, list[str]]:
    return {}


def _in_place(file: str) -> None:
    return None


LAYOUTS = {
    "celeba": Layout(
        _lists("celebahq", _celeba_photo),
        partial(_photos_below, ("CelebA-HQ-img",)),
        check_face,
        _face_masks,
        _misplaced_mask,
    ),
    "deepfashion": Layout(
        _lists("deepfashion", deepfashion.image_name),
        partial(_photos_below, ("img",)),
        check_person,
        _no_annotations,
        _in_place,
    ),
    "churches": Layout(
        tuple(
            ListFile(file, True, partial(churches.image_name, folder), partial(churches.image_name, folder))
            for file, folder in (
                ("lists/lsun_church_ref.txt", "training"),
                ("lists/lsun_church_ref_test.txt", "validation"),
            )
        ),
        partial(_photos_below, tuple(churches.FOLDERS.values())),
        check_scene,
        _scene_labels,
        _in_place,
    ),
}
