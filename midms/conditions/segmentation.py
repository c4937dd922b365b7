"""Segmentation conditions: ADE20K class maps as 151 channels (CoCosNet's form, which MIDMs uses for churches)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: 0 is "unlabelled", 1 ... 150 are the classes of ADE20K. Labels are not shifted.
SEGMENTATION_CHANNELS = 151
#: "Don't care" in files of class ids.
IGNORED = 255


def class_map(labels: NDArray[np.uint8], classes: int = SEGMENTATION_CHANNELS) -> NDArray[np.uint8]:
    """Class ids, (H, W) uint8 in 0 ... classes - 1; the "don't care" value 255 becomes the last class.

    Raises:
        ValueError: a value other than 255 that is at least `classes`.
    """
    ids = np.where(labels == IGNORED, classes - 1, labels).astype(np.uint8)
    if ids.max(initial=0) >= classes:
        raise ValueError(f"label {ids.max()} found; expected 0 ... {classes - 1}, or 255 for don't care")
    return ids


def one_hot(ids: Tensor, classes: int = SEGMENTATION_CHANNELS) -> Tensor:
    """Channel c is 1 where the label is c: (..., H, W) ids of any dtype to (..., classes, H, W) float32.

    Works on batches and on any device: a loader may yield ids, which the training step expands on the device.
    """
    index = ids.long().unsqueeze(-3)  # (..., 1, H, W)
    shape = (*index.shape[:-3], classes, *index.shape[-2:])
    return torch.zeros(shape, device=ids.device).scatter_(-3, index, 1.0)
