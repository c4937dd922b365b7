"""CelebA-HQ with edge conditions, from CelebAMask-HQ as published.

root/CelebA-HQ-img/2994.jpg                              photo
root/CelebAMask-HQ-mask-anno/1/02994_skin.png            one mask, 0 or 255, per facial part; folder = id // 2000
root/train.txt, val.txt                                  ids, one per line
root/lists/celebahq_ref.txt, celebahq_ref_test.txt       pair lists of training and test
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from midms.conditions.edges import EDGE_CHANNELS, FACE_PARTS, edge_condition
from midms.data.pairs import PairDataset, Split, find_names, find_pairs, is_training
from midms.data.transforms import grey_pixels
from midms.io.files import BrokenFileError
from midms.io.images import read_mask
from midms.schema import Text


def photo_file(root: Path, name: str) -> Path:
    """Path of a photo such as ``2994.jpg``."""
    return root / "CelebA-HQ-img" / name


def mask_file(root: Path, name: str, part: str) -> Path:
    """Path of a mask, such as ``skin`` of ``2994.jpg``."""
    number = int(Path(name).stem)
    return root / "CelebAMask-HQ-mask-anno" / str(number // 2000) / f"{number:05d}_{part}.png"


def image_name(entry: str) -> str:
    """Turn an entry of a list, with or without extension and padding, into a name such as ``2994.jpg``.

    Raises:
        ValueError: the entry is not a number.
    """
    stem = entry.rpartition("/")[2].partition(".")[0]
    if not stem.isdigit():
        raise ValueError(f"CelebA-HQ id {entry!r}: expected a number")
    return f"{int(stem)}.jpg"


class CelebAEdges(PairDataset):
    """Faces with 15 edge channels (`conditions.edges`); the items are those of `PairDataset`.

    A part without a mask file is not visible: its distance channel is 1 everywhere. A face without any mask file is
    an error, because the folder must be wrong. Masks other than the 13 parts (neck, cloth, hat, earrings) are not read.
    As in the released code, a flip mirrors the maps without swapping left and right parts.

    Args:
        root: folder of CelebAMask-HQ.
        split: "train" (``train.txt``, random views and exemplars) or "val" (``val.txt``, first exemplars).
        pairs: pair list instead of the split's own.
        options: `size`, `load_size`, `exemplars`, `released`, `cache_folder`, `skip_broken`, `seed` of `PairDataset`.
    Raises:
        ValueError: a list is missing or malformed.
    """

    kind, channels = "celeba-edges", EDGE_CHANNELS

    def __init__(
        self, root: Text | Path, split: Split = "train", pairs: Text | Path | None = None, **options: Any
    ) -> None:
        self.root, training = Path(root), is_training(split)
        names = find_names(self.root / f"{split}.txt", image_name, options)
        default = self.root / "lists" / ("celebahq_ref.txt" if training else "celebahq_ref_test.txt")
        exemplars = find_pairs(pairs or default, image_name, training, options)
        super().__init__(names, exemplars, training=training, **options)

    def photo_file(self, name: str) -> Path:
        return photo_file(self.root, name)

    def maps(self, name: str, photo: Image.Image) -> NDArray[np.uint8]:
        files = {part: mask_file(self.root, name, part) for part in FACE_PARTS}
        masks = {part: read_mask(file, self.load_size) for part, file in files.items() if file.is_file()}
        if not masks:
            raise BrokenFileError(files["skin"], "no such file, nor any other part of this face")
        return edge_condition(grey_pixels(photo, self.load_size), masks)
