"""How well the exemplars of the built-in benchmark, pulled along the true correspondence, give the truth."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from midms.data.procedural.dataset import test_pairs as fixed_test_pairs


def errors_of_the_pull(task: str, above: int = -1) -> tuple[float, float]:
    """Mean absolute errors of the pulled exemplar and of the exemplar itself, over 12 pairs.

    Counted are pixels that are visible in the exemplar, two pixels or more inside a part, and of a label > `above`.
    """
    dataset, errors, copies = fixed_test_pairs(task, 128, 12), [], []
    for index in range(12):
        item = dataset[index]
        pulled = F.grid_sample(item["exemplar"][None], item["coordinates"].movedim(0, -1)[None], align_corners=True)[0]
        labels = item["labels"][None].float()
        inner = item["visible"] & (F.max_pool2d(labels, 5, 1, 2)[0] == -F.max_pool2d(-labels, 5, 1, 2)[0])
        inner &= item["labels"] > above
        errors.append((pulled - item["truth"]).abs()[:, inner].mean())
        copies.append((item["exemplar"] - item["truth"]).abs()[:, inner].mean())
    return float(np.nanmean(errors)), float(np.nanmean(copies))
