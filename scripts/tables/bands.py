"""Where in the pyramid a method wins or loses: SWD to the truth level by level, and how much fine detail it keeps."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from midms.evaluation.tables import Cell, Column
from midms.metrics.swd import SWDDifference, laplacian_pyramid

#: What the columns of `band_detail` say.
DETAIL = "detail: median absolute coefficient of the Laplacian band of that height, in grey levels of 255"


def band_detail(images: Tensor) -> dict[int, np.ndarray]:
    """How strong the weak texture of an image is: the median absolute coefficient of each Laplacian band.

    The median leaves out edges, which fill less than half of a picture; a smoothed wall or head of hair lowers it.

    Args:
        images: (N, C, H, W), sides as for SWD; the result is in the images' own units.
    Returns:
        {height of the band: (N,)}, without the plain low-pass at the end of the pyramid.
    """
    bands = laplacian_pyramid(images.float())[:-1]
    return {band.shape[2]: band.abs().flatten(1).median(dim=1).values.double().cpu().numpy() for band in bands}


def band_columns(keys: set[str]) -> list[Column]:
    """Columns of the keys that this module gives, finest level first."""
    levels = sorted({int(key.rpartition("_")[2]) for key in keys if key.startswith("swd_level_")}, reverse=True)
    columns = [Column(f"swd_level_{level}", f"SWD {level}", "lower") for level in levels]
    return columns + [Column(f"detail_{level}", f"detail {level}") for level in levels[:-1]]


def level_cells(gap: SWDDifference) -> tuple[dict[str, Cell], dict[str, Cell]]:
    """SWD of method b, and the paired difference a - b with its standard error, of every level."""
    values = {f"swd_level_{level}": Cell(value) for level, value in gap.swd_b.levels.items()}
    return values, {f"swd_level_{level}": Cell(*pair) for level, pair in gap.levels.items()}
