"""The commands of `scripts/prepare_data.py`: annotate photos, find exemplars, fill the cache, check a data set."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from midms.conditions import annotators, poses
from midms.conditions.edges import edge_condition
from midms.conditions.photos import annotate, models
from midms.conditions.segmentation import IGNORED
from midms.data import CelebAEdges, ChurchesSegmentation, DeepFashionKeypoints, ImageFolder
from midms.data.exemplars import check_name
from midms.data.folder import annotation_folder, list_photos, scan_folder
from midms.data.pair_lists import pairs
from midms.data.pairs import PairDataset
from midms.data.parallel import ParallelRun, read_upright, split_batches
from midms.data.transforms import grey_pixels
from midms.data.verify import Fault
from midms.data.verify import verify as verify_data_set
from midms.io.files import BrokenFileError, write_atomically
from midms.io.images import open_upright, read_header
from midms.io.outputs import check_output_files
from midms.io.provenance import png_bytes
from midms.programs import say, warn
from midms.progress import track

__all__ = ["cache", "edges", "keypoints", "pairs", "segment", "verify"]  # the commands

DATA_SETS: dict[str, type[PairDataset]] = {
    "celeba": CelebAEdges,
    "deepfashion": DeepFashionKeypoints,
    "churches": ChurchesSegmentation,
}
#: A split of fewer photos is of no use.
FEWEST_PHOTOS = 8
_MOST_PROCESSES, _WORTH_PROCESSES = 8, 16  # most processes at once, and fewest photos that use more than one


def _processes(options: argparse.Namespace, photos: int) -> int:
    """Number of processes for networks on one core each: as asked, else one per core, or 0 for few photos."""
    if options.workers is not None:
        return int(options.workers)
    return min(os.cpu_count() or 1, _MOST_PROCESSES) if photos >= _WORTH_PROCESSES else 0


@contextmanager
def _named(photo: Path) -> Iterator[None]:
    """Report a photo that cannot be annotated as a broken file, and limit the networks to one core."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    except annotate.PhotoError as error:
        raise BrokenFileError(photo, str(error)) from None
    finally:
        cv2.setNumThreads(threads)


def _png(out: Path, name: str) -> Path:
    return (out / name).with_suffix(".png")


def _save_png(file: Path, pixels: NDArray[np.uint8]) -> None:
    write_atomically(file, png_bytes(pixels))


def _canny(root: Path, out: Path, name: str) -> None:
    _save_png(_png(out, name), edge_condition(grey_pixels(read_upright(root, name), 256), {})[0])


def _face_parts(root: Path, out: Path, name: str) -> None:
    photo = read_upright(root, name)
    with _named(root / name):
        _save_png(_png(out, name), annotate.portrait(photo, align=False).parts)


def _maps_folder(options: argparse.Namespace, condition: str) -> Path:
    """The folder of a command's maps.

    Raises:
        ValueError: it is, or lies in, the folder of the photos, where a map counts as a photo or hides one.
    """
    if options.out is None:
        return annotation_folder(options.photos, condition)
    out: Path = options.out
    if out.resolve().is_relative_to(options.photos.resolve()):
        raise ValueError(f"--out {out}: lies in the folder of the photos, where maps count as photos; choose another")
    return out


def edges(options: argparse.Namespace) -> int:
    """Part maps by the networks of `midms get photos` or a face parser; without either, pictures of Canny edges."""
    if options.parser is not None:
        return _label(options, "edges", lambda: annotators.face_parser(options.parser, options.device))
    names, found = list_photos(options.photos), models.have_models()
    out = _maps_folder(options, "edges")
    if not found:
        warn(f"no networks for face parts: only Canny edges, as a preview; `{models.REMEDY}` gets the networks")
        out = options.out or out.with_name(f"{options.photos.absolute().name}_edges")
    missing = [name for name in names if not _png(out, name).is_file()]
    run = ParallelRun(options, "edges", workers=_processes(options, len(missing)) if found else None)
    made = sum(1 for _ in run(missing, partial(_face_parts if found else _canny, options.photos, out)))
    return run.finish(out, made, len(names) - len(missing))


def segment(options: argparse.Namespace) -> int:
    """Class maps by UperNet."""
    return _label(options, "segmentation", lambda: annotators.scene_segmenter(options.weights, options.device))


def _label(options: argparse.Namespace, condition: str, make: Callable[[], annotators.LabelMaps]) -> int:
    names = list_photos(options.photos)
    out = _maps_folder(options, condition)
    missing, run = [name for name in names if not _png(out, name).is_file()], ParallelRun(options, condition)
    label = make() if missing else None
    made = 0
    for batch in split_batches(run(missing, partial(read_upright, options.photos)), options.batch_size):
        assert label is not None
        for (name, _), ids in zip(batch, label([photo for _, photo in batch]), strict=True):
            _save_png(_png(out, name), ids)
            made += 1
    return run.finish(out, made, len(names) - len(missing))


def keypoints(options: argparse.Namespace) -> int:
    """Candidate and subset files and OpenPose JSON of each photo; the JSON is written last.

    Raises:
        ValueError: no tool is named, and the networks of `midms get photos` are missing.
    """
    tool = options.tool or ("rtmlib" if options.det or options.weights else "mediapipe")
    if tool == "mediapipe" and not models.have_models():
        raise ValueError(f"no networks for joints: run `{models.REMEDY}`, or name a --tool that is installed")
    names = list_photos(options.photos)
    out = options.out or annotation_folder(options.photos, "keypoints")
    stems = {name: (out / name).with_suffix("") for name in names}
    missing = [name for name in names if not _has_both(stems[name])]
    run = ParallelRun(options, "keypoints", workers=_processes(options, len(missing)) if tool == "mediapipe" else None)
    made = 0
    for name, people in _people(options, tool, run, missing, out):
        poses.write_text_poses(stems[name], people)
        poses.write_json_poses(_json(stems[name]), people)
        made += 1
    return run.finish(out, made, len(names) - len(missing))


def _people(
    options: argparse.Namespace, tool: str, run: ParallelRun, names: Sequence[str], out: Path
) -> Iterable[tuple[str, list[poses.Pose]]]:
    """Each photo with the poses of everyone in it."""
    if tool == "convert":
        return run(names, partial(_poses, options.photos, out))
    if tool == "mediapipe":
        return run(names, partial(_main_pose, options.photos))
    if not names:
        return []
    network = (
        annotators.rtmlib_poses(options.det, options.weights, options.device)
        if tool == "rtmlib"
        else (annotators.controlnet_poses(options.weights, options.device))
    )
    return ((name, network(photo)) for name, photo in run(names, partial(read_upright, options.photos)))


def _main_pose(root: Path, name: str) -> list[poses.Pose]:
    photo = read_upright(root, name)
    with _named(root / name):
        return [annotate.pose_of_person(photo)]


def _poses(photos: Path, out: Path, name: str) -> list[poses.Pose]:
    return poses.read_poses((out / name).with_suffix(""), read_header(photos / name).size)


def _json(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}_keypoints.json")


def _has_both(stem: Path) -> bool:
    return all(file.is_file() for file in (*poses.text_files(stem), _json(stem)))


def cache(options: argparse.Namespace) -> int:
    """Prepared items of a split. Training splits need no pair list here."""
    settings: dict[str, Any] = {"exemplars": {"self": 1.0}} if options.split == "train" else {}
    make = DATA_SETS[options.data]
    dataset = make(options.root, options.split, size=options.size, cache_folder=options.out, **settings)
    run = ParallelRun(options, "prepared")
    made = sum(1 for _ in run(dataset.images, partial(_prepare, dataset)))
    return run.finish(options.out, made, 0)


def _prepare(dataset: PairDataset, name: str) -> None:
    dataset.read(name)


def verify(options: argparse.Namespace) -> int:
    """Print all faults and counts; 1 if there is a fault."""
    if options.data == "folder":
        return _verify_photos(options)
    if options.lists is not None:
        raise ValueError(f"--lists: the data set {options.data} has lists of its own; it is for --data folder")

    def bar(results: Iterable[list[Fault]], total: int) -> Iterable[list[Fault]]:
        return track(results, "verify", total, options.quiet)

    report = verify_data_set(options.data, options.root, options.workers or 0, bar)
    for fault in report.faults:
        say(f"{fault.file}: {fault.reason}")
    print("; ".join(f"{name} {count}" for name, count in report.counts.items()))
    print(f"{len(report.faults)} faults")
    return int(bool(report.faults))


def _remark(dataset: ImageFolder, name: str) -> str:
    """Prepare an item; says what deserves a look, though it is no fault, else nothing."""
    dataset.read(name)
    file = dataset.map_file(name)
    if dataset.condition == "edges" and dataset.annotations.is_dir() and not file.is_file():
        return "photos without a part map"
    if dataset.condition == "segmentation" and (np.asarray(open_upright(file)) == IGNORED).any():
        return f"class maps with ids of {IGNORED}, which are read as class {dataset.classes - 1}:"
    return ""


def _verify_photos(options: argparse.Namespace) -> int:
    if options.lists is not None:
        inputs = [] if options.pairs is None else [options.pairs]
        check_output_files(split_files(options.lists), inputs, options.overwrite)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the pair list, whose missing photos are named below
        dataset = ImageFolder(
            options.root,
            options.condition,
            training=False,
            annotations=options.annotations,
            pairs=options.pairs,
            classes=options.classes,
            part_order=options.part_order,
        )
    run = ParallelRun(options, "verify", "")
    found = scan_folder(options.root)
    remarks = dict(run(list(dict.fromkeys((*found.photos, *dataset.images))), partial(_remark, dataset)))
    usable = list(remarks)
    read = len(usable)
    for remark in sorted(set(remarks.values()) - {""}):
        named = [name for name in usable if remarks[name] == remark]
        say(f"{remark} {len(named)}, first {named[0]}")
    for name in dataset.without_line:
        warn(f"{name}: no line in {options.pairs}")
    for name in dataset.without_photo:
        warn(f"{name}: a line in {options.pairs}, but no photo")
    if found.others:
        say(f"files of other kinds {len(found.others)}, first {found.others[0]}")
    faults = run.broken + len(dataset.without_line) + len(dataset.without_photo)
    say(f"photos {read + run.broken}")
    say(f"{faults} faults")
    if options.lists is not None:
        write_split(options.lists, sorted(set(usable) & set(found.photos)))
    return int(faults > 0)


def split_files(folder: Path) -> list[Path]:
    """The lists of a split, in the order in which they are written."""
    return [folder / "val.txt", folder / "train.txt"]


def write_split(folder: Path, names: Sequence[str]) -> None:
    """Write names as train.txt and val.txt. Every tenth is for validation: at least two, at most 100.

    Raises:
        ValueError: fewer than `FEWEST_PHOTOS` names, or a name that no list can hold.
    """
    if len(names) < FEWEST_PHOTOS:
        raise ValueError(f"{len(names)} usable photos, expected at least {FEWEST_PHOTOS} for a training")
    count = min(max(len(names) // 10, 2), 100)
    held_out = {names[place * len(names) // count] for place in range(count)}
    chosen = [name for name in names if name in held_out], [name for name in names if name not in held_out]
    for file, part in zip(split_files(folder), chosen, strict=True):
        write_atomically(file, "".join(f"{check_name(name)}\n" for name in part))
    say(f"{folder}: train.txt {len(names) - count}, val.txt {count} photos")
