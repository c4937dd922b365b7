"""Segmentation conditions: ADE20K class maps as 151 channels (CoCosNet's form, which MIDMs uses for churches)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: 0 is "unlabelled", 1 ... 150 are the classes of ADE20K: labels are not shifted.
SEGMENTATION_CHANNELS = 151
#: Colours of classes 1 ... 150 as the field draws them (RGB, from the ADE20K toolkit; 7 and 49 share one), in order.
_ADE20K = """
    787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33
    ff0652 8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff
    08ffd6 07ffe0 ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff
    eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff
    0bc8c8 ff5200 00fff5 003dff 00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad
    0a00ff adff00 00ff99 ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2
    00ff52 000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa
    8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3
    ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff
    00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff
"""
#: RGB of every class, uint8 (151, 3); black for 0, "unlabelled".
ADE20K_COLOURS: NDArray[np.uint8] = np.frombuffer(bytes.fromhex("000000" + _ADE20K), np.uint8).reshape(-1, 3)


def class_map(labels: NDArray[np.uint8], classes: int = SEGMENTATION_CHANNELS) -> NDArray[np.uint8]:
    """Class ids, (H, W) uint8 in 0 ... classes - 1; the "don't care" value 255 becomes the last class.

    Raises:
        ValueError: another value of `classes` or above.
    """
    ids = np.where(labels == 255, classes - 1, labels).astype(np.uint8)
    if ids.max(initial=0) >= classes:
        raise ValueError(f"label {ids.max()} found; expected 0 ... {classes - 1}, or 255 for don't care")
    return ids


def one_hot(ids: Tensor, classes: int = SEGMENTATION_CHANNELS) -> Tensor:
    """Channel c is 1 where the label is c: (..., H, W) ids of any dtype to (..., classes, H, W) float32.

    Works on batches and on any device, so a loader may carry ids and the training step expand them.
    """
    index = ids.long().unsqueeze(-3)  # (..., 1, H, W)
    shape = (*index.shape[:-3], classes, *index.shape[-2:])
    return torch.zeros(shape, device=ids.device).scatter_(-3, index, 1.0)
