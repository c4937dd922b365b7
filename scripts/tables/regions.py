"""Accuracy by what the exemplar shows of each point: the surface itself, only its part, or not even that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from midms.evaluation.tables import Column

#: Region -> heading of its column.
REGIONS = {
    "psnr_visible": "PSNR dB, shown",
    "psnr_hidden": "PSNR dB, hidden",
    "psnr_absent": "PSNR dB, absent part",
}
COLUMNS = [Column(key, title, "higher") for key, title in REGIONS.items()]
NOTE = (
    "shown: the exemplar shows the same point of the surface; hidden: it shows the part, but not this point; "
    "absent part: it lacks the whole part. Mean over the pairs that have such points"
)


def regions(item: Mapping[str, Any]) -> dict[str, Tensor]:
    """The pixels (H, W) bool of each region of a pair with truth (see `midms.data.procedural.dataset`)."""
    visible = item["visible"]
    present = torch.isin(item["labels"], item["exemplar_labels"].unique())
    return {"psnr_visible": visible, "psnr_hidden": ~visible & present, "psnr_absent": ~visible & ~present}


def region_psnr(images: Tensor, pairs: Dataset[Any]) -> dict[str, np.ndarray]:
    """PSNR in dB to the truth by region, one per pair; NaN if a pair has no such pixel.

    Args:
        images: the results of the first N pairs, (N, 3, H, W) in [-1, 1].
        pairs: the pairs, with truth.
    Returns:
        {key of `REGIONS`: (N,)}.
    """
    rows: dict[str, list[float]] = {key: [] for key in REGIONS}
    for index, image in enumerate(images.double()):
        item = pairs[index]
        error = (image - item["truth"]).square().mean(dim=0)  # (H, W)
        for key, inside in regions(item).items():
            # [-1, 1] has a range of 2; a mean of nothing is NaN
            rows[key].append(float(10 * torch.log10(4 / error[inside].mean())))
    return {key: np.array(values) for key, values in rows.items()}
