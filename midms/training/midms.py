"""Stage 3: train the correspondence, then correspondence and denoiser together through the interleaved loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midms.diffusion.interleave import Interleaved, Rewarp, interleave
from midms.diffusion.settings import InterleaveSettings
from midms.evaluation.truth import psnr
from midms.losses.contextual import RELEASED_STYLE_POOLING, RELEASED_STYLE_WEIGHTS, style_loss
from midms.losses.matching import (
    cycle_loss,
    diffusion_loss,
    domain_loss,
    perceptual_loss,
    source_loss,
    warped_condition_loss,
)
from midms.losses.perceptual import FirstStageFeatures
from midms.matching.correspondence import match
from midms.models.encoders import ConditionFeatures, CorrespondenceEncoders, ExemplarFeatures
from midms.models.loading import load_encoders, load_first_stage, load_pretrained
from midms.models.midms import Exemplar, MIDMs
from midms.training.export import Exported
from midms.training.optimisation import WeightAverage, multi_step, step_generator, warmup_cosine
from midms.visualize import condition_image, overlay

#: Table 6, and `warp`: the warped-condition loss, which is not in the paper (the release has it for churches).
WEIGHTS = {"perc": 0.002, "src": 1.0, "style": 1.0, "cycle": 1.0, "dom": 10.0, "diff": 1.0, "warp": 0.0}
#: Layers of VGG-19 in L_src and their weights.
SOURCE_LAYERS = {"relu1_2": 1 / 32, "relu2_2": 1 / 16, "relu3_2": 1 / 8, "relu4_2": 1 / 4, "relu5_2": 1.0}


class MIDMsTraining(pl.LightningModule):
    """The paper's training: `warmup_steps` of the correspondence alone, then everything end to end.

    Args:
        weights: folder with the pretrained first stage and denoiser ("demo" names the shipped one). Where it holds a
            "refiner" (the denoiser before an earlier fine-tuning), training starts from that.
        encoders: keywords of `CorrespondenceEncoders`.
        encoders_from: folder of weights whose encoders to start from, after an earlier warm-up; none starts afresh.
        schedule: keywords of `linear_schedule`.
        temperature: tau of Eq. 6.
        interleave: keywords of `InterleaveSettings`; the paper trains with T = 16, N = 4.
        loss_weights: changes to `WEIGHTS`.
        features: feature network phi of Eq. 14 to 16; none takes the frozen first stage's encoder.
        source_layers: layer -> weight for L_src.
        perceptual_layer: layer of L_perc.
        style_layers: layer -> weight for L_style.
        warmup_steps: steps with the denoiser frozen and no diffusion (paper: two epochs).
        warmup_space: "image" decodes the warps and compares phi, as in the paper; "latent" compares the latents
            themselves, which is what the first stage's encoder would say of the decoded warp, at a tenth of the cost.
        warmup_rematch: let F_iter learn in the warm-up too, by matching the first warp again.
        learning_rate, denoiser_learning_rate: of AdamW for the correspondence and the denoiser.
        weight_decay: of AdamW.
        milestones, gamma: multi-step decay; without milestones the rates fall along a cosine to 0.
        gradient_clip: largest gradient norm; none clips nothing.
        ema_decay: keep averaged weights of encoders and denoiser, and validate and export those; none keeps none.
        gradient_checkpointing: compute the U-Net's inside again on the way back instead of keeping it.
        seed: of the random numbers of each step.
    """

    def __init__(
        self,
        weights: str,
        encoders: Mapping[str, Any],
        encoders_from: str | None = None,
        schedule: Mapping[str, Any] | None = None,
        temperature: float = 0.005,
        interleave: Mapping[str, Any] | None = None,
        loss_weights: Mapping[str, float] | None = None,
        features: nn.Module | None = None,
        source_layers: Mapping[str, float] | None = None,
        perceptual_layer: str = "relu4_2",
        style_layers: Mapping[str, float] | None = None,
        warmup_steps: int = 10000,
        warmup_space: str = "image",
        warmup_rematch: bool = False,
        learning_rate: float = 3e-6,
        denoiser_learning_rate: float = 1.5e-7,
        weight_decay: float = 0.05,
        milestones: list[int] | None = None,
        gamma: float = 0.3,
        gradient_clip: float | None = None,
        ema_decay: float | None = None,
        gradient_checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        unknown = set(loss_weights or {}) - set(WEIGHTS)
        if unknown:
            raise ValueError(f"loss_weights: unknown {sorted(unknown)}, expected some of {', '.join(WEIGHTS)}")
        if warmup_space not in ("image", "latent"):
            raise ValueError(f"warmup_space: got {warmup_space!r}, expected 'image' or 'latent'")
        self.automatic_optimization = False
        network = CorrespondenceEncoders(**encoders)
        if encoders_from is not None:
            network.load_state_dict(load_encoders(encoders_from).state_dict())
        stage = load_first_stage(weights)
        self.model = MIDMs(stage, network, load_pretrained(weights), load_pretrained(weights), schedule, temperature)
        self.settings = InterleaveSettings(**{"refine_steps": 0, **(interleave or {})})
        self.loss_weights = WEIGHTS | dict(loss_weights or {})
        self.features = FirstStageFeatures(stage.model) if features is None else features
        self.source_layers = dict(source_layers or SOURCE_LAYERS)
        self.perceptual_layer = perceptual_layer
        self.style_layers = dict(style_layers or RELEASED_STYLE_WEIGHTS)
        self.warmup_steps, self.warmup_space, self.warmup_rematch = warmup_steps, warmup_space, warmup_rematch
        self.learning_rate, self.denoiser_learning_rate = learning_rate, denoiser_learning_rate
        self.weight_decay, self.milestones, self.gamma = weight_decay, milestones, gamma
        self.gradient_clip, self.seed = gradient_clip, seed
        self.average = None if ema_decay is None else WeightAverage(self.trained, ema_decay)
        if gradient_checkpointing:
            self.model.denoiser.unet.enable_gradient_checkpointing()

    @property
    def trained(self) -> nn.ModuleDict:
        """What is trained and averaged (no attribute, so that a checkpoint holds each weight once)."""
        return nn.ModuleDict({"encoders": self.model.encoders, "denoiser": self.model.denoiser})

    def losses(self, batch: dict[str, Tensor], generator: torch.Generator, warming: bool) -> dict[str, Tensor]:
        """Every term of Eq. 12 to 17 that the step uses, unweighted, by its name in `WEIGHTS`."""
        model, size = self.model, len(batch["source"])
        condition = model.encode_condition(batch["condition"])
        both = model.encode_exemplar(
            torch.cat([batch["exemplar"], batch["source"]]),
            torch.cat([batch["exemplar_condition"], batch["condition"]]) if model.encoders.form == "released" else None,
        )
        exemplar, source = _half(both, slice(0, size)), _half(both, slice(size, None))
        maps = F.adaptive_avg_pool2d(
            torch.cat([batch["exemplar_condition"], batch["condition"]]), (both.latent.shape[-2], both.latent.shape[-1])
        )
        found = match(
            condition.features,
            exemplar.features.features,
            torch.cat([exemplar.latent, maps[:size]], dim=1),
            model.temperature,
            cycle=True,
            cycle_channels=exemplar.latent.shape[1],
        )
        warp, warped_maps = found.warp.split([exemplar.latent.shape[1], maps.shape[1]], dim=1)
        source_warp = match(condition.features, source.features.features, source.latent, model.temperature).warp
        terms = {
            "dom": domain_loss(condition.features, source.features.features),
            "cycle": cycle_loss(found.cycle, exemplar.latent),  # type: ignore[arg-type]
            "warp": warped_condition_loss(warped_maps, maps[size:]),
        }
        if warming:
            generated = [warp, source_warp]
            if self.warmup_rematch:
                again = model.rematcher(condition, [exemplar], self.settings, cycle=True)(warp.detach())
                terms["cycle"] = terms["cycle"] + cycle_loss(again.cycle, exemplar.latent)  # type: ignore[arg-type]
                generated.append(again.warp)
        else:
            loop, noise = self.run_loop(condition, both, torch.cat([warp, source_warp]), generator)
            generated = list(loop.latent.split(size))
            for cycle in loop.cycles:
                terms["cycle"] = terms["cycle"] + cycle_loss(cycle, both.latent)  # type: ignore[arg-type]
            terms["diff"] = torch.stack([diffusion_loss(eps[size:], noise[size:]) for eps in loop.epsilons]).mean()
        if warming and self.warmup_space == "latent":
            return terms | self.latent_losses(generated, source.latent)
        return terms | self.image_losses(torch.cat(generated[:2]), batch, style=not warming)

    def run_loop(
        self, condition: ConditionFeatures, both: Exemplar, warps: Tensor, generator: torch.Generator
    ) -> tuple[Interleaved, Tensor]:
        """The loop on exemplar and source branch as one batch; the source branch keeps its predictions."""
        double = ConditionFeatures(*(torch.cat([part, part]) for part in condition))
        rematch = self.model.rematcher(double, [both], self.settings, cycle=True)
        size = len(warps) // 2

        def keep_source(prediction: Tensor) -> Rewarp:
            rewarp = rematch(prediction)
            return rewarp._replace(mask=torch.cat([rewarp.mask[:size], torch.zeros_like(rewarp.mask[size:])]))

        noise = torch.randn(warps.shape, generator=generator, device=generator.device).to(warps)
        return interleave(self.model.denoiser, warps, keep_source, self.model.schedule, self.settings, noise), noise

    def latent_losses(self, generated: list[Tensor], latent: Tensor) -> dict[str, Tensor]:
        """L_src and L_perc on the latents: source warp, and exemplar warps, against the source's latent."""
        warps = [generated[0], *generated[2:]]
        return {
            "src": F.l1_loss(generated[1], latent),
            "perc": torch.stack([F.l1_loss(warp, latent) for warp in warps]).sum(),
        }

    def image_losses(self, latents: Tensor, batch: dict[str, Tensor], style: bool) -> dict[str, Tensor]:
        """L_src, L_perc and L_style of the decoded exemplar and source branches, latents (2B, c, h, w)."""
        size = len(batch["source"])
        maps = self.features(self.model.first_stage.decode(latents))
        with torch.no_grad():
            targets = self.features(torch.cat([batch["exemplar"], batch["source"]]))
        layers, weights = list(self.source_layers), list(self.source_layers.values())
        terms = {
            "src": source_loss([maps[k][size:] for k in layers], [targets[k][size:] for k in layers], weights),
            "perc": perceptual_loss(maps[self.perceptual_layer][:size], targets[self.perceptual_layer][size:]),
        }
        if style and self.loss_weights["style"] > 0:
            generated, exemplars = ({k: m[k][:size] for k in self.style_layers} for m in (maps, targets))
            terms["style"] = style_loss(generated, exemplars, self.style_layers, RELEASED_STYLE_POOLING)
        return terms

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step of AdamW on the weighted sum."""
        warming = self.global_step < self.warmup_steps
        self.model.denoiser.requires_grad_(not warming)
        generator = step_generator(self.seed, self.global_step, self.global_rank, self.device)
        terms = self.losses(batch, generator, warming)
        loss = torch.stack([self.loss_weights[name] * value for name, value in terms.items()]).sum()
        optimizer = self.optimizers()
        optimizer.zero_grad()  # type: ignore[union-attr]
        self.manual_backward(loss)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]  # type: ignore[union-attr]
        norm = nn.utils.clip_grad_norm_(parameters, self.gradient_clip or float("inf"))
        optimizer.step()  # type: ignore[union-attr]
        self.lr_schedulers().step()  # type: ignore[union-attr, call-arg]
        if self.average is not None:
            self.average.update(self.trained)
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()} | {"train/grad_norm": norm})
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss.detach()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """PSNR to the truth of warp and result, where the data know the truth."""
        if "truth" not in batch:
            return
        with self.averaged():
            warp, result = self.translate(batch)[:2]
        self.log("val/psnr_warp", psnr(warp, batch["truth"]).mean(), sync_dist=True)
        self.log("val/psnr", psnr(result, batch["truth"]).mean(), prog_bar=True, sync_dist=True)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Use the averaged weights inside the block, where there are any."""
        if self.average is None:
            yield
            return
        kept = {name: parameter.detach().clone() for name, parameter in self.trained.named_parameters()}
        self.average.copy_to(self.trained)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.trained.named_parameters():
                    parameter.copy_(kept[name])

    @torch.no_grad()
    def translate(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Images of the first warp and the result, (B, 3, H, W), and the masks of the loop."""
        model = self.model
        labels = batch["exemplar_condition"] if model.encoders.form == "released" else None
        exemplar = model.encode_exemplar(batch["exemplar"], labels)
        condition = model.encode_condition(batch["condition"])
        generators = [step_generator(self.seed, -1 - i) for i in range(len(batch["condition"]))]
        out = model.translate(condition, [exemplar], self.settings, generators)
        return model.decode(out.first.warp), model.decode(out.latent), [r.mask for r in out.loop.rewarps]

    def pictures(self, batch: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
        """Rows of a picture: condition, exemplar, warp, last mask, result, truth."""
        with self.averaged():
            warp, result, masks = self.translate(batch)
        rows = [("condition", condition_image(batch["condition"])), ("exemplar", batch["exemplar"]), ("warp", warp)]
        if masks:
            rows.append(("mask", overlay(result, masks[-1])))
        rows.append(("result", result))
        return [*rows, ("truth", batch["truth"])] if "truth" in batch else rows

    def configure_optimizers(self) -> Any:
        """AdamW with the paper's two groups."""
        groups = [
            {"params": list(self.model.encoders.parameters()), "lr": self.learning_rate},
            {"params": list(self.model.denoiser.parameters()), "lr": self.denoiser_learning_rate},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=self.weight_decay)
        if self.milestones:
            return {"optimizer": optimizer, "lr_scheduler": multi_step(optimizer, self.milestones, self.gamma)}
        return {"optimizer": optimizer, "lr_scheduler": warmup_cosine(optimizer, 50, self.trainer.max_steps)}

    def components(self) -> Exported:
        """What an export saves: the four networks and what the pipeline needs to know."""
        model = self.model
        if self.average is not None:
            self.average.copy_to(self.trained)
        facts = {
            "settings": asdict(self.settings),
            "schedule": model.schedule_config,
            "temperature": model.temperature,
        }
        return Exported(*model.components(), facts)


def _half(both: Exemplar, part: slice) -> Exemplar:
    return Exemplar(both.latent[part], ExemplarFeatures(*(tensor[part] for tensor in both.features)))
