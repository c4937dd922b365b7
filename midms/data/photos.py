"""Photos without conditions, for the first two training stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from midms.data import cache
from midms.data.folder import list_photos
from midms.data.items import item_index
from midms.data.pairs import LOAD_RATIO
from midms.data.transforms import apply_view, centre_view, draw_view, image_tensor, photo_pixels
from midms.io.images import read_rgb
from midms.schema import Count, Natural, Pixels, Seed, Text


class Photos(Dataset[dict[str, Tensor]]):
    """Every photo below a folder: {"image": (3, size, size) in [-1, 1]}.

    Args:
        root: folder of photos, searched recursively.
        size: pixels per side.
        training: a random crop from 286 / 256 of `size` and a random flip; otherwise the whole photo.
            ``photos[index, draw]`` is always the same view; ``photos[index]`` is the view of draw 0.
        every, first: take each `every`-th photo, starting at `first`; this splits a folder without lists.
        names: list of the photos to take, one a line. None: all.
        cache_folder: folder of the photos at the size before the crop, so that large files are decoded once. Later
            changes of a photo are not detected: delete the folder then.
        seed: seed of crops and flips.
    Raises:
        ValueError: the folder is missing or has no photo, or the list does not fit the folder.
    """

    def __init__(
        self,
        root: Text | Path,
        size: Pixels = 256,
        training: bool = True,
        first: Natural = 0,
        every: Count = 1,
        names: Text | Path | None = None,
        cache_folder: Text | Path | None = None,
        seed: Seed = 0,
    ) -> None:
        self.root, self.size, self.training, self.seed = Path(root), size, training, seed
        self.names = list_photos(self.root, None if names is None else Path(names))[first::every]
        self.cache_folder = None if cache_folder is None else Path(cache_folder)
        if not self.names:
            raise ValueError(f"{root}: it has no photo number {first}, the first one asked for")

    @property
    def draws_views(self) -> bool:
        """Whether an item differs from draw to draw, so that a loader should pass the draw number with the index."""
        return self.training

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        index, draw = key if isinstance(key, tuple) else (item_index(key, len(self)), 0)
        load_size = round(self.size * LOAD_RATIO) if self.training else self.size
        pixels = self._pixels(self.names[index], load_size)
        rng = np.random.default_rng([self.seed, index, draw])
        view = draw_view(rng, load_size, self.size) if self.training else centre_view(load_size, self.size)
        return {"image": image_tensor(apply_view(pixels, view))}

    def _pixels(self, name: str, load_size: int) -> NDArray[np.uint8]:
        """A photo at the load size, (3, n, n), from the cache or made now."""

        def make() -> NDArray[np.uint8]:
            return photo_pixels(read_rgb(self.root / name), load_size)

        return cache.read_or_make(self.cache_folder, "photos", load_size, name, 3, make)
