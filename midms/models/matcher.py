"""Base class of the methods: a frozen first stage, the correspondence encoders, and the match of Eq. 5 and 6."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Self, Unpack

import torch
from torch import Tensor, nn

from midms.diffusion.interleave import Interleaved, StepRecord
from midms.losses.matching import at_least_float32
from midms.matching.correspondence import Match, MatchOptions, match
from midms.models.encoded import Exemplar
from midms.models.encoders import ConditionFeatures, CorrespondenceEncoders
from midms.models.first_stage import FirstStage, pad_to_multiple


class Translation(NamedTuple):
    """Result of `Matcher.translate`."""

    latent: Tensor  # (B, V, h, w), the input of `Matcher.decode`
    first: Match  # of the condition with the exemplar; `first.warp` is R_{X<-Y}
    loop: Interleaved


def check_latent_channels(name: str, got: int, first_stage: FirstStage) -> None:
    """Refuse a network for latents of another number of channels than those of the first stage.

    Raises:
        ValueError: `got` is another number.
    """
    expected = first_stage.latent_channels
    if got != expected:
        raise ValueError(f"{name}: got {got}, expected {expected}, the channels of the first stage's latents")


class Matcher(nn.Module):
    """Encodes conditions and exemplars on one grid and matches them; a subclass makes the picture.

    Args:
        first_stage: E and D, frozen here.
        encoders: F_X, F_Y, F_iter and the matching head.
        temperature: tau of Eq. 6.
    Attributes:
        kind: name of the method, shown by `midms info`.
        settings_class: class of the settings of `translate`.
    Raises:
        ValueError: the encoders take latents of another number of channels than the first stage makes.
    """

    kind: ClassVar[str]
    settings_class: ClassVar[type]

    def __init__(self, first_stage: FirstStage, encoders: CorrespondenceEncoders, temperature: float = 0.005) -> None:
        super().__init__()
        check_latent_channels("encoders.latent_channels", encoders.config["latent_channels"], first_stage)
        self.first_stage = first_stage.requires_grad_(False).eval()
        self.encoders, self.temperature = encoders, temperature

    def train(self, mode: bool = True) -> Self:
        """The first stage stays in evaluation mode."""
        super().train(mode)
        self.first_stage.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return self.encoders.theta.weight.device

    def translate(
        self,
        condition: ConditionFeatures,
        exemplars: Sequence[Exemplar],
        settings: Any,
        generators: Sequence[torch.Generator],
        callback: Callable[[StepRecord], None] | None = None,
        first_callback: Callable[[Match], None] | None = None,
    ) -> Translation:
        """The whole method.

        Args:
            condition, exemplars: encoded, of one batch size B.
            settings: of the method, see `settings_class`.
            generators: of the noise, one per sample, so that a sample's noise does not depend on its batch.
            callback: called after each step with its `StepRecord`.
            first_callback: called with the first match, before the steps.
        """
        raise NotImplementedError

    def networks(self) -> list[nn.Module]:
        """Networks whose precision and memory layout can be chosen: all but the encoders."""
        raise NotImplementedError

    def compiled_networks(self) -> list[nn.Module]:
        """Networks to compile for speed."""
        raise NotImplementedError

    def components(self) -> tuple[dict[str, nn.Module], dict[str, dict[str, Any]]]:
        """Networks by the name they are saved under, and the configs they are built from."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Values that a weights folder stores besides the networks, to rebuild the same model."""
        return {"temperature": self.temperature}

    def values(self, images: Tensor, latent: Tensor) -> Tensor:
        """Values that a match warps from the exemplar to the condition's grid, (B, V, h, w); here the latent D_Y.

        Args:
            images: the exemplars, (B, 3, H, W) in [-1, 1].
            latent: D_Y of them, (B, c, h, w).
        """
        del images
        return latent

    def encode_exemplar(
        self, images: Tensor, labels: Tensor | None = None, mask: Tensor | None = None, noise: Tensor | None = None
    ) -> Exemplar:
        """Values to warp and features S_Y of exemplar images (B, 3, H, W) in [-1, 1].

        Args:
            labels: the exemplar's condition maps (B, L, H, W); the released form of the encoders needs them.
            mask: (B, 1, H, W), 1 where the exemplar may be used.
            noise: of the posterior (KL first stages), (B, c, h, w). None: its mode.
        """
        with torch.no_grad():
            latent = at_least_float32(
                self.first_stage.encode(images, sample=noise is not None, noise=noise)
            )  # (B, c, h, w)
        grid = None if labels is None else self.encoders.condition_grid(labels, grid_size(latent))
        if mask is not None:
            mask = nn.functional.interpolate(mask.float(), grid_size(latent), mode="area")
        return Exemplar(self.values(images, latent), *self.encoders.encode_exemplar(latent, grid), mask)

    def encode_condition(self, condition: Tensor) -> ConditionFeatures:
        """S_X of condition maps (B, L, H, W), or of images (B, 3, H, W) where D_X = E(I_X).

        Sides that are not multiples of the first stage's factor are padded at the right and bottom border.

        Raises:
            ValueError: the maps have another number of channels than the encoders take, or a side of less than two
                positions of the matching.
        """
        expected = 3 if self.encoders.condition_input == "latent" else self.encoders.config["condition_channels"]
        if condition.shape[1] != expected:
            raise ValueError(f"condition maps with {condition.shape[1]} channels, these weights take {expected}")
        factor = self.first_stage.factor
        if min(condition.shape[-2:]) <= factor:
            height, width = condition.shape[-2:]
            raise ValueError(f"condition of {width} x {height} pixels, expected more than {factor} per side")
        condition = pad_to_multiple(condition, factor)
        size = (condition.shape[-2] // factor, condition.shape[-1] // factor)
        if self.encoders.condition_input == "latent":
            with torch.no_grad():
                condition = at_least_float32(self.first_stage.encode(condition))
        return self.encoders.encode_condition(self.encoders.condition_grid(condition, size))

    def match(
        self, query: Tensor, exemplars: Sequence[Exemplar], keys: Sequence[Tensor], **options: Unpack[MatchOptions]
    ) -> Match:
        """Match query features (B, C, h, w) with the keys of one or several exemplars and warp their values."""
        latents, masks = [e.latent for e in exemplars], [e.mask for e in exemplars]
        return match(query, keys, latents, self.temperature, key_mask=masks, **options)

    def first_match(
        self, condition: ConditionFeatures, exemplars: Sequence[Exemplar], **options: Unpack[MatchOptions]
    ) -> Match:
        """The cross-domain match of Eq. 5 and 6; its `warp` is R_{X<-Y}."""
        return self.match(condition.features, exemplars, [e.features for e in exemplars], **options)

    def encode_prediction(self, prediction: Tensor, condition: ConditionFeatures) -> Tensor:
        """Features of a prediction by F_iter, to be matched with the exemplars' keys (Eq. 8).

        Args:
            prediction: x0 prediction of the loop, (B, V, h, w).
            condition: of the same batch.
        Returns:
            (B, C, h, w)
        """
        return self.encoders.encode_iterate(prediction, condition)

    def autoencode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) through the first stage and back, clipped to [-1, 1], at their own size."""
        size = (int(images.shape[-2]), int(images.shape[-1]))
        return self.first_stage.decode(self.first_stage.encode(images), size=size).clamp(-1, 1)

    def decode(self, latent: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Images (B, 3, H, W) of latents (B, c, h, w), clipped to [-1, 1] and cropped to `size`, if given."""
        return self.first_stage.decode(latent, size=size).clamp(-1, 1)


def grid_size(latent: Tensor) -> tuple[int, int]:
    """(h, w) of latents (B, c, h, w)."""
    return int(latent.shape[-2]), int(latent.shape[-1])
