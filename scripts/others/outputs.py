"""Outputs of other methods, read back by pair."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from midms.evaluation.folders import ImageFile, list_images
from midms.io.files import write_atomically
from midms.io.images import read_rgb
from midms.io.outputs import check_output_files, is_ours
from midms.visualize import save_png
from others.pairs import Pair


class Panel(NamedTuple):
    """One of several pictures of equal width side by side."""

    place: int  # from 1
    total: int


def match_outputs(pairs: Sequence[Pair], files: Sequence[ImageFile], way: str) -> tuple[dict[str, Path], list[str]]:
    """The output of each pair.

    Args:
        files: in natural order of their names.
        way: "number", the last number in the file's name is that of the pair; "name", the file is called like the
            condition's photo; "order", the k-th file is of the k-th pair.
    Returns:
        Name of the pair -> file, and the names of pairs without an output.
    Raises:
        ValueError: two files of one pair, or with "order" another number of files than pairs.
    """
    if way == "order":
        if len(files) != len(pairs):
            raise ValueError(f"--by order: {len(files)} outputs of {len(pairs)} pairs; expected one for each")
        return {pair.name: file.path for pair, file in zip(pairs, files, strict=True)}, []
    found: dict[str, Path] = {}
    by_key = {pair.name if way == "name" else str(pair.number): pair.name for pair in pairs}
    for file in files:
        name = by_key.get(file.name if way == "name" else _last_number(file.name))
        if name is None:
            continue
        if name in found:
            raise ValueError(f"--by {way}: {found[name]} and {file.path} are both of pair {name}; give --glob PATTERN")
        found[name] = file.path
    return found, [pair.name for pair in pairs if pair.name not in found]


def _last_number(name: str) -> str:
    """The last run of digits of a file's name without leading zeros; "" for none."""
    numbers = re.findall(r"\d+", name.rpartition("/")[2])
    return str(int(numbers[-1])) if numbers else ""


def collect_outputs(folder: Path, pattern: str) -> list[ImageFile]:
    """Images below a folder whose path there fits a pattern such as "*_fake.jpg".

    Raises:
        ValueError: no such folder, or no image that fits.
    """
    files = [file for file in list_images(folder)[0] if file.path.relative_to(folder).match(pattern)]
    if not files:
        raise ValueError(f"{folder}: no image fits --glob {pattern}")
    return files


def write_outputs(outputs: Mapping[str, Path], out: Path, panel: Panel | None = None, overwrite: bool = False) -> None:
    """Outputs under the names of their pairs: the files unchanged, or one panel of each as PNG.

    Args:
        overwrite: whether files that midms did not write may be replaced.
    Raises:
        ValueError: a picture whose width is no multiple of the number of panels, or a name that is taken.
    """
    places = {out / f"{name}{path.suffix.lower() if panel is None else '.png'}": path for name, path in outputs.items()}

    def ours(place: Path) -> bool:
        return place.read_bytes() == places[place].read_bytes() if panel is None else is_ours(place)

    check_output_files(places, outputs.values(), overwrite, ours)
    for place, path in places.items():
        if panel is None:
            write_atomically(place, path.read_bytes())
            continue
        picture = read_rgb(path)
        if picture.width % panel.total:
            raise ValueError(f"{path}: {picture.width} pixels are not {panel.total} panels of one width (--panel)")
        width = picture.width // panel.total
        box = ((panel.place - 1) * width, 0, panel.place * width, picture.height)
        save_png(place, np.asarray(picture.crop(box)))
