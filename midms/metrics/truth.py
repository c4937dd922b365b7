"""Metrics against a known truth: the image, the correspondence, or the confidence mask.

Every metric returns one number per sample, (B,) float64, so that two methods can be compared pair by pair. It is NaN
for a sample in which the metric is not defined (no valid position, nothing predicted); `paired_difference` skips NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

SSIM_WINDOW = 11  # pixels on a side, where scikit-image cuts the Gaussian of sigma 1.5 off


class PrecisionRecall(NamedTuple):
    """Precision (share of the mask that is right) and recall (share of right pixels in the mask); (B,) each."""

    precision: Tensor
    recall: Tensor


class PairedDifference(NamedTuple):
    """Mean of the differences a - b over `pairs` pairs and the standard error of that mean."""

    mean: float
    standard_error: float
    pairs: int


def _check_pair(a: Tensor, b: Tensor, name: str) -> None:
    if a.shape != b.shape:
        raise ValueError(f"{name}: both need one shape, got {tuple(a.shape)} and {tuple(b.shape)}")


def to_unit_range(images: Tensor) -> Tensor:
    """Images in [-1, 1], of any shape, clipped to it, as values in [0, 1]."""
    return (images.clamp(-1, 1) + 1) / 2


def psnr(images: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB per image.

    Args:
        images, truth: (B, C, H, W) in [-1, 1]; values outside are clipped, as saving them would.
    Returns:
        (B,); infinite for equal images.
    """
    _check_pair(images, truth, "psnr")
    difference = to_unit_range(images.double()) - to_unit_range(truth.double())  # (B, C, H, W)
    return -10 * torch.log10(difference.square().flatten(1).mean(dim=1))  # (B,)


def ssim(images: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity per image (Wang et al. 2004: Gaussian window of sigma 1.5, population covariance).

    Args:
        images, truth: (B, C, H, W) in [-1, 1], at least 11 pixels on a side; values outside are clipped.
    Returns:
        (B,), 1 for equal images.
    """
    _check_pair(images, truth, "ssim")
    arrays = [to_unit_range(x.detach().double()).cpu().numpy() for x in (images, truth)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    values = [
        structural_similarity(a, b, data_range=1.0, channel_axis=0, **options) for a, b in zip(*arrays, strict=True)
    ]
    return torch.tensor(np.array(values, dtype=np.float64))


def gradient_energy(images: Tensor) -> Tensor:
    """Sum of squared differences between neighbouring pixels, a measure of contrast and fine detail.

    Args:
        images: (B, C, H, W) in [-1, 1]; values outside are clipped.
    Returns:
        (B,), for pixel values scaled to [0, 1].
    """
    values = to_unit_range(images.double())
    rows, columns = values.diff(dim=-2), values.diff(dim=-1)
    return rows.square().flatten(1).sum(dim=1) + columns.square().flatten(1).sum(dim=1)


def sharpness(images: Tensor, truth: Tensor) -> Tensor:
    """Gradient energy of images over that of the truth: 1 where both are equally sharp, less for blurred images.

    Noise increases this ratio like detail, so sharpness must be read together with PSNR.

    Args:
        images, truth: (B, C, H, W) in [-1, 1].
    Returns:
        (B,); NaN if truth and image are both constant.
    """
    _check_pair(images, truth, "sharpness")
    return gradient_energy(images) / gradient_energy(truth)


def _masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of `values` (B, H, W) over the `valid` (B, H, W) positions of each sample; NaN without such a position."""
    weights = valid.double()
    total = torch.where(valid, values, torch.zeros_like(values)).double().flatten(1).sum(dim=1)
    return total / weights.flatten(1).sum(dim=1)  # 0 / 0 = NaN


def _distance(predicted: Tensor, true: Tensor, size: tuple[int, int] | None) -> tuple[Tensor, tuple[int, int]]:
    """Distances (B, H, W) in pixels of an image of `size` (height, width), the grid's own by default."""
    _check_pair(predicted, true, "coordinates")
    if predicted.dim() != 4 or predicted.shape[1] != 2:
        raise ValueError(f"coordinates: expected (B, 2, H, W) with (x, y) in [-1, 1], got {tuple(predicted.shape)}")
    height, width = size or (predicted.shape[2], predicted.shape[3])
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64, device=predicted.device)
    offset = (predicted - true).double() * half.view(1, 2, 1, 1)  # (B, 2, H, W) pixels
    return offset.norm(dim=1), (height, width)


def _as_mask(mask: Tensor, like: Tensor) -> Tensor:
    """A boolean (B, H, W) from (B, H, W) or (B, 1, H, W) booleans or numbers (true above 0.5)."""
    flat = mask[:, 0] if mask.dim() == 4 else mask
    if flat.shape != like.shape:
        raise ValueError(f"mask: expected {tuple(like.shape)} or with one channel, got {tuple(mask.shape)}")
    return flat if flat.dtype == torch.bool else flat > 0.5


def end_point_error(
    predicted_coords: Tensor, true_coords: Tensor, valid: Tensor, size: tuple[int, int] | None = None
) -> Tensor:
    """Mean distance between predicted and true matches, in pixels.

    Args:
        predicted_coords, true_coords: where each position's match lies, (B, 2, H, W), (x, y) in [-1, 1] with the
            corners on pixel centres (align_corners=True).
        valid: positions that have a true match, (B, H, W) or (B, 1, H, W).
        size: (height, width) of the image whose pixels are the unit; the coordinates' grid by default.
    Returns:
        (B,).
    """
    distance, _ = _distance(predicted_coords, true_coords, size)
    return _masked_mean(distance, _as_mask(valid, distance))


def pck(
    predicted_coords: Tensor,
    true_coords: Tensor,
    valid: Tensor,
    alpha: float = 0.1,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """PCK (percentage of correct keypoints), as a share: matches within alpha * max(height, width) of the truth.

    Args:
        predicted_coords, true_coords, valid, size: as in `end_point_error`.
        alpha: tolerance as a fraction of the longer side, > 0.
    Returns:
        (B,) in [0, 1].
    """
    distance, (height, width) = _distance(predicted_coords, true_coords, size)
    correct = (distance <= alpha * max(height, width)).double()
    return _masked_mean(correct, _as_mask(valid, distance))


def mask_precision_recall(mask: Tensor, should_be_confident: Tensor) -> PrecisionRecall:
    """Precision and recall of a confidence mask.

    Args:
        mask: the confidence mask, (B, H, W) or (B, 1, H, W), boolean or in [0, 1] (confident above 0.5).
        should_be_confident: where the match is right, the same forms.
    """
    flat = mask[:, 0] if mask.dim() == 4 else mask
    chosen, right = _as_mask(mask, flat), _as_mask(should_be_confident, flat)
    hits = (chosen & right).flatten(1).sum(dim=1).double()
    chosen_count, right_count = (m.flatten(1).sum(dim=1).double() for m in (chosen, right))
    return PrecisionRecall(hits / chosen_count, hits / right_count)  # 0 / 0 = NaN


def feature_distance(features_a: Mapping[str, Tensor], features_b: Mapping[str, Tensor]) -> Tensor:
    """LPIPS without its learnt heads, on the maps of any feature network.

    sum over layers of the mean over positions of |n(a) - n(b)|^2, n = division by (L2 norm over channels + 1e-10).

    Args:
        features_a, features_b: feature maps by layer name, (B, C_l, H_l, W_l) each, the same layers.
    Returns:
        (B,); 0 for equal maps, at most 4 per layer.
    """
    if features_a.keys() != features_b.keys() or not features_a:
        raise ValueError(f"feature_distance: layers {sorted(features_a)} and {sorted(features_b)} must agree")
    total: Tensor | None = None
    for name, a in features_a.items():
        b = features_b[name]
        _check_pair(a, b, f"feature_distance, layer {name}")
        unit_a, unit_b = (x / (x.norm(dim=1, keepdim=True) + 1e-10) for x in (a, b))
        layer = (unit_a - unit_b).square().sum(dim=1).flatten(1).double().mean(dim=1)  # (B,)
        total = layer if total is None else total + layer
    assert total is not None  # there is a layer
    return total


def paired_difference(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> PairedDifference:
    """Mean and standard error of a - b over pairs measured with both methods; pairs with a NaN are left out.

    Args:
        a, b: one number per pair, (N,), in the same order.
    Returns:
        NaN as standard error when fewer than two pairs are left.
    """
    values = [np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float64) for x in (a, b)]
    if values[0].shape != values[1].shape or values[0].ndim != 1:
        raise ValueError(f"paired_difference: expected two (N,), got {values[0].shape} and {values[1].shape}")
    difference = values[0] - values[1]
    difference = difference[np.isfinite(difference)]
    count = len(difference)
    mean = float(difference.mean()) if count else float("nan")
    error = float(difference.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    return PairedDifference(mean, error, count)
