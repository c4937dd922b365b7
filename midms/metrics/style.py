"""Style relevance and semantic consistency: cosines between VGG-19 features of two images.

The literature does not define them completely (docs/protocols.md lists the known facts). The defaults here are:

- Style relevance: cosine of the channel means over the whole image, output against exemplar, with relu1_2 for colour
  and relu2_2 for texture. The alternatives are the other functions of `COSINES`.
- Semantic consistency: region-pooled cosine, output against the photograph of the condition, mean over relu3_2,
  relu4_2 and relu5_2.

All cosines take two maps (B, C, H, W) and return (B,) float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

COLOUR_LAYER, TEXTURE_LAYER = "relu1_2", "relu2_2"
SEMANTIC_LAYERS = ("relu3_2", "relu4_2", "relu5_2")


class StyleRelevance(NamedTuple):
    """Cosines in [-1, 1], (B,) each."""

    colour: Tensor
    texture: Tensor


def _cosine(a: Tensor, b: Tensor, dim: int = 1) -> Tensor:
    return F.cosine_similarity(a.double(), b.double(), dim=dim, eps=1e-12)


def flat_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the whole maps (B, C, H, W) as vectors, (B,)."""
    return _cosine(a.flatten(1), b.flatten(1))


def position_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Mean over positions of the cosine of the channel vectors of maps (B, C, H, W), (B,)."""
    return _cosine(a, b).flatten(1).mean(dim=1)


def channel_mean_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the channels' means of maps (B, C, H, W), whose sizes may differ, (B,)."""
    return _cosine(a.double().mean(dim=(2, 3)), b.double().mean(dim=(2, 3)))


def channel_variance_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the channels' (unbiased) variances of maps (B, C, H, W), whose sizes may differ, (B,)."""
    return _cosine(a.double().var(dim=(2, 3)), b.double().var(dim=(2, 3)))


def gram_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the Gram matrices of maps (B, C, H, W), whose sizes may differ, (B,)."""
    gram_a, gram_b = (
        torch.einsum("bcn,bdn->bcd", x, x).flatten(1) for x in (a.double().flatten(2), b.double().flatten(2))
    )
    return _cosine(gram_a, gram_b)


COSINES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "channel-mean": channel_mean_cosine,
    "channel-variance": channel_variance_cosine,
    "position": position_cosine,
    "flat": flat_cosine,
    "gram": gram_cosine,
}


def _cells_per_region(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Number of label pixels of each region per cell, when a map of `size` is enlarged by nearest neighbour.

    Args:
        labels: (B, H, W) int64, >= 0.
    Returns:
        (B, R, h * w) float64.
    """
    height, width = labels.shape[1:]
    rows = torch.arange(height, device=labels.device) * size[0] // height
    columns = torch.arange(width, device=labels.device) * size[1] // width
    cells = (rows[:, None] * size[1] + columns).expand_as(labels)  # (B, H, W)
    regions, count = int(labels.max()) + 1, size[0] * size[1]
    batch = torch.arange(len(labels), device=labels.device).view(-1, 1, 1)
    flat = (batch * regions + labels) * count + cells
    return torch.bincount(flat.flatten(), minlength=len(labels) * regions * count).double().view(-1, regions, count)


def region_pooled_cosine(a: Tensor, b: Tensor, labels: Tensor | None = None, degrees: bool = False) -> Tensor:
    """Cosine of the features averaged over each region of a label map, weighted by the region's share of the area.

    Args:
        a, b: feature maps, (B, C, h, w); enlarged to the size of `labels` by nearest neighbour.
        labels: region of each pixel, (B, H, W); None: one region.
        degrees: average the angles in degrees instead of the cosines.
    """
    if labels is None:
        labels = torch.zeros(a.shape[0], *a.shape[2:], dtype=torch.int64, device=a.device)
    weights = _cells_per_region(labels.long(), (a.shape[2], a.shape[3]))  # (B, R, n)
    share = weights.sum(dim=2)  # (B, R)
    pooled_a, pooled_b = (
        torch.einsum("brn,bcn->brc", weights, x.double().flatten(2)) / share.clamp(min=1)[..., None] for x in (a, b)
    )  # (B, R, C) each
    cosine = _cosine(pooled_a, pooled_b, dim=2)  # (B, R)
    if degrees:
        cosine = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
    return (cosine * share).sum(dim=1) / share.sum(dim=1)


def style_relevance(
    generated: Mapping[str, Tensor],
    exemplar: Mapping[str, Tensor],
    cosine: Callable[[Tensor, Tensor], Tensor] = channel_mean_cosine,
) -> StyleRelevance:
    """Similarity of the output's colour (relu1_2) and texture (relu2_2) to the exemplar's.

    Args:
        generated, exemplar: VGG-19 maps (B, C, H, W) of the outputs and of their exemplars, by layer name.
        cosine: one of `COSINES`.
    """
    values = (cosine(generated[layer], exemplar[layer]) for layer in (COLOUR_LAYER, TEXTURE_LAYER))
    return StyleRelevance(*values)


def semantic_consistency(
    generated: Mapping[str, Tensor], truth: Mapping[str, Tensor], labels: Tensor | None = None
) -> Tensor:
    """Similarity of content to the condition's photo: mean over relu3_2, 4_2, 5_2 of the region-pooled cosine, (B,).

    Args:
        generated, truth: VGG-19 maps of the outputs and of the conditions' photographs, by layer name.
        labels: regions of the condition, (B, H, W); None: the whole image is one region.
    """
    layers = [region_pooled_cosine(generated[layer], truth[layer], labels) for layer in SEMANTIC_LAYERS]
    return torch.stack(layers).mean(dim=0)
