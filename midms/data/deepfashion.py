"""DeepFashion (In-shop) with keypoint conditions, from photos and OpenPose files.

root/img/WOMEN/Dresses/id_00000203/03_1_front.jpg                  photo
root/pose/WOMEN/Dresses/id_00000203/03_1_front_candidate.txt       joints that were found (`poses`)
root/pose/WOMEN/Dresses/id_00000203/03_1_front_subset.txt          which joint is whose
root/train.txt, val.txt                                            photos, one per line, relative to root
root/lists/deepfashion_ref.txt, deepfashion_ref_test.txt           pair lists of training and test
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from midms.conditions import poses
from midms.conditions.keypoints import KEYPOINT_CHANNELS, pose_condition
from midms.data.pairs import PairDataset, Split, find_names, find_pairs, is_training
from midms.schema import Text


def image_name(entry: str) -> str:
    """An entry of a list, with or without the folder ``img``, to ``img/WOMEN/.../03_1_front.jpg``."""
    return entry if entry.startswith("img/") else f"img/{entry}"


def pose_stem(root: Path, name: str) -> Path:
    """``img/A/B.jpg`` to ``root/pose/A/B``: the pose files without their endings."""
    return root / "pose" / Path(*Path(name).parts[1:]).with_suffix("")


class DeepFashionKeypoints(PairDataset):
    """Fashion photos with 20 pose channels (`conditions.keypoints`); the items are those of `PairDataset`.

    The easy exemplar is the last of its line and the hard one any training photo, as released; the released loader
    draws the hard one once for each line (``released=True`` does), we draw it anew each time. It also trains without
    crop jitter: give ``load_size=256`` for that. Of several people in a pose file the one with the highest score is
    drawn; a candidate file with one line is a pose with one joint; a photo in which nobody was found is broken.

    Args:
        root: folder with ``img`` and ``pose``.
        split: "train" (``train.txt``, random views and exemplars) or "val" (``val.txt``, first exemplars).
        pairs: pair list instead of the split's own; ``/`` and ``\\`` both separate folders.
        options: `size`, `load_size`, `exemplars`, `released`, `cache_folder`, `skip_broken`, `seed` of `PairDataset`.
    Raises:
        ValueError: a list is missing or malformed.
    """

    kind, channels = "deepfashion-keypoints", KEYPOINT_CHANNELS

    def __init__(
        self, root: Text | Path, split: Split = "train", pairs: Text | Path | None = None, **options: Any
    ) -> None:
        self.root, training = Path(root), is_training(split)
        names = find_names(self.root / f"{split}.txt", image_name, options)
        default = self.root / "lists" / ("deepfashion_ref.txt" if training else "deepfashion_ref_test.txt")
        exemplars = find_pairs(pairs or default, image_name, training, options)
        super().__init__(names, exemplars, training=training, **options)

    def photo_file(self, name: str) -> Path:
        return self.root / name

    def maps(self, name: str, photo: Image.Image) -> NDArray[np.uint8]:
        stem = pose_stem(self.root, name)
        pose = poses.main_person(poses.read_poses(stem, photo.size), poses.text_files(stem)[1])
        return pose_condition(pose[:, :2], photo.height, photo.width, size=self.load_size)

    def choose(self, index: int, kind: str, rng: np.random.Generator) -> str:
        if kind == "hard":
            fixed = np.random.default_rng([self.seed, index]) if self.released else rng
            return self.names[int(fixed.integers(len(self.names)))]
        return self.names[index] if kind == "self" else self.pairs[self.names[index]][-1]
