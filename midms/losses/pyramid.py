"""A reconstruction loss that weights fine detail as much as large areas: L1 between Laplacian pyramids."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def laplacian_bands(images: Tensor, levels: int = 3) -> list[Tensor]:
    """Band-pass images of a Laplacian pyramid (Burt and Adelson 1983), the finest first.

    Each band is the image minus its blur by the 5 x 5 binomial kernel; the blur, halved in size, is the next image.

    Args:
        images: (B, C, H, W), sides at least 3·2^(levels - 1).
        levels: number of bands.
    Returns:
        `levels` tensors, (B, C, ceil(H / 2^k), ceil(W / 2^k)) for k = 0, 1, ...
    """
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=images.dtype, device=images.device) / 16
    channels, bands = images.shape[1], []
    kernel = (row[:, None] * row).expand(channels, 1, 5, 5)
    for _ in range(levels):
        blurred = F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=channels)
        bands.append(images - blurred)
        images = F.avg_pool2d(blurred, 2, ceil_mode=True)
    return bands


def laplacian_loss(images: Tensor, targets: Tensor, levels: int = 3) -> Tensor:
    """Mean absolute difference of the bands of two batches of images (B, C, H, W), summed over the bands."""
    pairs = zip(laplacian_bands(images, levels), laplacian_bands(targets, levels), strict=True)
    return torch.stack([F.l1_loss(one, other) for one, other in pairs]).sum()
