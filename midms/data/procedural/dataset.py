"""Drawn scenes as datasets: images for the first two stages, pairs with known truth for MIDMs.

An item depends only on (seed, split, index). Splits share no random numbers, and nothing is stored on disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Interval
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from midms.data.exemplars import check_shares
from midms.data.items import item_index
from midms.data.procedural import churches, faces, figures
from midms.data.procedural.scene import Scene, correspondence
from midms.schema import Count, Seed, Share

Task = Literal["faces", "figures", "churches"]
Split = Literal["train", "val", "test"]
DrawnSize = Annotated[int, Interval(ge=8, le=4096)]
TASKS: dict[str, ModuleType] = {"faces": faces, "figures": figures, "churches": churches}
SPLITS = {"train": 0, "val": 1, "test": 2}
#: How often an exemplar is the photo itself (cropped and flipped), the same style in another layout, another style:
#: the shares of self, easy and hard references in the released data code.
EXEMPLARS = {"self": 0.3, "easy": 0.5, "hard": 0.2}


def task_module(task: str) -> ModuleType:
    """The drawing module of a task.

    Raises:
        ValueError: no such task.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r}: expected one of {', '.join(TASKS)}")
    return TASKS[task]


def generator(split: str, index: int, role: int, seed: int = 0) -> np.random.Generator:
    """Random numbers of one role (0 layout, 1 style, ...) of one item.

    Raises:
        ValueError: no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    return np.random.default_rng([20230207, seed, SPLITS[split], index, role])


def to_image(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (H, W, 3) to float (3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 127.5 - 1


def to_condition(maps: NDArray[np.uint8]) -> Tensor:
    """uint8 (L, H, W) to float in [0, 1]."""
    return torch.from_numpy(maps).float() / 255


class ProceduralImages(Dataset[dict[str, Tensor]]):
    """Photos alone: {"image": (3, size, size) in [-1, 1]}.

    Args:
        task: "faces", "figures" or "churches".
        size: pixels per side.
        split: "train", "val" or "test".
        length: number of items; item `i` is the same for every length.
        seed: of all random numbers.
    """

    def __init__(
        self, task: Task = "faces", size: DrawnSize = 64, split: Split = "train", length: Count = 4096, seed: Seed = 0
    ) -> None:
        self.task, self.module = task, task_module(task)
        self.size, self.split, self.length, self.seed = size, split, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        index = item_index(index, self.length)
        layout = self.module.sample_layout(generator(self.split, index, 0, self.seed))
        style = self.module.sample_style(generator(self.split, index, 1, self.seed))
        return {"image": to_image(self.module.render(layout, style, self.size).image)}


class ProceduralPairs(Dataset[dict[str, Any]]):
    """Condition and exemplar, with the photo of the condition and, for tests, the true translation.

    Keys of an item (H = W = size; L condition channels in [0, 1]; images in [-1, 1]):
        condition (L, H, W), source (3, H, W): maps and photo of layout a in style s'.
        exemplar (3, H, W), exemplar_condition (L, H, W): layout b in style s.
        with `truth`: truth (3, H, W), layout a in style s; coordinates (2, H, W), the place in the exemplar of each
        pixel's surface point as (x, y) in [-1, 1] (align-corners); visible (H, W) bool, whether it can be seen there;
        labels and exemplar_labels (H, W), the parts; subject (H, W) bool, false on wall, floor, sky and ground.
        name: "faces/test/00012".

    Args:
        exemplars: share of each kind of exemplar (`EXEMPLARS`); tests use only hard ones.
        truth: whether to add the true translation and correspondence.
    """

    def __init__(
        self,
        task: Task = "faces",
        size: DrawnSize = 64,
        split: Split = "train",
        length: Count = 4096,
        seed: Seed = 0,
        exemplars: Mapping[str, Share] | None = None,
        truth: bool = False,
    ) -> None:
        shares = check_shares(EXEMPLARS if exemplars is None else exemplars)
        self.task, self.module = task, task_module(task)
        self.size, self.split, self.length, self.seed = size, split, length, seed
        self.shares, self.truth = shares, truth

    def __len__(self) -> int:
        return self.length

    def item_name(self, index: int) -> str:
        """Name of an item, "faces/test/00012"."""
        return f"{self.task}/{self.split}/{index:05d}"

    def scenes(self, index: int) -> tuple[Scene, Scene, Any, Any]:
        """Source scene, exemplar scene, layout a and style s of one item."""

        def rng(role: int) -> np.random.Generator:
            return generator(self.split, index, role, self.seed)

        layout, style = self.module.sample_layout(rng(0)), self.module.sample_style(rng(1))
        source = self.module.render(layout, style, self.size)
        kind = rng(2).choice(list(self.shares), p=list(self.shares.values()))
        if kind == "self":
            return source, crop_and_flip(source, rng(3)), layout, style
        if kind == "hard":
            style = self.module.sample_style(rng(4))
        return source, self.module.render(self.module.sample_layout(rng(5)), style, self.size), layout, style

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = item_index(index, self.length)
        source, exemplar, layout, style = self.scenes(index)
        item = {
            "condition": to_condition(self.module.condition(source)),
            "source": to_image(source.image),
            "exemplar": to_image(exemplar.image),
            "exemplar_condition": to_condition(self.module.condition(exemplar)),
            "name": self.item_name(index),
        }
        if self.truth:
            truth = self.module.render(layout, style, self.size)
            match = correspondence(truth, exemplar)
            item |= {
                "truth": to_image(truth.image),
                "coordinates": torch.from_numpy(match.coordinates),
                "visible": torch.from_numpy(match.visible),
                "labels": torch.from_numpy(truth.labels),
                "subject": torch.from_numpy(~np.isin(truth.labels, list(self.module.SURROUNDINGS))),
                "exemplar_labels": torch.from_numpy(exemplar.labels),
            }
        return item


def test_pairs(task: Task = "faces", size: int = 64, length: int = 256) -> ProceduralPairs:
    """The fixed list of unseen pairs on which every published number of this project is measured."""
    return ProceduralPairs(task, size, "test", length, exemplars={"hard": 1.0}, truth=True)


def crop_and_flip(scene: Scene, rng: np.random.Generator) -> Scene:
    """A scene seen through a window of 0.9 of its side (load 286, crop 256), mirrored half the time.

    Photo, labels and masks are transformed together, but independently of the condition, so that matching by position
    does not work. The frames of the result are those of the window; mirrored sides keep their names.
    """
    size = len(scene.labels)
    crop = round(size * 256 / 286)
    top, left = rng.integers(0, size - crop + 1, 2)
    index = np.clip(((np.arange(size) + 0.5) * crop / size).astype(int), 0, crop - 1)
    rows, columns = top + index, left + index
    if rng.random() < 0.5:
        columns = columns[::-1]
    picked = np.ix_(rows, columns)
    zoom, shift = size / crop, 1 - (2 * np.array([left, top]) + crop) / size
    window = np.array([[zoom, 0, zoom * shift[0]], [0, zoom, zoom * shift[1]]], np.float32)
    if columns[0] > columns[-1]:
        window[0] *= -1
    frames = np.concatenate(
        [window[:, :2] @ scene.frames[..., :2], window[:, :2] @ scene.frames[..., 2:] + window[:, 2:]], -1
    )
    masks = {name: mask[picked] for name, mask in scene.masks.items()}
    return Scene(scene.image[picked], scene.labels[picked], frames, masks)
