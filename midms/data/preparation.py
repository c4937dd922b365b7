"""The commands of `scripts/prepare_data.py`: annotate photos, find exemplars, fill the cache, check a data set."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from midms.conditions import annotators, poses
from midms.conditions.edges import edge_condition
from midms.conditions.photos import annotate, models
from midms.data import CelebAEdges, ChurchesSegmentation, DeepFashionKeypoints, ImageFolder
from midms.data.exemplars import format_pairs, read_names
from midms.data.folder import annotation_folder, list_photos, scan_folder
from midms.data.pairs import PairDataset
from midms.data.retrieval import (
    colour_and_gradient_features,
    fewest_candidates,
    group_numbers,
    module_features,
    nearest,
)
from midms.data.transforms import grey_pixels
from midms.data.verify import Fault
from midms.data.verify import verify as verify_data_set
from midms.io.files import BrokenFileError, atomic_write, write_atomically
from midms.io.images import read_header, read_rgb
from midms.io.provenance import png_bytes
from midms.programs import say, warn

DATA_SETS: dict[str, type[PairDataset]] = {
    "celeba": CelebAEdges,
    "deepfashion": DeepFashionKeypoints,
    "churches": ChurchesSegmentation,
}
_BLOCK = 512  # photos whose features make one file
_FEATURE_SIDE = 128
_PAIRS = 20  # exemplars per line, as in the lists of the field
_MOST_PROCESSES, _WORTH_PROCESSES = 8, 16  # at most so many at once, and for so many photos or more


class FunctionDataset(Dataset[tuple[str, Any]]):
    """Calls a function for each name, in loader processes; a broken file is a result as well."""

    def __init__(self, names: Sequence[str], function: Callable[[str], Any]) -> None:
        self.names, self.function = names, function

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[str, Any]:
        name = self.names[index]
        try:
            return name, self.function(name)
        except BrokenFileError as error:
            return name, error


class ParallelRun:
    """Results of `function` over names, with a progress bar; broken files are told and counted."""

    def __init__(
        self, options: argparse.Namespace, text: str, word: str = "skipped ", workers: int | None = None
    ) -> None:
        self.workers, self.quiet = (options.workers or 0) if workers is None else workers, options.quiet
        self.text, self.word, self.broken = text, word, 0

    def __call__(self, names: Sequence[str], function: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
        loader = DataLoader(
            FunctionDataset(names, function), batch_size=None, num_workers=self.workers, collate_fn=_identity
        )
        for name, result in self.bar(loader, len(names)):
            if isinstance(result, BrokenFileError):
                self.broken += 1
                warn(f"{self.word}{result}")
            else:
                yield name, result

    def bar(self, results: Iterable[Any], total: int) -> Iterable[Any]:
        """The results, with a progress bar over `total` unless it was asked to be quiet."""
        return tqdm(results, self.text, total, disable=self.quiet)

    def finish(self, out: Path, made: int, present: int) -> int:
        """Say what was done; 1 if a file was broken."""
        say(f"{out}: {made} made, {present} were there, {self.broken} skipped")
        return int(self.broken > 0)


def _identity(result: Any) -> Any:
    return result


def _processes(options: argparse.Namespace, photos: int) -> int:
    """Processes for networks that run on one core each: as asked, else one per core; none for a handful of photos."""
    if options.workers is not None:
        return int(options.workers)
    return min(os.cpu_count() or 1, _MOST_PROCESSES) if photos >= _WORTH_PROCESSES else 0


@contextmanager
def _named(photo: Path) -> Iterator[None]:
    """A photo that no annotation can be made of is a broken file; the networks keep to one core."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    except annotate.PhotoError as error:
        raise BrokenFileError(photo, str(error)) from None
    finally:
        cv2.setNumThreads(threads)


def _upright(root: Path, name: str) -> Image.Image:
    return read_rgb(root / name)


def _batches(results: Iterable[tuple[str, Any]], size: int) -> Iterator[list[tuple[str, Any]]]:
    batch: list[tuple[str, Any]] = []
    for result in results:
        batch.append(result)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _png(out: Path, name: str) -> Path:
    return (out / name).with_suffix(".png")


def _save_png(file: Path, pixels: NDArray[np.uint8]) -> None:
    write_atomically(file, png_bytes(pixels))


def _canny(root: Path, out: Path, name: str) -> None:
    _save_png(_png(out, name), edge_condition(grey_pixels(_upright(root, name), 256), {})[0])


def _face_parts(root: Path, out: Path, name: str) -> None:
    photo = _upright(root, name)
    with _named(root / name):
        _save_png(_png(out, name), annotate.portrait(photo, align=False).parts)


def edges(options: argparse.Namespace) -> int:
    """Part maps by the networks of `midms get photos` or a face parser; without either the Canny edges, to look at."""
    if options.parser is not None:
        return _label(options, "edges", lambda: annotators.face_parser(options.parser, options.device))
    names, found = list_photos(options.photos), models.have_models()
    out = options.out or annotation_folder(options.photos, "edges")
    if not found:
        warn(f"no networks for face parts: Canny edges to look at; `{models.REMEDY}` gets the networks")
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
    out = options.out or annotation_folder(options.photos, condition)
    missing, run = [name for name in names if not _png(out, name).is_file()], ParallelRun(options, condition)
    label = make() if missing else None
    made = 0
    for batch in _batches(run(missing, partial(_upright, options.photos)), options.batch_size):
        assert label is not None
        for (name, _), ids in zip(batch, label([photo for _, photo in batch]), strict=True):
            _save_png(_png(out, name), ids)
            made += 1
    return run.finish(out, made, len(names) - len(missing))


def keypoints(options: argparse.Namespace) -> int:
    """Candidate and subset files and OpenPose JSON of each photo; the JSON is written last.

    Raises:
        ValueError: no tool is named, and the networks of `midms get photos` are not here.
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
    return ((name, network(photo)) for name, photo in run(names, partial(_upright, options.photos)))


def _main_pose(root: Path, name: str) -> list[poses.Pose]:
    photo = _upright(root, name)
    with _named(root / name):
        return [annotate.pose_of_person(photo)]


def _poses(photos: Path, out: Path, name: str) -> list[poses.Pose]:
    return poses.read_poses((out / name).with_suffix(""), read_header(photos / name).size)


def _json(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}_keypoints.json")


def _has_both(stem: Path) -> bool:
    return all(file.is_file() for file in (*poses.text_files(stem), _json(stem)))


def pairs(options: argparse.Namespace) -> int:
    """A pair list: the most alike photos of each photo, never itself or the same person."""
    out = options.out or options.photos.absolute().with_name(f"{options.photos.absolute().name}_pairs.txt")
    keys = options.keys or options.photos
    run = ParallelRun(options, "features")
    chosen = split_names(options.photos, options.names, run)
    names, features = photo_features(options.photos, chosen, options, out.with_suffix(".features"), run)
    key_names, key_features = names, features
    if keys.resolve() != options.photos.resolve() or options.key_names:
        chosen = split_names(keys, options.key_names, run)
        key_names, key_features = photo_features(keys, chosen, options, out.with_suffix(".features"), run)
    groups = group_numbers(
        identities(names, options.photos, options.identities), identities(key_names, keys, options.identities)
    )
    count = options.count or max(1, min(_PAIRS, fewest_candidates(*groups)))
    neighbours, _ = nearest(features, key_features, count, *groups, device=options.device)
    listed = {name: [key_names[k] for k in row] for name, row in zip(names, neighbours.tolist(), strict=True)}
    write_atomically(out, format_pairs(listed))
    return run.finish(out, len(listed), 0)


def identities(names: Sequence[str], root: Path, source: str | None) -> list[str]:
    """Who or what each photo shows: itself, its folder, or what a file of ``photo identity`` lines says.

    Raises:
        ValueError: the file is missing or leaves out a photo.
    """
    if source is None:
        return [str((root / name).resolve()) for name in names]
    if source == "folder":
        return [str((root / name).resolve().parent) for name in names]
    listed: dict[str, str] = {}
    known = set(names)
    for line in read_names(Path(source)):
        photo, identity = _photo_and_identity(line, known)
        listed[photo] = identity
    without = [name for name in names if name not in listed]
    if without:
        raise ValueError(f"{source}: {len(without)} of {len(names)} photos have no identity, first {without[0]!r}")
    return [listed[name] for name in names]


def _photo_and_identity(line: str, known: set[str]) -> tuple[str, str]:
    """The longest known name that a line begins with, and the rest; both may hold spaces, tabs and commas."""
    for separator in reversed(list(re.finditer(r"[,\s]+", line))):
        photo = line[: separator.start()]
        quoted = photo[1:-1].replace('""', '"') if len(photo) > 1 and photo[0] == photo[-1] == '"' else photo
        if quoted in known:
            return quoted, line[separator.end() :].strip()
    return line, ""


def split_names(root: Path, listed: Path | None, run: ParallelRun) -> list[str]:
    """The photos of a folder that a list of names names, or all; names without a photo are told and counted.

    Names are paths relative to the folder or to the one above, with or without extension.

    Raises:
        ValueError: no such folder or list, or the list names no photo of the folder.
    """
    photos = list_photos(root)
    if listed is None:
        above = root.absolute().parent
        if all((above / f"{split}.txt").is_file() for split in ("train", "val")):
            warn(
                f"note: {above} has train.txt and val.txt, and all photos may become exemplars of one another; "
                "for the list of one split give its --names"
            )
        return photos
    spellings: dict[str, str] = {}
    for name in photos:
        for path in (name, name.rpartition(".")[0]):
            spellings.setdefault(path, name)
            spellings.setdefault(f"{root.absolute().name}/{path}", name)
    chosen = []
    for name in dict.fromkeys(read_names(listed)):
        if name in spellings:
            chosen.append(spellings[name])
        else:
            run.broken += 1
            warn(f"{run.word}{name}: named in {listed}, no such photo in {root}")
    if not chosen:
        raise ValueError(f"{listed}: names no photo of {root}")
    return chosen


def photo_features(
    root: Path, everyone: Sequence[str], options: argparse.Namespace, folder: Path, run: ParallelRun
) -> tuple[list[str], Tensor]:
    """Names and features of the photos that can be read; finished blocks are kept in `folder`."""
    rows, names = [], []
    network: Callable[[Tensor], Tensor] | None = None
    for start in range(0, len(everyone), _BLOCK):
        block = everyone[start : start + _BLOCK]
        key = "\n".join((str(root.resolve()), str(options.weights), *block))
        file = folder / f"{options.features}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
        if not file.is_file():
            if options.features != "colour" and network is None:
                network = annotators.image_features(options.features, options.weights, options.device)
            _make_features(root, block, file, options, run, network)
        stored = np.load(file)
        names += [block[k] for k in stored["readable"]]
        rows.append(torch.from_numpy(stored["features"]))
    return names, torch.cat(rows)


def _make_features(
    root: Path,
    block: Sequence[str],
    file: Path,
    options: argparse.Namespace,
    run: ParallelRun,
    network: Callable[[Tensor], Tensor] | None,
) -> None:
    if network is None:
        results = list(run(block, partial(_colour_features, root)))
        features = np.stack([row for _, row in results]) if results else np.zeros((0, 1), np.float32)
    else:
        results, vectors = [], []
        for batch in _batches(run(block, partial(_upright, root)), options.batch_size):
            photos = annotators.photo_batch([photo for _, photo in batch], 224)
            vectors.append(module_features(network, [photos], options.device).numpy())
            results += [(name, None) for name, _ in batch]
        features = np.concatenate(vectors)
    position = {name: k for k, name in enumerate(block)}
    with atomic_write(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, readable=np.array([position[name] for name, _ in results], np.int64), features=features)


def _colour_features(root: Path, name: str) -> NDArray[np.float32]:
    photo = _upright(root, name)
    photo.thumbnail((_FEATURE_SIDE, _FEATURE_SIDE))
    return colour_and_gradient_features(np.asarray(photo))


def cache(options: argparse.Namespace) -> int:
    """Prepared items of a split; a training split needs no pair list for it."""
    settings: dict[str, Any] = {"exemplars": {"self": 1.0}} if options.split == "train" else {}
    make = DATA_SETS[options.data]
    dataset = make(options.root, options.split, size=options.size, cache_folder=options.out, **settings)
    run = ParallelRun(options, "prepared")
    made = sum(1 for _ in run(dataset.images, partial(_prepare, dataset)))
    return run.finish(options.out, made, 0)


def _prepare(dataset: PairDataset, name: str) -> None:
    dataset.read(name)


def verify(options: argparse.Namespace) -> int:
    """Print every fault and the counts; 1 if there is a fault."""
    if options.data == "folder":
        return _verify_photos(options)

    def bar(results: Iterable[list[Fault]], total: int) -> Iterable[list[Fault]]:
        return tqdm(results, "verify", total, disable=options.quiet)

    report = verify_data_set(options.data, options.root, options.workers or 0, bar)
    for fault in report.faults:
        say(f"{fault.file}: {fault.reason}")
    print("; ".join(f"{name} {count}" for name, count in report.counts.items()))
    print(f"{len(report.faults)} faults")
    return int(bool(report.faults))


def _verify_photos(options: argparse.Namespace) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the pair list: what it leaves out is named below
        dataset = ImageFolder(
            options.root, options.condition, training=False, pairs=options.pairs, part_order=options.part_order
        )
    run = ParallelRun(options, "verify", "")
    found = scan_folder(options.root)
    read = sum(1 for _ in run(list(dict.fromkeys((*found.photos, *dataset.images))), partial(_prepare, dataset)))
    for name in dataset.without_line:
        warn(f"{name}: no line in {options.pairs}")
    for name in dataset.without_photo:
        warn(f"{name}: a line in {options.pairs}, but no photo")
    if found.others:
        say(f"files of other kinds {len(found.others)}, first {found.others[0]}")
    faults = run.broken + len(dataset.without_line) + len(dataset.without_photo)
    say(f"photos {read + run.broken}")
    say(f"{faults} faults")
    return int(faults > 0)
