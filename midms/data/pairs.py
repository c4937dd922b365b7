"""Conditions and exemplars from photos on disk: the common base of the data sets.

A data set defines the path of a photo and how its condition maps are made. This module reads through the cache, draws
the training views, chooses the exemplar, and handles broken files.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from midms.data import cache, transforms
from midms.data.exemplars import check_shares, draw_kind, read_names, read_pairs
from midms.data.items import item_index
from midms.io.files import BrokenFileError
from midms.io.images import read_rgb
from midms.schema import Pixels, Seed, Share, Text

Split = Literal["train", "val"]
#: In training, photos are loaded at 286 and cropped to 256. Other sizes keep this ratio.
LOAD_RATIO = 286 / 256


def is_training(split: str) -> bool:
    """Whether a split is for training.

    Raises:
        ValueError: the split is neither "train" nor "val".
    """
    if split not in ("train", "val"):
        raise ValueError(f"split {split!r}: expected 'train' or 'val' (which holds the published test images)")
    return split == "train"


def find_names(file: Path, name_of: Callable[[str], str], options: Mapping[str, Any]) -> list[str]:
    """The images in a list. With ``skip_broken`` in `options`, entries that cannot be parsed are skipped.

    Raises:
        ValueError: the list is missing, or `name_of` refuses an entry.
    """
    names = []
    for entry in read_names(file):
        try:
            names.append(name_of(entry))
        except ValueError as error:
            if not options.get("skip_broken"):
                raise ValueError(f"{file}: {error}") from None
    return names


def find_pairs(
    file: str | Path, name_of: Callable[[str], str], training: bool, options: Mapping[str, Any]
) -> dict[str, list[str]]:
    """The pair list of a data set with these `options`; empty if every exemplar is the photo itself.

    Raises:
        ValueError: the list is missing or malformed. The message explains how to make a list.
    """
    if training and (options.get("exemplars") or {}).get("self", 0.0) == 1:
        return {}
    if not Path(file).is_file():
        raise ValueError(
            f"{file}: no such pair list; make one with `scripts/prepare_data.py pairs`, or train on the photos "
            "themselves with exemplars: {self: 1.0}"
        )
    return read_pairs(Path(file), name_of, skip_malformed=bool(options.get("skip_broken")))


class PairDataset(Dataset[dict[str, Any]]):
    """Condition and exemplar of each image.

    Keys of an item (H = W = size; L condition channels):
        condition (L, H, W) float32 in [0, 1] and source (3, H, W) float32 in [-1, 1]: maps and photo of the image,
        in the same view. exemplar (3, H, W) in [-1, 1] and exemplar_condition (L, H, W): another photo and its maps, in
        their own view. name and exemplar_name: the images, without extension.

    In training a view is a random crop and flip, and the exemplar is hard, easy or the photo itself. The draws for
    an image depend on `seed`, its index and a draw number alone: ``dataset[index, draw]`` is always the same item,
    and ``dataset[index]`` takes the draw number from torch's generator. Evaluation is deterministic.

    Args:
        names: images, one item each.
        pairs: image -> its exemplars.
        training: whether views and exemplars are random; if not, the first exemplar of the list is taken.
        size: pixels per side of an item.
        load_size: pixels per side before the crop; 286 / 256 of `size` in training.
        exemplars: share of each kind in training, {"hard": 0.2, "easy": 0.5, "self": 0.3}.
        released: reproduce the faults of the released loader (see the data set's docstring and `_item`).
        cache_folder: folder of prepared items, one per root. Later changes of a raw file are not detected: delete the
            folder then.
        skip_broken: take the next image instead of one that cannot be read; `broken` lists the unreadable ones so far.
        seed: seed of all draws.
    Raises:
        ValueError: no images, or an image has no exemplar (with `skip_broken` it is skipped and counted).
    """

    kind: str  #: name of the folder of prepared items
    channels: int  #: number of maps in a prepared item

    @property
    def draws_views(self) -> bool:
        """Whether an item differs from draw to draw, so that a loader should pass the draw number with the index."""
        return self.training

    def __init__(
        self,
        names: Sequence[str],
        pairs: Mapping[str, Sequence[str]],
        *,
        training: bool = False,
        size: Pixels = 256,
        load_size: Pixels | None = None,
        exemplars: Mapping[str, Share] | None = None,
        released: bool = False,
        cache_folder: Text | Path | None = None,
        skip_broken: bool = False,
        seed: Seed = 0,
    ) -> None:
        self.training, self.size, self.released, self.seed = training, size, released, seed
        self.load_size = load_size or (round(size * LOAD_RATIO) if training else size)
        if not 0 < size <= self.load_size:
            raise ValueError(f"size {size} and load_size {self.load_size}: expected 1 <= size <= load_size")
        self.shares, self.skip_broken = check_shares(exemplars), skip_broken
        self.cache_folder = None if cache_folder is None else Path(cache_folder)
        self.names, self.pairs = list(names), pairs
        everyone = dict.fromkeys(self.names) | dict.fromkeys(name for row in pairs.values() for name in row)
        self._slots = {name: slot for slot, name in enumerate(everyone)}
        self._broken = torch.zeros(len(everyone), dtype=torch.bool).share_memory_()  # loader processes write here
        self._require_exemplars()

    def __init_subclass__(cls) -> None:
        """Add the options to the signature, so that the error for a misspelt config key suggests the right one."""
        own = list(inspect.signature(cls.__init__).parameters.values())[1:]
        named = [parameter for parameter in own if parameter.kind is not parameter.VAR_KEYWORD]
        if len(named) < len(own):
            already_named = {parameter.name for parameter in named} | {"training"}
            options = inspect.signature(PairDataset.__init__).parameters.values()
            named += [p for p in options if p.kind is p.KEYWORD_ONLY and p.name not in already_named]
        cls.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]  # read by inspect

    def photo_file(self, name: str) -> Path:
        """Path of the photo of an image."""
        raise NotImplementedError

    def maps(self, name: str, photo: Image.Image) -> NDArray[np.uint8]:
        """Condition maps of an image at the load size, (channels, load_size, load_size)."""
        raise NotImplementedError

    def read_photo(self, name: str) -> Image.Image:
        """The photo of an image, upright and RGB."""
        return read_rgb(self.photo_file(name))

    def to_condition(self, maps: NDArray[np.uint8]) -> Tensor:
        """Stored maps, (channels, H, W), to the condition that a network reads, (L, H, W) in [0, 1]."""
        return transforms.unit_tensor(maps)

    def choose(self, index: int, kind: str, rng: np.random.Generator) -> str:
        """The exemplar of a kind for an item: "easy" is the first of its line, "hard" the last."""
        name = self.names[index]
        return name if kind == "self" else self.pairs[name][0 if kind == "easy" else -1]

    @property
    def images(self) -> list[str]:
        """All images (conditions and exemplars), each once."""
        return list(self._slots)

    @property
    def broken(self) -> list[str]:
        """Images that could not be read so far, in this process or its loader processes."""
        return [name for name, slot in self._slots.items() if self._broken[slot]]

    def read(self, name: str) -> NDArray[np.uint8]:
        """Photo and maps of an image at the load size, (3 + channels, n, n), from the cache or made now.

        Raises:
            BrokenFileError: a file of the image is missing or cannot be used.
        """
        if self.skip_broken and self._broken[self._slots[name]]:
            raise BrokenFileError(self.photo_file(name), "was broken when it was read before")
        try:
            return self._read(name)
        except BrokenFileError as error:
            if self.skip_broken:
                self._broken[self._slots[name]] = True
                warnings.warn(f"skipped {error}", stacklevel=2)
            raise

    def item(self, index: int, draw: int = 0) -> dict[str, Any]:
        """The item of an index and a draw number."""
        for step in range(len(self)):
            try:
                return self._item((index + step) % len(self), draw)
            except BrokenFileError:
                if not self.skip_broken:
                    raise
        raise ValueError(f"every image of {self.photo_file(self.names[0]).parent} is broken")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        if isinstance(key, tuple):
            return self.item(*key)
        return self.item(item_index(key, len(self)), int(torch.randint(2**62, ())) if self.training else 0)

    def _item(self, index: int, draw: int) -> dict[str, Any]:
        """One item. In the released loader the photo of a self-exemplar, not its maps, has the condition's view."""
        rng = np.random.default_rng([self.seed, index, draw])
        view = exemplar_view = transforms.centre_view(self.load_size, self.size)
        kind, name = "first", self.names[index]
        if self.training:
            view, exemplar_view = (transforms.draw_view(rng, self.load_size, self.size) for _ in range(2))
            kind = draw_kind(rng, self.shares)
        exemplar_name = self.choose(index, kind, rng) if self.training else self.pairs[name][0]
        source = self.read(name)
        exemplar = source if exemplar_name == name else self.read(exemplar_name)
        photo_view = view if self.released and kind == "self" else exemplar_view
        return {
            "condition": self.to_condition(transforms.apply_view(source[3:], view)),
            "source": transforms.image_tensor(transforms.apply_view(source[:3], view)),
            "exemplar": transforms.image_tensor(transforms.apply_view(exemplar[:3], photo_view)),
            "exemplar_condition": self.to_condition(transforms.apply_view(exemplar[3:], exemplar_view)),
            "name": name.rpartition(".")[0] or name,
            "exemplar_name": exemplar_name.rpartition(".")[0] or exemplar_name,
        }

    def _read(self, name: str) -> NDArray[np.uint8]:
        return cache.read_or_make(
            self.cache_folder, self.kind, self.load_size, name, 3 + self.channels, partial(self._make, name)
        )

    def _make(self, name: str) -> NDArray[np.uint8]:
        photo = self.read_photo(name)
        maps = self.maps(name, photo)
        return np.concatenate([transforms.photo_pixels(photo, self.load_size), maps])

    def _require_exemplars(self) -> None:
        """Skip or refuse images without a line in the list, unless every exemplar is the photo itself."""
        if not self.training or self.shares.get("self", 0.0) < 1:
            without = [name for name in self.names if not self.pairs.get(name)]
            if without and not self.skip_broken:
                raise ValueError(f"{len(without)} of {len(self.names)} images have no exemplar, first {without[0]!r}")
            for name in without:
                self._broken[self._slots[name]] = True
            self.names = [name for name in self.names if self.pairs.get(name)]
        if not self.names:
            raise ValueError("no images")
