"""LSUN-Churches, ADE20K, or other scenes with segmentation conditions.

root/training/<name>.jpg, <name>.png         photo and its class map (8 bit, one channel, same size)
root/validation/<name>.jpg, <name>.png
root/lists/lsun_church_ref.txt, lsun_church_ref_test.txt       pair lists of training and test
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from midms.conditions.segmentation import class_map, one_hot
from midms.data.pairs import PairDataset, Split, find_pairs, is_training
from midms.io.files import BrokenFileError
from midms.io.images import read_labels
from midms.schema import Text

FOLDERS = {"train": "training", "val": "validation"}


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Sort key that puts ``a2`` before ``a10``: runs of digits are compared as numbers."""
    parts = re.split(r"(\d+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def image_name(folder: str, entry: str) -> str:
    """Turn a list entry into ``validation/<name>.jpg``; an entry with a folder keeps that folder."""
    return entry if "/" in entry else f"{folder}/{entry}"


class ChurchesSegmentation(PairDataset):
    """Scenes with 151 class channels (`conditions.segmentation`); the items are those of `PairDataset`.

    In training every photo of the split's folder is an item, in evaluation every condition of the pair list. Label
    files hold 0 for unlabelled and 1 ... 150 for ADE20K's classes. 255 becomes 150, as in the released code.

    Args:
        root: folder with ``training`` and ``validation``.
        split: "train" (random views and exemplars) or "val" (first exemplars).
        pairs: pair list instead of the split's own.
        exemplar_split: split of the exemplars, "train" or "val". None: the conditions' split. ADE20K's list
            takes conditions from validation and exemplars from training.
        expand: give conditions as 151 channels (40 MB per image at 256). If False, give ids, float32 (1, H, W),
            which `conditions.segmentation.one_hot` expands on the device.
        options: `size`, `load_size`, `exemplars`, `released`, `cache_folder`, `skip_broken`, `seed` of `PairDataset`.
    Raises:
        ValueError: a folder or list is missing, or a list malformed.
    """

    kind, channels = "churches-segmentation", 1

    def __init__(
        self,
        root: Text | Path,
        split: Split = "train",
        pairs: Text | Path | None = None,
        exemplar_split: Split | None = None,
        expand: bool = True,
        **options: Any,
    ) -> None:
        self.root, self.expand, training = Path(root), expand, is_training(split)
        is_training(exemplar_split or split)  # refuses other names
        folder, exemplar_folder = FOLDERS[split], FOLDERS[exemplar_split or split]
        default = self.root / "lists" / ("lsun_church_ref.txt" if training else "lsun_church_ref_test.txt")
        listed_pairs = find_pairs(pairs or default, str, training, options)
        of_exemplar = partial(image_name, exemplar_folder)
        exemplars = {
            image_name(folder, name): [of_exemplar(row) for row in rows] for name, rows in listed_pairs.items()
        }
        present = scan(self.root / folder)
        names = [f"{folder}/{name}" for name in present] if training else list(exemplars)
        super().__init__(names, exemplars, training=training, **options)

    def photo_file(self, name: str) -> Path:
        return self.root / name

    def maps(self, name: str, photo: Image.Image) -> NDArray[np.uint8]:
        file = self.photo_file(name).with_suffix(".png")
        labels = read_labels(file, self.load_size)
        try:
            return class_map(labels)[None]
        except ValueError as error:
            raise BrokenFileError(file, str(error)) from None

    def to_condition(self, maps: NDArray[np.uint8]) -> Tensor:
        ids = torch.from_numpy(np.ascontiguousarray(maps))
        return one_hot(ids[0]) if self.expand else ids.float()


def scan(folder: Path) -> list[str]:
    """Names of the photos in a folder, in natural order.

    Raises:
        ValueError: no such folder, or no photo in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    names = sorted((file.name for file in folder.iterdir() if file.suffix == ".jpg"), key=natural_key)
    if not names:
        raise ValueError(f"{folder}: no .jpg photo in it")
    return names
