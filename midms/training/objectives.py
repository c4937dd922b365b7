"""One forward pass of stage 3 and its objective, as in the paper or as in the released code.

Exemplar and source branch run through the loop as one batch, and the released objective's diffusion term joins one of
its calls: a step calls the U-Net N times. The released code calls it for each branch separately and once for the
diffusion term, 2 N + 1 times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from midms.diffusion.interleave import Denoiser, Interleaved, JoinedPrediction, Rewarp, interleave
from midms.diffusion.settings import InterleaveSettings
from midms.losses.matching import cycle_loss, diffusion_loss, domain_loss, warped_condition_loss
from midms.losses.objective import Iteration, ReleasedLossWeights, Segmentation, released_objective
from midms.losses.perceptual import FeatureNetwork
from midms.matching.correspondence import match
from midms.models.encoders import ConditionFeatures
from midms.models.midms import Exemplar, MIDMs
from midms.training.terms import FeatureTerms, warp_with_maps, weighted_sum

#: A name and a shape (B, ...) -> standard normal numbers of that shape, independent for each sample.
Noise = Callable[[str, Sequence[int]], Tensor]
Batch = Mapping[str, Any]


@dataclass(frozen=True)
class PaperTrainingObjective:
    """Eq. 12 to 17. The terms are named as in `midms.training.midms.WEIGHTS`.

    Attributes:
        weights: lambda by term.
        features: the terms of Eq. 14 to 16.
        warmup_space, warmup_rematch: see `midms.training.midms.MIDMsTraining`.
    """

    model: MIDMs
    settings: InterleaveSettings
    features: FeatureTerms
    weights: Mapping[str, float]
    warmup_space: str = "image"
    warmup_rematch: bool = False

    def __call__(self, batch: Batch, noise: Noise, number: int, warmup: int) -> dict[str, Tensor]:
        """The terms of step `number`, unweighted, and "loss", their weighted sum."""
        terms = self.terms(batch, noise, warming=number < warmup)
        return terms | {"loss": weighted_sum(self.weights, terms)}

    def terms(self, batch: Batch, noise: Noise, warming: bool) -> dict[str, Tensor]:
        """Every term of Eq. 12 to 17 that the step uses."""
        model, size = self.model, len(batch["source"])
        condition, both = encode(model, batch)
        exemplar, source = both.map(lambda part: part[:size]), both.map(lambda part: part[size:])
        maps = F.adaptive_avg_pool2d(
            torch.cat([batch["exemplar_condition"], batch["condition"]]), (both.latent.shape[-2], both.latent.shape[-1])
        )  # (2B, L, h, w)
        warp, warped_maps, cycled = warp_with_maps(
            condition, exemplar, maps[:size], model.temperature, self.settings.clamp_cosines
        )
        source_warp = model.first_match(condition, [source], clamp=self.settings.clamp_cosines).warp
        terms = {
            "dom": domain_loss(condition.features, source.features),
            "cycle": cycle_loss(cycled, exemplar.latent),
            "warp": warped_condition_loss(warped_maps, maps[size:]),
        }
        if warming:
            generated = [warp, source_warp]
            if self.warmup_rematch:
                query = condition._replace(features=model.encode_prediction(warp.detach(), condition))
                keys = exemplar._replace(features=exemplar.key)
                again, maps_again, cycled = warp_with_maps(
                    query, keys, maps[:size], model.temperature, self.settings.clamp_cosines
                )
                terms["cycle"] = terms["cycle"] + cycle_loss(cycled, exemplar.latent)
                terms["warp"] = terms["warp"] + warped_condition_loss(maps_again, maps[size:])
                generated.append(again)
        else:
            start = draw_start(noise, warp.shape).to(warp)
            loop = run_loop(model, self.settings, condition, both, torch.cat([warp, source_warp]), start)
            generated = list(loop.latent.split(size))
            for cycle in loop.cycles:
                terms["cycle"] = terms["cycle"] + cycle_loss(cycle, both.latent)
            terms["diff"] = torch.stack([diffusion_loss(s.epsilon[size:], start[size:]) for s in loop.steps]).mean()
        if warming and self.warmup_space == "latent":
            return terms | latent_losses(generated, source.latent)
        images = model.first_stage.decode(torch.cat(generated[:2]))  # (2B, 3, H, W)
        return terms | self.features(images, batch, style=not warming and self.weights["style"] > 0)


@dataclass(frozen=True)
class ReleasedTrainingObjective:
    """The released iteration and its objective (`midms.losses.objective`), equal to its golden values.

    Attributes:
        features: VGG-19, or another network with its layers' names.
        weights: lambda by term.
        diffusion_call: iteration -> index, from 0, of the loop's call whose time the diffusion term uses.
    """

    model: MIDMs
    settings: InterleaveSettings
    features: FeatureNetwork
    weights: ReleasedLossWeights
    diffusion_call: Callable[[int], int]

    def __call__(self, batch: Batch, noise: Noise, number: int, warmup: int) -> dict[str, Tensor]:
        """The terms of iteration `number`, unweighted, and "loss", their weighted sum."""
        iteration = self.iteration(batch, noise, number, warmup)
        released_terms = released_objective(
            iteration, batch["source"], batch["exemplar"], self.features, number, warmup, self.weights
        )
        terms = {name: value for name, value in released_terms._asdict().items() if value is not None}
        return terms | {"loss": terms.pop("total")}

    def iteration(self, batch: Batch, noise: Noise, number: int, warmup: int) -> Iteration:
        """All tensors of one forward pass that the objective needs."""
        model, settings, size = self.model, self.settings, len(batch["source"])
        condition, both = encode(model, batch, noise if model.first_stage.kind == "kl" else None)
        exemplar, source = both.map(lambda part: part[:size]), both.map(lambda part: part[size:])
        channels, values = exemplar.latent.shape[1], exemplar.latent
        labelled = self.weights.warp > 0
        if labelled:
            height, width = exemplar.latent.shape[-2:]
            grid = model.encoders.condition_grid(batch["exemplar_condition"], (height, width))
            values = torch.cat([exemplar.latent, grid], dim=1)  # (B, c + L, h, w)
        matched = match(
            condition.features,
            exemplar.features,
            values,
            model.temperature,
            cycle=True,
            cycle_channels=channels,
            clamp=settings.clamp_cosines,
        )
        warp = matched.warp[:, :channels]
        source_warp = model.first_match(condition, [source], clamp=settings.clamp_cosines).warp
        result, source_result, diffused = warp, source_warp, source_warp
        cycles: list[tuple[Tensor, Tensor]] = []
        if number >= warmup:
            start, fresh = draw_start(noise, warp.shape).to(warp), noise("fresh", warp.shape).to(warp)
            joined = JoinedPrediction(
                model.denoiser, source.latent, model.schedule, settings, fresh, self.diffusion_call(number)
            )
            warps = torch.cat([warp, source_warp])
            loop = run_loop(model, settings, condition, both, warps, start, denoiser=joined)
            (result, source_result), diffused = loop.latent.split(size), joined.prediction
            for cycle in loop.cycles:
                cycles.append((cycle[:size], exemplar.latent))
                cycles.append((cycle[size:], source.latent))
        segmentation = None
        if labelled:
            labels = [batch[name].argmax(dim=1, keepdim=True) for name in ("condition", "exemplar_condition")]
            segmentation = Segmentation(matched.warp[:, channels:], *labels)
        return Iteration(
            **encoded_parts(condition, exemplar, source),
            exemplar_cycle=matched.cycles[0],
            rewarp_cycles=cycles,
            diffused=diffused,
            source_result=model.first_stage.decode(source_result),
            exemplar_result=model.first_stage.decode(result),
            segmentation=segmentation,
        )


def encoded_parts(condition: ConditionFeatures, exemplar: Exemplar, source: Exemplar) -> dict[str, Any]:
    """Tensors of the encoded pairs that the released objective compares, by field of `Iteration`."""
    return {
        "condition_features": condition.raw,
        "source_features": source.key,
        "exemplar_features": exemplar.key,
        "source_latent": source.latent,
        "exemplar_latent": exemplar.latent,
    }


def encode(model: MIDMs, batch: Batch, noise: Noise | None = None) -> tuple[ConditionFeatures, Exemplar]:
    """The condition, and exemplar and source as one batch (2B).

    Args:
        noise: to sample a KL first stage's posterior. None: the posterior's mode.
    """
    labels = None
    if model.encoders.form == "released":
        labels = torch.cat([batch["exemplar_condition"], batch["condition"]])
    images, posterior = torch.cat([batch["exemplar"], batch["source"]]), None
    if noise is not None:
        height, width = (-(-side // model.first_stage.factor) for side in images.shape[-2:])
        shape = (len(batch["source"]), model.first_stage.latent_channels, height, width)
        posterior = torch.cat([noise(f"{name}_posterior", shape) for name in ("exemplar", "source")]).to(images)
    condition = model.encode_condition(batch["condition"])
    return condition, model.encode_exemplar(images, labels, noise=posterior)


def draw_start(noise: Noise, shape: Sequence[int]) -> Tensor:
    """Noise of the loop's start for both branches, (2B, c, h, w)."""
    return torch.cat([noise("exemplar_start", shape), noise("source_start", shape)])


def run_loop(
    model: MIDMs,
    settings: InterleaveSettings,
    condition: ConditionFeatures,
    both: Exemplar,
    warps: Tensor,
    noise: Tensor,
    denoiser: Denoiser | None = None,
) -> Interleaved:
    """The loop on exemplar and source branch as one batch. The source branch has mask 0, which keeps its predictions.

    `condition` holds B samples. `both`, `warps` and `noise` (2B, c, h, w) hold the exemplars, then the sources.
    `denoiser` None: the model's.
    """
    double = ConditionFeatures(*(torch.cat([part, part]) for part in condition))
    rematch = model.rematcher(double, [both], settings, cycle=True)
    size = len(warps) // 2

    def keep_source(prediction: Tensor) -> Rewarp:
        rewarp = rematch(prediction)
        return rewarp._replace(mask=torch.cat([rewarp.mask[:size], torch.zeros_like(rewarp.mask[size:])]))

    return interleave(denoiser or model.denoiser, warps, keep_source, model.schedule, settings, noise)


def latent_losses(generated: Sequence[Tensor], latent: Tensor) -> dict[str, Tensor]:
    """L_src and L_perc on the latents (B, c, h, w): source warp, and exemplar warps, against the source's latent."""
    warps = [generated[0], *generated[2:]]
    return {
        "src": F.l1_loss(generated[1], latent),
        "perc": torch.stack([F.l1_loss(warp, latent) for warp in warps]).sum(),
    }
