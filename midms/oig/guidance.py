"""The guidance of OIG as pure functions: two hinge losses, the step size, and classifier-free guidance.

Legend:
    F, S, P   feature maps of the target latent, of the source latent, of the target latent one step earlier
    beta_f    margin that multiplies the distance to S        beta_p   margin added to the difference of cosines
    I, T      image and text embedding of CLIP                gamma_j  step size
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class ClipTerm(NamedTuple):
    """Cosines of the decoded image with both texts, and the loss; each (B,)."""

    loss: Tensor
    cos_source: Tensor
    cos_target: Tensor


def guided_noise(negative: Tensor, positive: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: e = e_neg + s (e_pos - e_neg); any shape."""
    return negative + scale * (positive - negative)


def feature_distance(features: Tensor, reference: Tensor) -> Tensor:
    """Mean squared difference of each image's map: (B, C, H, W) twice -> (B,), averaged in at least float32."""
    squares = functional.mse_loss(features, reference, reduction="none").flatten(1)  # (B, C*H*W)
    return squares.mean(1, dtype=torch.promote_types(squares.dtype, torch.float32))


def feature_distances(features: Sequence[Tensor], references: Sequence[Tensor]) -> Tensor:
    """`feature_distance` layer by layer: lists of L maps (B, C_l, H_l, W_l) -> (L, B)."""
    return torch.stack([feature_distance(f, g) for f, g in zip(features, references, strict=True)])


def structure_loss(to_source: Tensor, to_previous: Tensor | None, margin: float) -> Tensor:
    """Triplet-like hinge on feature distances: sum_l max(0, beta_f mse(F_l, S_l) - mse(F_l, P_l)).

    Args:
        to_source: mse(F_l, S_l), (L, B).
        to_previous: mse(F_l, P_l), (L, B). None, at the first step: the loss is sum_l beta_f mse(F_l, S_l).
        margin: beta_f.
    Returns:
        Loss of each image, (B,).
    """
    if to_previous is None:
        return margin * to_source.sum(0)
    return (margin * to_source - to_previous).clamp(min=0).sum(0)


def clip_margin_loss(image: Tensor, source_text: Tensor, target_text: Tensor, margin: float) -> ClipTerm:
    """max(0, cos(I, T(source)) - cos(I, T(target)) + beta_p), image by image.

    Args:
        image, source_text, target_text: CLIP embeddings, (B, D); they need not be normalised.
        margin: beta_p.
    """
    cos_source = functional.cosine_similarity(image, source_text, dim=-1)  # (B,)
    cos_target = functional.cosine_similarity(image, target_text, dim=-1)  # (B,)
    return ClipTerm((cos_source - cos_target + margin).clamp(min=0), cos_source, cos_target)


def latent_distance(x: Tensor, y: Tensor) -> Tensor:
    """|| x - y ||_2 of each image (the root, not the square): (B, C, H, W) twice -> (B,)."""
    return torch.linalg.vector_norm((x - y).flatten(1), dim=1)


def oig_step_size(j: int, num_steps: int) -> float:
    """gamma_j = 2 (j+1) / w while j + 1 < w = floor(N/10), then 2 * 1.05^-(j+1)."""
    warmup = num_steps // 10
    return 2 * (j + 1) / warmup if j + 1 < warmup else 2 * 1.05 ** -(j + 1)
