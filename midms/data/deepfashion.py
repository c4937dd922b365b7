"""DeepFashion (In-shop) with keypoint conditions, from photos and OpenPose files.

root/img/WOMEN/Dresses/id_00000203/03_1_front.jpg                  photo
root/pose/WOMEN/Dresses/id_00000203/03_1_front_candidate.txt       detected joints (`poses`)
root/pose/WOMEN/Dresses/id_00000203/03_1_front_subset.txt          joints of each person
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
    """Turn a list entry, with or without the folder ``img``, into ``img/WOMEN/.../03_1_front.jpg``."""
    return entry if entry.startswith("img/") else f"img/{entry}"


def pose_stem(root: Path, name: str) -> Path:
    """Turn ``img/A/B.jpg`` into ``root/pose/A/B``, the common stem of the pose files."""
    return root / "pose" / Path(*Path(name).parts[1:]).with_suffix("")


class DeepFashionKeypoints(PairDataset):
    """Fashion photos with 20 pose channels (`conditions.keypoints`); the items are those of `PairDataset`.

    As in the released loader, the easy exemplar is the last of its line and the hard exemplar any training photo. The
    hard exemplar is drawn anew each time, whereas the released loader draws it once per line (``released=True``). The
    released loader also trains without crop jitter (``load_size=256``). Of several people in a pose file the one with
    the highest score is drawn. A candidate file may have a single line. A photo without any person is an error.

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
