"""The rule for sizes that a network does not take: repeat the right and bottom border, crop afterwards."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last column and row until height and width are multiples of `multiple`.

    Args:
        x: (B, C, H, W)

    Returns:
        (B, C, H', W') with H' the smallest multiple >= H; `x` itself where nothing is missing. Undo by `[..., :H, :W]`.
    """
    right, bottom = -x.shape[-1] % multiple, -x.shape[-2] % multiple
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if right or bottom else x
