"""The pairs of a list, numbered, with their pictures: the source of every layout, by which outputs are read back."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from midms.data.exemplars import read_pairs
from midms.data.folder import ImageFolder
from midms.io.files import atomic_write, read_json, write_atomically
from midms.io.images import read_header, read_info, read_rgb
from midms.io.schemas import check_content
from midms.visualize import Pixels, condition_image, save_png, to_pixels

MANIFEST = "pairs.json"
EVALUATION = "evaluation"  # folder of photos and exemplars, named like the outputs that `write_outputs` writes


class Pair(BaseModel):
    """One line of a pair list.

    Attributes:
        number: position in the list of pairs, from 0; files of the layouts are named by it.
        name: of the output, the condition's photo without its extension.
        condition, exemplar: photos, relative to their folder.
    """

    number: int
    name: str
    condition: str
    exemplar: str


class Manifest(BaseModel):
    """What `write_manifest` writes."""

    layout: str
    condition: str
    size: int
    pairs: list[Pair] = Field(min_length=1)


class Pictures(NamedTuple):
    """The three pictures of a pair, uint8 (size, size, 3)."""

    condition: Pixels
    exemplar: Pixels
    photo: Pixels  # that the condition was made from


class PairSource:
    """Photos with annotations and a pair list.

    Args:
        photos: folder, with the annotations beside it (see `midms.data.folder`).
        pairs: list of ``condition,exemplar[,...]``; the first exemplar counts, as in the published protocol.
        condition: "edges", "keypoints" or "segmentation".
        size: of the pictures. count: number of pairs, from the first of the list; None: all.
    Raises:
        ValueError: a folder or list is missing or malformed, or an exemplar is no photo of the folder.
    """

    def __init__(self, photos: Path, pairs: Path, condition: Any, size: int = 256, count: int | None = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about photos without a line: here they are exemplars
            self.folder = ImageFolder(photos, condition, training=False, pairs=pairs, size=size)
        if self.folder.without_photo:
            absent = self.folder.without_photo
            raise ValueError(f"{pairs}: {len(absent)} conditions are no photos of {photos}, the first is {absent[0]}")
        self.photos, self.condition, self.size = photos, condition, size
        listed = read_pairs(pairs)
        names = list(listed)[:count]
        for name in names:
            if not (photos / listed[name][0]).is_file():
                raise ValueError(f"{pairs}: exemplar {listed[name][0]} of {name} is no photo of {photos}")
        self.pairs = [
            Pair(number=k, name=name.rpartition(".")[0], condition=name, exemplar=listed[name][0])
            for k, name in enumerate(names)
        ]
        self.list_names = [self.folder.names.index(pair.condition) for pair in self.pairs]

    def pictures(self) -> Iterator[tuple[Pair, Pictures]]:
        """Each pair with its pictures."""
        for pair, index in zip(self.pairs, self.list_names, strict=True):
            item = self.folder[index]
            drawn = {
                "condition": condition_image(item["condition"][None]),
                "exemplar": item["exemplar"][None],
                "photo": item["source"][None],
            }
            yield pair, Pictures(**{name: to_pixels(images)[0] for name, images in drawn.items()})

    def used_photos(self) -> list[str]:
        """All photos of the pairs, conditions first, each once."""
        return list(dict.fromkeys([p.condition for p in self.pairs] + [p.exemplar for p in self.pairs]))


def write_evaluation_pictures(source: PairSource, out: Path) -> None:
    """Photos and exemplars at the size of the outputs, for --reference and --exemplars of scripts/evaluate.py."""
    for pair, pictures in source.pictures():
        for role, picture in (("photos", pictures.photo), ("exemplars", pictures.exemplar)):
            save_png(out / EVALUATION / role / f"{pair.name}.png", picture)


def write_manifest(source: PairSource, layout: str, out: Path) -> None:
    """The record by which outputs are read back."""
    manifest = Manifest(layout=layout, condition=source.condition, size=source.size, pairs=source.pairs)
    write_atomically(out / MANIFEST, json.dumps(manifest.model_dump(), indent=1) + "\n")


def read_manifest(file: Path) -> Manifest:
    """The record of a folder of pairs.

    Raises:
        BrokenFileError: missing, or something else.
    """
    path = file / MANIFEST if file.is_dir() else file
    manifest: Manifest = check_content(Manifest, read_json(path), str(path), "pairs that pairs_for.py wrote")
    return manifest


def copy_photo(source: PairSource, name: str, file: Path) -> None:
    """A photo of the folder as an upright JPEG file: unchanged if it is one, else converted at quality 95."""
    original = source.photos / name
    if read_header(original).format == "JPEG" and "exif" not in read_info(original):
        write_atomically(file, original.read_bytes())
    else:
        with atomic_write(file) as temporary:
            read_rgb(original).save(temporary, quality=95, subsampling=0)


def numbers_of(names: Sequence[str]) -> dict[str, int]:
    """Name -> its position."""
    return {name: number for number, name in enumerate(names)}
