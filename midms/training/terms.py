"""Loss terms shared by the trainings of MIDMs and of the GAN baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from midms.losses.contextual import RELEASED_STYLE_POOLING, style_loss
from midms.losses.matching import at_least_float32, perceptual_loss, source_loss
from midms.losses.perceptual import FirstStageFeatures
from midms.matching.correspondence import match
from midms.models.encoders import ConditionFeatures
from midms.models.midms import Exemplar


@dataclass(frozen=True)
class FeatureTerms:
    """Eq. 14 to 16: compare pictures with the photos of a batch by a feature network.

    Attributes:
        network: phi.
        source_layers, style_layers: layer -> weight in L_src and L_style.
        perceptual_layer: layer of L_perc.
    Raises:
        ValueError: the network lacks a layer.
    """

    network: nn.Module
    source_layers: Mapping[str, float]
    style_layers: Mapping[str, float]
    perceptual_layer: str

    def __post_init__(self) -> None:
        asked = [*self.source_layers, *self.style_layers, self.perceptual_layer]
        require_layers(self.network, asked, "set features, or the layers of the losses")

    def __call__(self, images: Tensor, batch: Mapping[str, Any], style: bool = True) -> dict[str, Tensor]:
        """The terms "src", "perc" and, if `style`, "style".

        Args:
            images: (2B, 3, H, W), first the pictures made from the exemplars, then those made from the photos.
        """
        size = len(images) // 2
        maps = self.network(images)
        with torch.no_grad():
            targets = self.network(torch.cat([batch["exemplar"], batch["source"]]))
        layers, weights = list(self.source_layers), list(self.source_layers.values())
        terms = {
            "src": source_loss([maps[k][size:] for k in layers], [targets[k][size:] for k in layers], weights),
            "perc": perceptual_loss(maps[self.perceptual_layer][:size], targets[self.perceptual_layer][size:]),
        }
        if style:
            generated, exemplars = ({k: m[k][:size] for k in self.style_layers} for m in (maps, targets))
            terms["style"] = style_loss(
                generated, exemplars, self.style_layers, RELEASED_STYLE_POOLING, per_sample=True
            )
        return terms


def require_layers(network: nn.Module, asked: Iterable[str], remedy: str) -> None:
    """Require that a feature network has every layer of the losses.

    Raises:
        ValueError: it lacks one; the message ends with `remedy`.
    """
    known: Any = network.layers  # a tuple of names
    absent = sorted({name for name in asked if name not in known})
    if absent:
        own = isinstance(network, FirstStageFeatures)
        which = "features is null, which takes the first stage's encoder: it has" if own else "features has"
        raise ValueError(f"{which} no layer {', '.join(absent)} (only {', '.join(known)}); {remedy}")


class WarpWithMaps(NamedTuple):
    """A match of a training step."""

    warp: Tensor  # of the exemplar's latent, (B, c, h, w)
    maps: Tensor  # of the exemplar's condition maps, (B, L, h, w)
    cycle: Tensor  # the exemplar's latent, warped to the condition and back, (B, c, h, w)


def warp_with_maps(
    condition: ConditionFeatures, exemplar: Exemplar, maps: Tensor, temperature: float, clamp: bool = False
) -> WarpWithMaps:
    """Match and warp the exemplar with its condition maps (B, L, h, w).

    Args:
        temperature, clamp: see `midms.matching.correspondence.match`.
    """
    channels = exemplar.latent.shape[1]
    matched = match(
        condition.features,
        exemplar.features,
        torch.cat([exemplar.latent, maps], dim=1),
        temperature,
        cycle=True,
        cycle_channels=channels,
        clamp=clamp,
    )
    warp, warped_maps = matched.warp.split([channels, maps.shape[1]], dim=1)
    return WarpWithMaps(warp, warped_maps, matched.cycles[0])


def weighted_sum(weights: Mapping[str, float], terms: Mapping[str, Tensor]) -> Tensor:
    """The loss, a scalar: every term times its weight, in float32 or more."""
    return torch.stack([weights[name] * at_least_float32(value) for name, value in terms.items()]).sum()
