"""The whole model: first stage, correspondence encoders and denoiser around the interleaved loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from midms.diffusion.interleave import Interleaved, Rewarp, StepRecord, interleave, refine
from midms.diffusion.schedule import Schedule, linear_schedule, sample_noise
from midms.diffusion.settings import InterleaveSettings
from midms.losses.matching import at_least_float32
from midms.matching.confidence import match_confidence
from midms.matching.correspondence import Match, match
from midms.models.denoiser import Denoiser
from midms.models.encoded import Exemplar
from midms.models.encoders import ConditionFeatures, CorrespondenceEncoders
from midms.models.first_stage import FirstStage, pad_to_multiple


class Translation(NamedTuple):
    """Result of `MIDMs.translate`."""

    latent: Tensor  # (B, c, h, w), refined; decode it
    first: Match  # of the condition with the exemplar; `first.warp` is R_{X<-Y}
    loop: Interleaved


class MIDMs(nn.Module):
    """Exemplar-based translation in the latent space of a frozen autoencoder (Fig. 2, Algorithm 1).

    Args:
        first_stage: E and D.
        encoders: F_X, F_Y, F_iter and the matching head.
        denoiser: eps_theta, fine-tuned with the rest.
        refiner: the latent diffusion model before fine-tuning, for the paper's refinement; none refines with
            `denoiser`.
        schedule: keywords of `linear_schedule`.
        temperature: tau of Eq. 6.
    """

    def __init__(
        self,
        first_stage: FirstStage,
        encoders: CorrespondenceEncoders,
        denoiser: Denoiser,
        refiner: Denoiser | None = None,
        schedule: Mapping[str, Any] | None = None,
        temperature: float = 0.005,
    ) -> None:
        super().__init__()
        self.first_stage = first_stage.requires_grad_(False).eval()
        self.encoders, self.denoiser = encoders, denoiser
        self.refiner = None if refiner is None else refiner.requires_grad_(False).eval()
        self.schedule_config = dict(schedule or {})
        tables = linear_schedule(**self.schedule_config)
        self.betas: Tensor
        self.alphas_cumprod: Tensor
        self.register_buffer("betas", tables.betas, persistent=False)
        self.register_buffer("alphas_cumprod", tables.alphas_cumprod, persistent=False)
        self.temperature = temperature

    def train(self, mode: bool = True) -> MIDMs:
        """The first stage and the refiner stay in evaluation mode."""
        super().train(mode)
        for frozen in (self.first_stage, self.refiner):
            if frozen is not None:
                frozen.eval()
        return self

    @property
    def schedule(self) -> Schedule:
        """The noise schedule on the model's device."""
        return Schedule(self.betas, self.alphas_cumprod)

    def encode_exemplar(
        self, images: Tensor, labels: Tensor | None = None, mask: Tensor | None = None, noise: Tensor | None = None
    ) -> Exemplar:
        """D_Y and S_Y of exemplar images (B, 3, H, W) in [-1, 1].

        Args:
            labels: the exemplar's condition maps (B, L, H, W); the released form of the encoders needs them.
            mask: (B, 1, H, W), 1 where the exemplar may be used.
            noise: of the posterior (KL first stages), (B, c, h, w). None: its mode.
        """
        with torch.no_grad():
            latent = at_least_float32(
                self.first_stage.encode(images, sample=noise is not None, noise=noise)
            )  # (B, c, h, w)
        grid = None if labels is None else self.encoders.condition_grid(labels, _size(latent))
        if mask is not None:
            mask = nn.functional.interpolate(mask.float(), _size(latent), mode="area")
        return Exemplar(latent, *self.encoders.encode_exemplar(latent, grid), mask)

    def encode_condition(self, condition: Tensor) -> ConditionFeatures:
        """S_X of condition maps (B, L, H, W), or of images (B, 3, H, W) where D_X = E(I_X).

        Sides that are no multiple of the first stage's factor are padded at the right and bottom border.

        Raises:
            ValueError: the maps have another number of channels than the encoders take.
        """
        expected = 3 if self.encoders.condition_input == "latent" else self.encoders.config["condition_channels"]
        if condition.shape[1] != expected:
            raise ValueError(f"condition maps with {condition.shape[1]} channels, these weights take {expected}")
        factor = self.first_stage.factor
        condition = pad_to_multiple(condition, factor)
        size = (condition.shape[-2] // factor, condition.shape[-1] // factor)
        if self.encoders.condition_input == "latent":
            with torch.no_grad():
                condition = at_least_float32(self.first_stage.encode(condition))
        return self.encoders.encode_condition(self.encoders.condition_grid(condition, size))

    def match(self, query: Tensor, exemplars: Sequence[Exemplar], keys: Sequence[Tensor], **options: Any) -> Match:
        """Match query features (B, C, h, w) with the keys of one or several exemplars and warp their latents."""
        latents, masks = [e.latent for e in exemplars], [e.mask for e in exemplars]
        return match(query, keys, latents, self.temperature, key_mask=masks, **options)

    def first_match(self, condition: ConditionFeatures, exemplars: Sequence[Exemplar], **options: Any) -> Match:
        """The cross-domain match of Eq. 5 and 6; its `warp` is R_{X<-Y}."""
        return self.match(condition.features, exemplars, [e.features for e in exemplars], **options)

    def rematcher(
        self,
        condition: ConditionFeatures,
        exemplars: Sequence[Exemplar],
        settings: InterleaveSettings,
        cycle: bool = False,
    ) -> Callable[[Tensor], Rewarp]:
        """The in-domain match of a prediction with the exemplars (Eq. 8 to 10), as `interleave` calls it."""
        keys = [e.key for e in exemplars]

        def rematch(prediction: Tensor) -> Rewarp:
            query = self.encoders.encode_iterate(prediction, condition)  # (B, C, h, w)
            backward = settings.mask_form == "paper"
            clamp = settings.clamp_cosines
            matched = self.match(query, exemplars, keys, cycle=cycle, backward=backward, clamp=clamp)
            mask = match_confidence(matched, settings.threshold, settings.mask_form)  # (B, 1, h, w)
            return Rewarp(matched.warp.to(prediction.dtype), mask.to(prediction.dtype), matched.cycles)

        return rematch

    def translate(
        self,
        condition: ConditionFeatures,
        exemplars: Sequence[Exemplar],
        settings: InterleaveSettings,
        generators: Sequence[torch.Generator],
        callback: Callable[[StepRecord], None] | None = None,
        first_callback: Callable[[Match], None] | None = None,
    ) -> Translation:
        """Algorithm 1 and the refinement, in latents.

        Args:
            condition, exemplars: encoded, of one batch size.
            settings: of the loop and the refinement.
            generators: one per sample, so that a sample's noise does not depend on its batch.
            callback: called after each step of the loop.
            first_callback: called with the first match, before the loop.
        """
        first = self.first_match(condition, exemplars, clamp=settings.clamp_cosines)
        if first_callback is not None:
            first_callback(first)
        warp = first.warp

        def noise() -> Tensor:
            return sample_noise(warp.shape, generators, warp.dtype).to(warp.device)

        rematch = self.rematcher(condition, exemplars, settings)
        loop = interleave(_casting(self.denoiser), warp, rematch, self.schedule, settings, noise(), callback)
        if settings.refine_steps == 0:
            return Translation(loop.latent, first, loop)
        network = self.denoiser if settings.refine_model == "finetuned" or self.refiner is None else self.refiner
        steps = [noise() for _ in range(settings.refine_steps - 1)] if settings.refine_eta > 0 else []
        latent = refine(_casting(network), loop.latent, self.schedule, settings, noise(), steps)
        return Translation(latent, first, loop)

    def components(self) -> tuple[dict[str, nn.Module], dict[str, dict[str, Any]]]:
        """Networks by the name they are saved under, and the configs they are built from."""
        modules: dict[str, nn.Module] = {
            "first_stage": self.first_stage.model,
            "encoders": self.encoders,
            "denoiser": self.denoiser.unet,
        }
        configs = {
            "first_stage": self.first_stage.config,
            "encoders": self.encoders.config,
            "denoiser": self.denoiser.config,
        }
        if self.refiner is not None:
            modules["refiner"], configs["refiner"] = self.refiner.unet, self.refiner.config
        return modules, configs

    def decode(self, latent: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Images (B, 3, H, W) of latents, clipped to [-1, 1]."""
        return self.first_stage.decode(latent, size=size).clamp(-1, 1)


def _casting(network: Denoiser) -> Callable[[Tensor, Tensor], Tensor]:
    """A U-Net that takes latents of any precision; the loop's own state stays in float32."""
    dtype = next(network.parameters()).dtype
    return lambda latent, times: network(latent.to(dtype), times)


def _size(latent: Tensor) -> tuple[int, int]:
    return int(latent.shape[-2]), int(latent.shape[-1])
