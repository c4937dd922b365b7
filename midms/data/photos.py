"""Photos without conditions, for the first two training stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from midms.data.folder import list_photos
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
        seed: seed of crops and flips.
    Raises:
        ValueError: the folder is missing or has no photo.
    """

    def __init__(
        self,
        root: Text | Path,
        size: Pixels = 256,
        training: bool = True,
        first: Natural = 0,
        every: Count = 1,
        seed: Seed = 0,
    ) -> None:
        self.root, self.size, self.training, self.seed = Path(root), size, training, seed
        self.names = list_photos(self.root)[first::every]
        if not self.names:
            raise ValueError(f"{root}: it has no photo number {first}, the first one asked for")

    @property
    def draws_views(self) -> bool:
        """Whether an item differs from draw to draw, so that a loader should pass the draw number with the index."""
        return self.training

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        index, draw = key if isinstance(key, tuple) else (key, 0)
        load_size = round(self.size * 286 / 256) if self.training else self.size
        pixels = photo_pixels(read_rgb(self.root / self.names[index]), load_size)
        rng = np.random.default_rng([self.seed, index, draw])
        view = draw_view(rng, load_size, self.size) if self.training else centre_view(load_size, self.size)
        return {"image": image_tensor(apply_view(pixels, view))}
