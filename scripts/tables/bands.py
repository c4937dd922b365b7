"""Comparison of methods by level of the pyramid: SWD to the truth, and the amount of fine detail."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from midms.evaluation.tables import Cell, Column
from midms.metrics.swd import SWDDifference, laplacian_pyramid

#: Note on the columns of `band_detail`.
DETAIL = "detail: median absolute coefficient of the Laplacian band of that height, in grey levels of 255"


def band_detail(images: Tensor) -> dict[int, np.ndarray]:
    """Strength of fine texture: the median absolute coefficient of each Laplacian band.

    The median ignores edges, which fill less than half of a picture. It is lower if walls or hair are smoothed.

    Args:
        images: (N, C, H, W), sides as for SWD; the result is in the images' own units.
    Returns:
        {height of the band: (N,)}, without the plain low-pass at the end of the pyramid.
    """
    bands = laplacian_pyramid(images.float())[:-1]
    return {band.shape[2]: band.abs().flatten(1).median(dim=1).values.double().cpu().numpy() for band in bands}


def band_columns(keys: set[str]) -> list[Column]:
    """Columns for the keys of this module, finest level first."""
    levels = sorted({int(key.rpartition("_")[2]) for key in keys if key.startswith("swd_level_")}, reverse=True)
    columns = [Column(f"swd_level_{level}", f"SWD {level}", "lower") for level in levels]
    return columns + [Column(f"detail_{level}", f"detail {level}") for level in levels[:-1]]


def level_cells(gap: SWDDifference) -> tuple[dict[str, Cell], dict[str, Cell]]:
    """SWD of method b, and the paired difference a - b with its standard error, of every level."""
    values = {f"swd_level_{level}": Cell(value) for level, value in gap.swd_b.levels.items()}
    return values, {f"swd_level_{level}": Cell(*pair) for level, pair in gap.levels.items()}
