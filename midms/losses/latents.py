"""Losses that keep means of a first stage's latents meaningful: decorrelated channels and a local anchor.

The matching averages latents (the soft warp of Eq. 6), and the loop mixes and interpolates them. An autoencoder trained
for reconstruction alone may learn channels that are copies of one another ("rank collapse"). A latent is then a
position along a curve, and the mean of two positions decodes to another colour. docs/training.md describes how to
detect a collapse.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def channel_correlation(latents: Tensor, eps: float = 1e-6) -> Tensor:
    """Correlation of the channels over all positions of a batch.

    Args:
        latents: (B, C, h, w)
        eps: added to each deviation, so that a constant channel has correlation 0 instead of NaN.
    Returns:
        (C, C), ones on the diagonal (except for the effect of `eps`).
    """
    vectors = latents.movedim(1, -1).flatten(0, 2)  # (B·h·w, C)
    centred = vectors - vectors.mean(dim=0)
    unit = centred / (centred.square().mean(dim=0).sqrt() + eps)
    return unit.mT @ unit / len(unit)  # (C, C)


def decorrelation_loss(latents: Tensor) -> Tensor:
    """Sum of the squared correlations between different channels, divided by the number of channels.

    0 for uncorrelated channels, C - 1 for copies of one channel. (B, C, h, w) to a scalar.
    """
    correlation = channel_correlation(latents)
    others = correlation - torch.diag(torch.diag(correlation))
    return others.square().sum() / len(correlation)


@torch.no_grad()
def effective_rank(latents: Tensor) -> Tensor:
    """Number of independent channels: (sum e)² / sum e² over the eigenvalues e of their correlation.

    This participation ratio is C if no two channels are correlated, and 1 if all are copies of one.
    (B, C, h, w) to a scalar.
    """
    correlation = channel_correlation(latents.double())
    return (torch.diag(correlation).sum().square() / correlation.square().sum()).to(latents.dtype)


class PatchComponents(NamedTuple):
    """The leading principal components of image patches, see `patch_components`."""

    mean: Tensor  # (3·factor²,)
    projection: Tensor  # (3·factor², C): patch - mean times this has C channels of variance 1

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to the coefficients of their patches, (B, C, H / factor, W / factor)."""
        factor = round((len(self.mean) / images.shape[1]) ** 0.5)
        patches = F.pixel_unshuffle(images, factor).movedim(1, -1)  # (B, h, w, 3·factor²)
        return ((patches - self.mean) @ self.projection).movedim(-1, 1)


@torch.no_grad()
def patch_components(images: Tensor, factor: int, channels: int) -> PatchComponents:
    """Principal component analysis of the factor x factor patches of images: the best linear encoder.

    The first components of photos are brightness, colour and the strongest edges. If latents are near these
    coefficients, the mean of latents represents the mean of colour and structure.

    Args:
        images: (B, 3, H, W) in [-1, 1], sides divisible by `factor`.
        factor: side of a patch, the first stage's `factor`.
        channels: components to keep, at most 3·factor².
    """
    patches = F.pixel_unshuffle(images.double(), factor).movedim(1, -1).flatten(0, 2)  # (N, 3·factor²)
    variances, directions = torch.linalg.eigh(torch.cov(patches.mT))  # ascending
    leading = directions.flip(1)[:, :channels] / variances.flip(0)[:channels].clamp_min(1e-12).sqrt()
    return PatchComponents(patches.mean(dim=0).to(images.dtype), leading.to(images.dtype))
