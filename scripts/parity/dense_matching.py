"""The matching with the released arithmetic: the whole matrix, and a new softmax for every use.

The golden files have numbers of this arithmetic, and the benchmarks compare its cost with that of `midms.matching`. The
shape letters are those of `midms.matching.correspondence`; query and key grids have one size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from midms.matching.correspondence import coordinate_grid, correlation, normalize_features, soft_warp


class DenseMatching(NamedTuple):
    """One query matched with one exemplar."""

    matrix: Tensor  # (B, H, W, H, W): cosines, negative ones set to 0
    temperature: float

    @classmethod
    def of(cls, query: Tensor, key: Tensor, temperature: float) -> DenseMatching:
        """From raw features (B, C, H, W)."""
        units = normalize_features(query), normalize_features(key)
        return cls(correlation(*units, clamp=True, eps=1e-5), temperature)

    def warp(self, values: Tensor) -> Tensor:
        """Values (B, V, H, W) of the exemplar moved onto the query grid (Eq. 6)."""
        return soft_warp(values, self.matrix, self.temperature)

    def warp_back(self, warped: Tensor) -> Tensor:
        """Values (B, V, H, W) on the query grid moved back onto the exemplar's (Eq. 13)."""
        return soft_warp(warped, self.matrix.permute(0, 3, 4, 1, 2), self.temperature)

    def maps(self) -> tuple[Tensor, Tensor]:
        """Expected key coordinates of the queries and expected query coordinates of the keys, (B, 2, H, W) each."""
        size = self.matrix.shape[1:3]
        grid = coordinate_grid(size[0], size[1], self.matrix.device, self.matrix.dtype).flatten(1).T  # (N, 2)
        logits = self.matrix.flatten(3).flatten(1, 2) / self.temperature  # (B, N, N)
        forward_map = (torch.softmax(logits, dim=2) @ grid).mT.unflatten(2, size)
        backward_map = (torch.softmax(logits, dim=1).mT @ grid).mT.unflatten(2, size)
        return forward_map, backward_map
