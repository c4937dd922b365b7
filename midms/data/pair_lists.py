"""The command `pairs` of `scripts/prepare_data.py`: for each photo, the most similar photos as exemplars."""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from midms.conditions import annotators
from midms.data.exemplars import format_pairs, read_names
from midms.data.folder import scan_folder
from midms.data.parallel import ParallelRun, read_upright, split_batches
from midms.data.retrieval import (
    colour_and_gradient_features,
    fewest_candidates,
    group_numbers,
    module_features,
    nearest,
)
from midms.io.files import atomic_write, write_atomically
from midms.io.outputs import check_output_files
from midms.programs import warn

_BLOCK = 512  # photos per file of features
_FEATURE_SIDE = 128
_PAIRS = 20  # exemplars per line, as in published lists


def pairs(options: argparse.Namespace) -> int:
    """Write a pair list: the most similar photos of each photo, never itself or the same person."""
    out = options.out or options.photos.absolute().with_name(f"{options.photos.absolute().name}_pairs.txt")
    keys = options.keys or options.photos
    people = None if options.identities in (None, "folder") else Path(options.identities)
    read = [*filter(None, [options.names, options.key_names, people, options.weights])]
    if out.exists():
        read += [root / name for root in (options.photos, keys) for name in scan_folder(root, maps_beside=True).photos]
    check_output_files([out], read, options.overwrite)
    run = ParallelRun(options, "features")
    chosen = split_names(options.photos, options.names, run)
    identities(chosen, options.photos, options.identities)  # a mistake in the list is told before the long work
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
    """Identity of each photo: the photo itself, its folder, or its entry in a file of ``photo identity`` lines.

    Raises:
        ValueError: the file is missing or lacks a photo.
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
    """Split a line into its longest known name and the rest; both may hold spaces, tabs and commas."""
    for separator in reversed(list(re.finditer(r"[,\s]+", line))):
        photo = line[: separator.start()]
        quoted = photo[1:-1].replace('""', '"') if len(photo) > 1 and photo[0] == photo[-1] == '"' else photo
        if quoted in known:
            return quoted, line[separator.end() :].strip()
    return line, ""


def split_names(root: Path, listed: Path | None, run: ParallelRun) -> list[str]:
    """The photos of a folder that are in a list of names, or all. Names without a photo are reported and counted.

    Names are paths relative to the folder or to its parent, with or without extension.

    Raises:
        ValueError: the folder or list is missing, or the list names no photo of the folder.
    """
    photos = scan_folder(root, maps_beside=True).photos
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
    """Names and features of the readable photos; finished blocks of features are stored in `folder`."""
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
        for batch in split_batches(run(block, partial(read_upright, root)), options.batch_size):
            photos = annotators.photo_batch([photo for _, photo in batch], 224)
            vectors.append(module_features(network, [photos], options.device).numpy())
            results += [(name, None) for name, _ in batch]
        features = np.concatenate(vectors)
    position = {name: k for k, name in enumerate(block)}
    with atomic_write(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, readable=np.array([position[name] for name, _ in results], np.int64), features=features)


def _colour_features(root: Path, name: str) -> NDArray[np.float32]:
    photo = read_upright(root, name)
    photo.thumbnail((_FEATURE_SIDE, _FEATURE_SIDE))
    return colour_and_gradient_features(np.asarray(photo))
