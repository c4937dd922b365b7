"""Accuracy by what the exemplar shows of each point, and on the subject and its surroundings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from midms.evaluation.tables import Column

#: Regions by what the exemplar shows -> headings of their columns. Every pixel is in one of them.
BY_EXEMPLAR = {
    "psnr_visible": "PSNR dB, shown",
    "psnr_hidden": "PSNR dB, hidden",
    "psnr_absent": "PSNR dB, absent part",
}
#: Regions by what the condition describes -> headings. Every pixel is in one of these, too.
BY_SUBJECT = {
    "psnr_subject": "PSNR dB, subject",
    "psnr_surroundings": "PSNR dB, surroundings",
}
#: Key of the subject's share of a picture's squared error.
SHARE = "error_share_subject"
COLUMNS = [Column(key, title, "higher") for key, title in (BY_EXEMPLAR | BY_SUBJECT).items()]
COLUMNS.append(Column(SHARE, "subject's share of the error, %", digits=1))
NOTE = (
    "shown: the exemplar shows the same point of the surface; hidden: it shows the part, but not this point; "
    "absent part: it lacks the whole part. Surroundings: everything but the head, person or building. Mean over the "
    "pairs that have such points"
)


def regions(item: Mapping[str, Any]) -> dict[str, Tensor]:
    """The pixels (H, W) bool of each region of a pair with truth (see `midms.data.procedural.dataset`)."""
    visible, subject = item["visible"], item["subject"]
    present = torch.isin(item["labels"], item["exemplar_labels"].unique())
    by_exemplar = {"psnr_visible": visible, "psnr_hidden": ~visible & present, "psnr_absent": ~visible & ~present}
    return by_exemplar | {"psnr_subject": subject, "psnr_surroundings": ~subject}


def region_scores(images: Tensor, pairs: Dataset[Any]) -> dict[str, np.ndarray]:
    """PSNR in dB to the truth by region, and the subject's share of the error in percent, one per pair.

    A PSNR is NaN if a pair has no such pixel. A share is NaN if a picture has no error.

    Args:
        images: the results of the first N pairs, (N, 3, H, W) in [-1, 1].
        pairs: the pairs, with truth.
    Returns:
        {key of `BY_EXEMPLAR` or `BY_SUBJECT`, or `SHARE`: (N,)}.
    """
    rows: dict[str, list[float]] = {key: [] for key in (*BY_EXEMPLAR, *BY_SUBJECT, SHARE)}
    for index, image in enumerate(images.double()):
        item = pairs[index]
        error = (image - item["truth"]).square().mean(dim=0)  # (H, W)
        for key, inside in regions(item).items():
            # [-1, 1] has a range of 2; a mean of nothing is NaN
            rows[key].append(float(10 * torch.log10(4 / error[inside].mean())))
        rows[SHARE].append(float(100 * error[item["subject"]].sum() / error.sum()))
    return {key: np.array(values) for key, values in rows.items()}
