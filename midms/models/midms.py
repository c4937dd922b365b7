"""The whole model: first stage, correspondence encoders and denoiser around the interleaved loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from midms.diffusion.interleave import Rewarp, StepRecord, interleave, refine
from midms.diffusion.schedule import Schedule, linear_schedule, sample_noise
from midms.diffusion.settings import InterleaveSettings
from midms.matching.confidence import match_confidence
from midms.matching.correspondence import Match
from midms.models.denoiser import Denoiser
from midms.models.encoded import Exemplar
from midms.models.encoders import ConditionFeatures, CorrespondenceEncoders
from midms.models.first_stage import FirstStage
from midms.models.matcher import Matcher, Translation, check_latent_channels


class MIDMs(Matcher):
    """Exemplar-based translation in the latent space of a frozen autoencoder (Fig. 2, Algorithm 1).

    Args:
        first_stage: E and D.
        encoders: F_X, F_Y, F_iter and the matching head.
        denoiser: eps_theta, fine-tuned with the rest.
        refiner: the latent diffusion model before fine-tuning, for the paper's refinement. None: refine with
            `denoiser`.
        schedule: keywords of `linear_schedule`.
        temperature: tau of Eq. 6.
    Raises:
        ValueError: a network takes latents of another number of channels than the first stage makes.
    """

    kind = "midms"
    settings_class = InterleaveSettings

    def __init__(
        self,
        first_stage: FirstStage,
        encoders: CorrespondenceEncoders,
        denoiser: Denoiser,
        refiner: Denoiser | None = None,
        schedule: Mapping[str, Any] | None = None,
        temperature: float = 0.005,
    ) -> None:
        super().__init__(first_stage, encoders, temperature)
        for name, network in {"denoiser": denoiser, "refiner": refiner}.items():
            if network is not None:
                check_latent_channels(f"{name}.in_channels", network.config["in_channels"], first_stage)
        self.denoiser = denoiser
        self.refiner = None if refiner is None else refiner.requires_grad_(False).eval()
        self.schedule_config = dict(schedule or {})
        tables = linear_schedule(**self.schedule_config)
        self.betas: Tensor
        self.alphas_cumprod: Tensor
        self.register_buffer("betas", tables.betas, persistent=False)
        self.register_buffer("alphas_cumprod", tables.alphas_cumprod, persistent=False)

    def train(self, mode: bool = True) -> Self:
        """The first stage and the refiner stay in evaluation mode."""
        super().train(mode)
        if self.refiner is not None:
            self.refiner.eval()
        return self

    @property
    def schedule(self) -> Schedule:
        """The noise schedule on the model's device."""
        return Schedule(self.betas, self.alphas_cumprod)

    def rematcher(
        self,
        condition: ConditionFeatures,
        exemplars: Sequence[Exemplar],
        settings: InterleaveSettings,
        cycle: bool = False,
    ) -> Callable[[Tensor], Rewarp]:
        """Function for `interleave` that matches a prediction with the exemplars (Eq. 8 to 10)."""
        keys = [e.key for e in exemplars]

        def rematch(prediction: Tensor) -> Rewarp:
            query = self.encode_prediction(prediction, condition)  # (B, C, h, w)
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

    def networks(self) -> list[nn.Module]:
        """First stage and U-Nets."""
        return [self.first_stage, self.denoiser, *([] if self.refiner is None else [self.refiner])]

    def compiled_networks(self) -> list[nn.Module]:
        """U-Nets and the first stage's decoder."""
        refiner = [] if self.refiner is None else [self.refiner.unet]
        return [self.denoiser.unet, *refiner, self.first_stage.model.decoder]

    def facts(self) -> dict[str, Any]:
        """Temperature and noise schedule."""
        return super().facts() | {"schedule": self.schedule_config}

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


def _casting(network: Denoiser) -> Callable[[Tensor, Tensor], Tensor]:
    """The U-Net for float32 latents, whatever its own precision; the loop's state stays in float32."""
    dtype = next(network.parameters()).dtype
    return lambda latent, times: network(latent.to(dtype), times)
