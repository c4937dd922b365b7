"""Contextual loss (Mechrez et al. 2018), the style term of the paper (Eq. 16), in the released "forward" form."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from midms.losses.matching import at_least_float32
from midms.matching.streaming import full_precision

# released layer weights and average-pooling factors of the style term
RELEASED_STYLE_WEIGHTS = {"relu5_2": 8.0, "relu4_2": 4.0, "relu3_2": 2.0, "relu2_2": 1.0}
RELEASED_STYLE_POOLING = {"relu3_2": 2, "relu2_2": 4}

# similarity entries (positions x positions x batch) held at once; 2^22 float32 numbers are 16 MB
_BLOCK_ENTRIES = 2**22


def _unit(features: Tensor) -> Tensor:
    return features / (features.norm(dim=1, keepdim=True) + torch.finfo(torch.float64).eps)


def _best_similarity(generated: Tensor, exemplar: Tensor, bandwidth: float) -> Tensor:
    """Log of max_j CX_ij for the rows of `generated`.

    CX is a softmax over j of -d~_ij / h, so its largest entry is exp(-logsumexp_j((min d~_i - d~_ij) / h)):
    no second matrix is needed.

    Args:
        generated: unit vectors, (B, C, n).
        exemplar: unit vectors, (B, C, M).
        bandwidth: h.
    Returns:
        (B, n), values <= 0.
    """
    distance = 1 - torch.einsum("bcn,bcm->bnm", generated, exemplar)  # (B, n, M) d = 1 - cos
    relative = distance / (distance.amin(dim=-1, keepdim=True) + 1e-3)  # (B, n, M) d~
    nearest = relative.amin(dim=-1, keepdim=True)  # (B, n, 1)
    return -torch.logsumexp((nearest - relative) / bandwidth, dim=-1)  # (B, n)


def contextual_loss(
    generated: Tensor,
    exemplar: Tensor,
    bandwidth: float = 0.1,
    centre: bool = True,
    threshold: float = 0.3,
    per_sample: bool = False,
) -> Tensor:
    """Style distance between two feature maps whose contents need not be aligned (Eq. 16).

    The exemplar's channel mean at each position is subtracted from both maps, which are then L2-normalised over
    channels. With d = 1 - cos, d~ = d / (min_j d + 1e-3), CX = softmax_j((1 - d~) / h) and m_i = max_j CX_ij:
    loss = -log(mean of the m_i >= threshold). If no m_i reaches the threshold, the loss is 0 without gradient.

    Rows are processed in blocks, which the backward pass recomputes, so memory does not grow with the square of the
    number of positions.

    Args:
        generated: phi_l(I_{X <- Y}), (B, C, H, W).
        exemplar: phi_l(I_Y), of the same shape with `centre`, else any (B, C, H', W'). Detached.
        bandwidth: h.
        centre: subtract the exemplar's channel mean, position by position.
        threshold: smaller similarities m_i are left out; 0 keeps all.
        per_sample: take the mean over each sample's positions and then over the samples' losses, which does not depend
            on the batch size. False: the mean over the positions of the whole batch, as released.
    """
    if centre and generated.shape != exemplar.shape:
        raise ValueError(
            "contextual_loss: with centre=True both maps need one shape, "
            f"got {tuple(generated.shape)} and {tuple(exemplar.shape)}"
        )
    with full_precision(generated.device):
        similarity = _similarity(
            at_least_float32(generated), at_least_float32(exemplar).detach(), bandwidth, centre
        )  # (B, N)
    kept = similarity >= threshold
    if not per_sample:
        similarity, kept = similarity.reshape(1, -1), kept.reshape(1, -1)
    count = kept.sum(dim=1)  # (B,)
    mean = torch.where(kept, similarity, 0.0).sum(dim=1) / count.clamp_min(1)  # (B,)
    return -torch.log(torch.where(count > 0, mean, 1.0)).mean()


def _similarity(generated: Tensor, exemplar: Tensor, bandwidth: float, centre: bool) -> Tensor:
    """m_i of every position of `generated`, (B, N)."""
    if centre:
        mean = exemplar.mean(dim=1, keepdim=True)  # (B, 1, H, W)
        generated, exemplar = generated - mean, exemplar - mean
    rows = _unit(generated).flatten(2)  # (B, C, N)
    columns = _unit(exemplar).flatten(2)  # (B, C, M)
    block = max(1, _BLOCK_ENTRIES // (columns.shape[0] * columns.shape[2]))
    if block >= rows.shape[2]:
        return _best_similarity(rows, columns, bandwidth).exp()  # (B, N)
    parts = [
        checkpoint(_best_similarity, part, columns, bandwidth, use_reentrant=False) for part in rows.split(block, dim=2)
    ]
    return torch.cat(parts, dim=1).exp()  # (B, N)


def style_loss(
    generated_maps: Mapping[str, Tensor],
    exemplar_maps: Mapping[str, Tensor],
    weights: Mapping[str, float],
    pooling: Mapping[str, int] | None = None,
    per_sample: bool = False,
) -> Tensor:
    """L_style: weighted sum of contextual losses over layers, `RELEASED_STYLE_WEIGHTS` for VGG-19.

    Args:
        generated_maps, exemplar_maps: feature maps by layer name, (B, C_l, H_l, W_l).
        weights: the layers to use and their weights.
        pooling: average-pooling factor of a layer before the comparison (1 where absent).
        per_sample: see `contextual_loss`.
    """
    missing = [name for name in weights if name not in generated_maps or name not in exemplar_maps]
    if missing or not weights:
        raise ValueError(f"style_loss: no layer {missing} among the features {sorted(generated_maps)}")
    factors = pooling or {}
    total = next(iter(generated_maps.values())).new_zeros(())
    for name, weight in weights.items():
        pair = (generated_maps[name], exemplar_maps[name])
        small = [F.avg_pool2d(maps, factors[name]) if factors.get(name, 1) > 1 else maps for maps in pair]
        total = total + weight * contextual_loss(small[0], small[1], per_sample=per_sample)
    return total
