"""The released training objective: its terms of Eq. 12-17, their weights and their iterations.

Iterations n are counted from 0 over the whole training. The first w are the warm-up (released: w = 10,000).

| term  | released form                                                              | weight           | counted  |
|-------|----------------------------------------------------------------------------|------------------|----------|
| dom   | Eq. 12 and a second term with the exemplar                                 | 10               | always   |
| cycle | Eq. 13 of the first warp; warm-up: twice; then also of both branches'      | 1                | always   |
|       | re-warps                                                                   |                  |          |
| src   | Eq. 14 on relu1_2..5_2, layer weights 1/32, 1/16, 1/8, 1/4, 1              | 1                | always   |
| perc  | Eq. 15 on relu4_2, churches: relu5_2                                       | 0.002 / 0.05     | always   |
| style | Eq. 16, forward form, on relu5_2, 4_2, 3_2, 2_2 times 8, 4, 2, 1           | 1                | n > w    |
| diff  | x0 form of Eq. 17 at one random step; warm-up: the warped source latent    | 1                | always   |
| warp  | churches: negative log likelihood of the warped labels (not in the paper)  | 100              | n < w    |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from midms.losses.contextual import RELEASED_STYLE_POOLING, RELEASED_STYLE_WEIGHTS, style_loss
from midms.losses.matching import (
    cycle_loss,
    domain_loss,
    perceptual_loss,
    released_diffusion_loss,
    segmentation_warp_loss,
    source_loss,
)
from midms.losses.perceptual import FeatureNetwork

RELEASED_SOURCE_WEIGHTS = {"relu1_2": 1 / 32, "relu2_2": 1 / 16, "relu3_2": 1 / 8, "relu4_2": 1 / 4, "relu5_2": 1.0}


@dataclass(frozen=True)
class ReleasedLossWeights:
    """Weights lambda by the names of Table 6, and the layer of the perceptual term."""

    dom: float = 10.0
    cycle: float = 1.0
    src: float = 1.0
    perc: float = 0.002
    style: float = 1.0
    diff: float = 1.0
    warp: float = 100.0
    perceptual_layer: str = "relu4_2"


RELEASED_LOSS_WEIGHTS = {
    "celeba": ReleasedLossWeights(),
    "deepfashion": ReleasedLossWeights(),
    "churches": ReleasedLossWeights(perc=0.05, perceptual_layer="relu5_2"),
}


class Segmentation(NamedTuple):
    """Labels for the `warp` term of churches."""

    warped: Tensor  # (B, L, h, w) the exemplar's one-hot labels after the first warp
    labels: Tensor  # (B, 1, H, W) class ids of the condition
    exemplar_labels: Tensor  # (B, 1, H, W) class ids of the exemplar


class Iteration(NamedTuple):
    """Result of one forward pass of the training; latents (B, c, h, w), images (B, 3, H, W) in [-1, 1]."""

    condition_features: Tensor  # raw encoder output (B, C, h, w) of the condition,
    source_features: Tensor  # ... of its own image,
    exemplar_features: Tensor  # ... and of the exemplar
    source_latent: Tensor
    exemplar_latent: Tensor
    exemplar_cycle: Tensor  # the first warp of the exemplar's latent, warped back
    rewarp_cycles: Sequence[tuple[Tensor, Tensor]]  # (cycle, latent) of every re-warp of either branch; warm-up: none
    diffused: Tensor  # x0 predicted from the noised source latent; warm-up: the warped source latent
    source_result: Tensor  # decoded source branch, I_{X <- X'}
    exemplar_result: Tensor  # decoded exemplar branch, I_{X <- Y}
    segmentation: Segmentation | None = None  # churches


class ReleasedTerms(NamedTuple):
    """Terms without their weights, scalars, and the weighted sum that is minimised."""

    dom: Tensor
    cycle: Tensor  # of the first warp
    rewarp_cycle: Tensor  # of the re-warps; warm-up: the first warp's again
    src: Tensor
    perc: Tensor
    style: Tensor
    diff: Tensor
    warp: Tensor | None
    total: Tensor


def released_objective(
    iteration: Iteration,
    source: Tensor,
    exemplar: Tensor,
    features: FeatureNetwork,
    number: int,
    warmup: int = 10_000,
    weights: ReleasedLossWeights | None = None,
) -> ReleasedTerms:
    """All released terms of one iteration and their sum.

    Args:
        iteration: the forward pass.
        source: the condition's own image I'_X, (B, 3, H, W) in [-1, 1].
        exemplar: I_Y, the same shape.
        features: VGG-19 with maps relu1_2 .. relu5_2; the loss weights were chosen for the Caffe file.
        number: n, index of the iteration from 0. warmup: w.
        weights: one of `RELEASED_LOSS_WEIGHTS`, by default CelebA-HQ's.
    """
    weights = weights or ReleasedLossWeights()
    source_result, exemplar_result = features(iteration.source_result), features(iteration.exemplar_result)
    with torch.no_grad():
        source_maps, exemplar_maps = features(source), features(exemplar)
    layers = list(RELEASED_SOURCE_WEIGHTS)
    cycle = cycle_loss(iteration.exemplar_cycle, iteration.exemplar_latent)
    rewarp_cycle = torch.stack([cycle_loss(c, z) for c, z in iteration.rewarp_cycles] or [cycle]).sum()
    segmentation = iteration.segmentation
    terms = ReleasedTerms(
        dom=domain_loss(iteration.condition_features, iteration.source_features, iteration.exemplar_features),
        cycle=cycle,
        rewarp_cycle=rewarp_cycle,
        src=source_loss(
            [source_result[k] for k in layers],
            [source_maps[k] for k in layers],
            list(RELEASED_SOURCE_WEIGHTS.values()),
        ),
        perc=perceptual_loss(exemplar_result[weights.perceptual_layer], source_maps[weights.perceptual_layer]),
        style=style_loss(exemplar_result, exemplar_maps, RELEASED_STYLE_WEIGHTS, RELEASED_STYLE_POOLING),
        diff=released_diffusion_loss(iteration.diffused, iteration.source_latent),
        warp=None if segmentation is None else segmentation_warp_loss(*segmentation),
        total=cycle,
    )
    return terms._replace(total=_total(terms, weights, number, warmup))


def _total(terms: ReleasedTerms, weights: ReleasedLossWeights, number: int, warmup: int) -> Tensor:
    """The weighted sum, with the style term only after iteration w and the warp term only before it."""
    total = weights.dom * terms.dom + weights.cycle * (terms.cycle + terms.rewarp_cycle)
    total = total + weights.src * terms.src + weights.perc * terms.perc + weights.diff * terms.diff
    if number > warmup:
        total = total + weights.style * terms.style
    if number < warmup and terms.warp is not None:
        total = total + weights.warp * terms.warp
    return total
