"""A folder of your own photos, with edge, pose or segmentation conditions and without lists.

    photos/**/name.jpg                      photos, at any depth
    photos_parts/**/name.png                edges: face parts as ids (1 ... 13 in the order of `FACE_PARTS`, or in
                                            another of `PART_ORDERS`, see `part_order`); optional
    photos_poses/**/name_candidate.txt      keypoints: with name_subset.txt, or name_keypoints.json
    photos_labels/**/name.png               segmentation: class ids

`scripts/prepare_data.py` makes these folders.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from midms.conditions import poses
from midms.conditions.edges import EDGE_CHANNELS, PART_ORDERS, edge_condition, part_masks
from midms.conditions.keypoints import KEYPOINT_CHANNELS, pose_condition
from midms.conditions.segmentation import SEGMENTATION_CHANNELS, class_map, one_hot
from midms.data.exemplars import read_names, read_pairs
from midms.data.pairs import PairDataset
from midms.data.transforms import grey_pixels
from midms.io.files import BrokenFileError
from midms.io.images import IMAGE_SUFFIXES, read_labels
from midms.schema import Channels, Text

#: Condition -> suffix of the folder with its annotations, beside the photos.
ANNOTATIONS = {"edges": "parts", "keypoints": "poses", "segmentation": "labels"}
_CHANNELS = {"edges": EDGE_CHANNELS, "keypoints": KEYPOINT_CHANNELS, "segmentation": 1}


def annotation_folder(root: Path, condition: str) -> Path:
    """The folder of annotations beside the photos, such as ``photos_poses`` for ``photos``.

    Raises:
        ValueError: unknown condition.
    """
    if condition not in ANNOTATIONS:
        raise ValueError(f"condition {condition!r}: expected one of {', '.join(ANNOTATIONS)}")
    root = root.absolute()
    return root.with_name(f"{root.name}_{ANNOTATIONS[condition]}")


class FolderScan(NamedTuple):
    """Files below a folder, relative to it, sorted."""

    photos: list[str]
    others: list[str]  # files with other extensions


def scan_folder(root: Path, maps_beside: bool = False) -> FolderScan:
    """All files below a folder. Hidden files are skipped, and links to outside folders are followed.

    Args:
        root: the folder.
        maps_beside: whether a PNG beside a JPEG of the same name is its class map, as in LSUN-Churches, and no photo.
    Raises:
        ValueError: the folder is missing or has no photo, or two photos differ in their extension alone.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    photos: list[str] = []
    others: list[str] = []
    inside, seen = root.resolve(), {root.resolve()}
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [name for name in folders if Path(folder, name).is_symlink()]:
            target = Path(folder, name).resolve()
            if target in seen or target.is_relative_to(inside) or inside.is_relative_to(target):
                folders.remove(name)  # visited by another path, or a cycle
            seen.add(target)
        here = Path(folder).relative_to(root)
        for name in files:
            if not name.startswith("."):
                is_photo = Path(name).suffix.lower() in IMAGE_SUFFIXES
                (photos if is_photo else others).append((here / name).as_posix())
    if maps_beside:
        jpegs = {name.rpartition(".")[0] for name in photos if name.lower().endswith((".jpg", ".jpeg"))}
        maps = {name for name in photos if name.lower().endswith(".png") and name.rpartition(".")[0] in jpegs}
        photos, others = [name for name in photos if name not in maps], [*others, *maps]
    if not photos:
        raise ValueError(f"{root}: no photo ({', '.join(IMAGE_SUFFIXES)}) in it")
    stems: dict[str, str] = {}
    for name in photos:
        other = stems.setdefault(name.rpartition(".")[0], name)
        if other != name:
            raise ValueError(f"{root}: {other} and {name} differ in their extension alone, so they share annotations")
    return FolderScan(sorted(photos), sorted(others))


def list_photos(root: Path, listed: Path | None = None) -> list[str]:
    """The photos of `scan_folder`, or those of them in a list of names, one a line.

    Raises:
        ValueError: as `scan_folder`; or the list is missing, is empty, or names a photo that the folder lacks.
    """
    photos = scan_folder(root).photos
    return photos if listed is None else _listed_photos(photos, root, listed)


def _listed_photos(photos: Sequence[str], root: Path, listed: Path) -> list[str]:
    """Those of a folder's photos that a list names, in its order, each once."""
    names, present = read_names(listed), set(photos)
    absent = [name for name in names if name not in present]
    if absent or not names:
        what = f"{len(absent)} of {len(names)} photos are not in {root}, first {absent[0]}" if absent else "it is empty"
        raise ValueError(f"{listed}: {what}; make it anew with `prepare_data.py verify --lists`")
    return list(dict.fromkeys(names))


class ImageFolder(PairDataset):
    """Photos of a folder with conditions of one kind; the items are those of `PairDataset`.

    Edge conditions are computed when read: Canny edges and, if there are part maps, face parts. Poses and class maps
    are read from files. Without a pair list the exemplar is the photo itself or any other photo: a random one in
    training, a fixed one in evaluation. Photos are turned upright by their EXIF orientation.

    Args:
        root: folder of photos.
        condition: "edges", "keypoints" or "segmentation".
        training: random views and exemplars.
        annotations: folder of part maps, poses or labels; by default the folder beside `root`.
        pairs: pair list, paths relative to `root`.
        names: list of the photos to take, such as those of a split. None: all. Exemplars may be others.
        classes: number of segmentation classes, and so of channels.
        part_order: numbering of the ids in part maps, a key of `midms.conditions.edges.PART_ORDERS`.
        options: `size`, `load_size`, `exemplars`, `released`, `cache_folder`, `skip_broken`, `seed` of `PairDataset`.
    Attributes:
        without_line: photos without a line in the pair list; these are not items.
        without_photo: conditions of the pair list that the folder lacks.
    Raises:
        ValueError: a folder is missing or empty, or the list is malformed or names no photo of the folder.
    """

    def __init__(
        self,
        root: Text | Path,
        condition: Literal["edges", "keypoints", "segmentation"],
        training: bool = True,
        annotations: Text | Path | None = None,
        pairs: Text | Path | None = None,
        names: Text | Path | None = None,
        classes: Channels = SEGMENTATION_CHANNELS,
        part_order: Literal["midms", "face-parsing.PyTorch", "CelebAMask-HQ"] = "midms",
        **options: Any,
    ) -> None:
        self.root, self.condition, self.classes, self.part_order = Path(root), condition, classes, part_order
        self.annotations = Path(annotations) if annotations else annotation_folder(self.root, condition)
        annotation_folder(self.root, condition)  # refuses other names
        if part_order not in PART_ORDERS:
            raise ValueError(f"part order {part_order!r}: expected one of {', '.join(PART_ORDERS)}")
        if condition != "edges" and not self.annotations.is_dir():
            command = {"keypoints": "keypoints", "segmentation": "segment"}[condition]
            raise ValueError(f"{self.annotations}: no such folder; make it with `prepare_data.py {command} {root}`")
        self.kind, self.channels = f"folder-{condition}", _CHANNELS[condition]
        if condition == "segmentation":
            self.kind = f"folder-segmentation-{classes}"
        if condition == "edges" and part_order != "midms":
            self.kind = f"folder-edges-{part_order}"
        photos = list_photos(self.root)
        chosen = photos if names is None else _listed_photos(photos, self.root, Path(names))
        self.listed = pairs is not None
        self.without_line: list[str] = []
        self.without_photo: list[str] = []
        if pairs is not None:
            exemplars = read_pairs(Path(pairs), skip_malformed=bool(options.get("skip_broken")))
            self.without_line = [name for name in chosen if name not in exemplars]
            self.without_photo = sorted(set(exemplars) - set(photos))
            chosen = [name for name in chosen if name in exemplars]
            self._tell_what_the_list_leaves_out(Path(pairs), len(chosen))
        else:
            after = chosen[1:] + chosen[:1]
            exemplars = {name: [other] for name, other in zip(chosen, after, strict=True)}
        super().__init__(chosen, exemplars, training=training, **options)

    def _tell_what_the_list_leaves_out(self, pairs: Path, used: int) -> None:
        counts = {"photos without a line": self.without_line, "lines without a photo": self.without_photo}
        told = [f"{len(names)} {what}, first {names[0]}" for what, names in counts.items() if names]
        if used == 0:
            raise ValueError(f"{pairs}: names no photo of {self.root}; {'; '.join(told)}")
        if told:
            warnings.warn(f"{pairs}: {'; '.join(told)}", stacklevel=3)

    def photo_file(self, name: str) -> Path:
        return self.root / name

    def map_file(self, name: str) -> Path:
        """The file of a photo's part map or class map."""
        return (self.annotations / name).with_suffix(".png")

    def maps(self, name: str, photo: Image.Image) -> NDArray[np.uint8]:
        if self.condition == "keypoints":
            stem = (self.annotations / name).with_suffix("")
            pose = poses.main_person(poses.read_poses(stem, photo.size), poses.text_files(stem)[1])
            return pose_condition(pose[:, :2], photo.height, photo.width, size=self.load_size)
        file = self.map_file(name)
        try:
            if self.condition == "segmentation":
                return class_map(read_labels(file, self.load_size), self.classes)[None]
            masks = part_masks(read_labels(file, self.load_size), self.part_order) if file.is_file() else {}
        except BrokenFileError:
            raise
        except ValueError as error:
            raise BrokenFileError(file, str(error)) from None
        return edge_condition(grey_pixels(photo, self.load_size), masks)

    def to_condition(self, maps: NDArray[np.uint8]) -> Tensor:
        if self.condition != "segmentation":
            return super().to_condition(maps)
        return one_hot(torch.from_numpy(np.ascontiguousarray(maps[0])), self.classes)

    def choose(self, index: int, kind: str, rng: np.random.Generator) -> str:
        if self.listed or kind == "self":
            return super().choose(index, kind, rng)
        return self.names[int(rng.integers(len(self.names)))]
