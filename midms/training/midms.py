"""Stage 3: train the correspondence alone, then correspondence and denoiser together through the interleaved loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from midms.checkpoints.loading import load_encoders, load_first_stage, load_pretrained
from midms.diffusion.schedule import sample_noise
from midms.diffusion.settings import InterleaveSettings
from midms.losses.contextual import RELEASED_STYLE_WEIGHTS
from midms.losses.objective import RELEASED_SOURCE_WEIGHTS, ReleasedLossWeights
from midms.losses.perceptual import FirstStageFeatures
from midms.models.encoders import CorrespondenceEncoders
from midms.models.matcher import Translation
from midms.models.midms import MIDMs
from midms.schema import Count, Keywords, Natural, NonNegative, Positive, Seed, Share, Text
from midms.training.export import TrainedComponents
from midms.training.objectives import PaperTrainingObjective, ReleasedTrainingObjective
from midms.training.optimisation import (
    WeightAverage,
    adamw,
    averaged,
    configure_unet,
    multi_step,
    step_generator,
    warmup_cosine,
)
from midms.training.stage import Batch, Stage, merge_loss_weights
from midms.training.terms import FeatureTerms, require_layers
from midms.visualize import condition_image, overlay

#: Weights of Table 6, and of `warp`, the warped-condition loss, which only the release has (for churches).
WEIGHTS = {"perc": 0.002, "src": 1.0, "style": 1.0, "cycle": 1.0, "dom": 10.0, "diff": 1.0, "warp": 0.0}
#: Said at the first step with all terms, which makes the loss jump.
WARMUP_OVER = "warm-up over: from here the loss has other terms"
#: A place that no sample has, for random numbers that all samples of a step share.
SHARED = 65_536

#: Keys of the layers' weights, and their defaults.
_LAYER_DEFAULTS = {"source_layers": RELEASED_SOURCE_WEIGHTS, "style_layers": RELEASED_STYLE_WEIGHTS}


class MIDMsTraining(Stage):
    """The paper's training: the correspondence alone for `warmup_steps`, then all networks end to end.

    Args:
        weights: folder with the pretrained first stage and denoiser ("demo" names the shipped one). If the folder holds
            a "refiner" (the denoiser before an earlier fine-tuning), training starts from the refiner.
        encoders: keywords of `CorrespondenceEncoders`.
        encoders_from: folder of weights with encoders to start from, after an earlier warm-up. None: random encoders.
        schedule: keywords of `linear_schedule`.
        temperature: tau of Eq. 6.
        interleave: keywords of `InterleaveSettings`. The paper trains with T = 16, N = 4.
        loss: "paper" for Eq. 12 to 17, "released" for the objective of the released code (`midms.losses.objective`).
            Differences of the released loop are keys of `interleave` (configs/released.yaml has both).
        loss_weights: changes to `WEIGHTS`.
        features: feature network phi of Eq. 14 to 16. None: the frozen first stage's encoder.
        source_layers: layer -> weight in L_src. The released loss fixes its own.
        perceptual_layer: layer of L_perc.
        style_layers: layer -> weight in L_style. The released loss fixes its own.
        warmup_steps: steps with the denoiser frozen and no diffusion (paper: two epochs).
        warmup_space: "image" decodes the warps and compares their features phi, as in the paper. "latent" compares the
            latents, to which the first stage's encoder would map the decoded warps, at a tenth of the cost.
        warmup_rematch: train F_iter in the warm-up too, by matching the first warp again. The terms "cycle" and "warp"
            then count both matches.
        learning_rate, denoiser_learning_rate: of AdamW for the correspondence and the denoiser.
        weight_decay: of AdamW.
        milestones, gamma: multi-step decay. []: constant rates. None: the rates fall along a cosine to 0.
        ema_decay: keep averaged weights of encoders and denoiser, and validate and export those. None: no averaging.
        gradient_checkpointing: recompute the U-Net's activations in the backward pass instead of keeping them. "auto":
            only where the counted memory of a step (`midms.training.memory`) does not fit the device.
        compile: backend of `torch.compile` for the U-Net, "inductor" to speed it up. None: not compiled.
        fused: AdamW in one kernel. None: on CUDA and the CPU.
        gradient_clip, accumulation, channels_last, seed: see `Stage`.
    """

    def __init__(
        self,
        weights: Text,
        encoders: Annotated[Mapping[str, Any], Keywords("midms.models.encoders.CorrespondenceEncoders")],
        encoders_from: Text | None = None,
        schedule: Annotated[Mapping[str, Any], Keywords("midms.diffusion.schedule.linear_schedule")] | None = None,
        temperature: Positive = 0.005,
        interleave: Annotated[Mapping[str, Any], Keywords("midms.diffusion.settings.InterleaveSettings")] | None = None,
        loss: Literal["paper", "released"] = "paper",
        loss_weights: Mapping[str, NonNegative] | None = None,
        features: nn.Module | None = None,
        source_layers: Mapping[str, NonNegative] | None = None,
        perceptual_layer: Text = "relu4_2",
        style_layers: Mapping[str, NonNegative] | None = None,
        warmup_steps: Natural = 10000,
        warmup_space: Literal["image", "latent"] = "image",
        warmup_rematch: bool = False,
        learning_rate: NonNegative = 3e-6,
        denoiser_learning_rate: NonNegative = 1.5e-7,
        weight_decay: NonNegative = 0.05,
        milestones: list[Natural] | None = None,
        gamma: Share = 0.3,
        gradient_clip: Positive | None = None,
        ema_decay: Share | None = None,
        gradient_checkpointing: bool | Literal["auto"] = False,
        compile: Text | None = None,
        fused: bool | None = None,
        accumulation: Count = 1,
        channels_last: bool = False,
        seed: Seed = 0,
    ) -> None:
        super().__init__(seed, gradient_clip, accumulation, channels_last)
        self.loss_weights = merge_loss_weights(WEIGHTS, loss_weights)
        if warmup_space not in ("image", "latent"):
            raise ValueError(f"warmup_space: got {warmup_space!r}, expected 'image' or 'latent'")
        network = CorrespondenceEncoders(**encoders)
        if encoders_from is not None:
            network.load_state_dict(load_encoders(encoders_from).state_dict())
        stage = load_first_stage(weights)
        self.model = MIDMs(stage, network, load_pretrained(weights), load_pretrained(weights), schedule, temperature)
        self.settings = InterleaveSettings(**{"refine_steps": 0, **(interleave or {})})
        self.features = FirstStageFeatures(stage.model) if features is None else features
        layers = {"source_layers": source_layers, "style_layers": style_layers}
        warmup = {"warmup_space": warmup_space, "warmup_rematch": warmup_rematch}
        self.objective = self._objective(loss, perceptual_layer, layers, warmup)
        self.warmup_steps = warmup_steps
        self.learning_rate, self.denoiser_learning_rate = learning_rate, denoiser_learning_rate
        self.weight_decay, self.milestones, self.gamma = weight_decay, milestones, gamma
        self.fused = fused
        self.average = None if ema_decay is None else WeightAverage(self.trained, ema_decay)
        # `midms.training.run` resolves "auto", which needs the whole config; without it the safe choice is made
        configure_unet(self.model.denoiser.unet, bool(gradient_checkpointing), compile)

    def _objective(
        self,
        loss: str,
        perceptual_layer: str,
        layers: Mapping[str, Mapping[str, float] | None],
        warmup: Mapping[str, Any],
    ) -> PaperTrainingObjective | ReleasedTrainingObjective:
        """The objective named by `loss`. The released one fixes the constructor's keys in `layers` and `warmup`."""
        if loss == "paper":
            source, style = (dict(layers[key] or default) for key, default in _LAYER_DEFAULTS.items())
            terms = FeatureTerms(self.features, source, style, perceptual_layer)
            return PaperTrainingObjective(self.model, self.settings, terms, self.loss_weights, **warmup)
        if loss != "released":
            raise ValueError(f"loss: got {loss!r}, expected 'paper' or 'released'")
        _check_released(self.model.encoders, layers, warmup)
        asked = [*RELEASED_SOURCE_WEIGHTS, *RELEASED_STYLE_WEIGHTS, perceptual_layer]
        require_layers(self.features, asked, "loss 'released' needs VGG-19 with all of its layers relux_2")
        weights = ReleasedLossWeights(**self.loss_weights, perceptual_layer=perceptual_layer)
        return ReleasedTrainingObjective(self.model, self.settings, self.features, weights, self.diffusion_call)

    @property
    def trained(self) -> nn.ModuleDict:
        """Modules that are trained and averaged. Not stored as an attribute: a checkpoint holds each weight once."""
        return nn.ModuleDict({"encoders": self.model.encoders, "denoiser": self.model.denoiser})

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of AdamW on the weighted sum."""
        step = self.global_step
        self.model.denoiser.requires_grad_(step >= self.warmup_steps)

        def terms(part: Batch, generators: list[torch.Generator]) -> dict[str, Tensor]:
            def noise(name: str, shape: Sequence[int]) -> Tensor:
                return sample_noise(shape, generators)

            return self.objective(part, noise, step, self.warmup_steps)

        optimizer: Any = self.optimizers()
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        total = self.optimise(optimizer, weights, batch, terms)
        self.step_learning_rates()
        if self.average is not None and total is not None:
            self.average.update(self.trained)
        self.log_terms(total)

    def diffusion_call(self, step: int) -> int:
        """Index of the loop's call whose time the released diffusion term uses, drawn once per step for all samples."""
        shared = step_generator(self.seed, step, SHARED)
        return int(torch.randint(max(self.settings.num_interleaved_steps, 1), (), generator=shared))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """PSNR of warp and result against the ground truth, where the data have one."""
        if "truth" not in batch:
            return
        with averaged(self.trained, self.average):
            translation = self.translate(batch, batch_idx)
        self.add_accuracy(self.model, translation, batch["truth"])

    @torch.no_grad()
    def translate(self, batch: Batch, batch_idx: int = 0) -> Translation:
        """Latents of the first warp, the loop and the result."""
        model, count = self.model, len(batch["condition"])
        labels = batch["exemplar_condition"] if model.encoders.form == "released" else None
        exemplar = model.encode_exemplar(batch["exemplar"], labels)
        condition = model.encode_condition(batch["condition"])
        return model.translate(condition, [exemplar], self.settings, self.validation_generators(batch_idx, count))

    def pictures(self, batch: Batch) -> list[tuple[str, Tensor]]:
        """Rows of a picture: condition, exemplar, warp, predictions of up to four steps, last mask, result, truth."""
        with averaged(self.trained, self.average):
            translation = self.translate(batch)
        decode, loop = self.model.decode, translation.loop
        rows = [("condition", condition_image(batch["condition"])), ("exemplar", batch["exemplar"])]
        rows.append(("warp", decode(translation.first.warp)))
        total = len(loop.predictions)
        for position in range(0, total - 1, max(1, -(-(total - 1) // 4))):  # the last prediction is the result
            rows.append((f"n = {total - position}", decode(loop.predictions[position])))
        result = decode(translation.latent)
        if loop.rewarps:
            rows.append(("mask", overlay(result, loop.rewarps[-1].mask)))
        rows.append(("result", result))
        return [*rows, ("truth", batch["truth"])] if "truth" in batch else rows

    def changes(self) -> dict[int, str]:
        """The end of the warm-up."""
        return {self.warmup_steps: WARMUP_OVER} if self.warmup_steps else {}

    def configure_optimizers(self) -> Any:
        """AdamW with the paper's two groups."""
        groups = [
            {"params": list(self.model.encoders.parameters()), "lr": self.learning_rate},
            {"params": list(self.model.denoiser.parameters()), "lr": self.denoiser_learning_rate},
        ]
        optimizer = adamw(groups, self.learning_rate, self.weight_decay, self.fused, self.device)
        if self.milestones is not None:
            return {"optimizer": optimizer, "lr_scheduler": multi_step(optimizer, self.milestones, self.gamma)}
        return {"optimizer": optimizer, "lr_scheduler": warmup_cosine(optimizer, 50, self.trainer.max_steps)}

    def components(self) -> TrainedComponents:
        """Components of an export: the four networks and the pipeline's settings."""
        model = self.model
        if self.average is not None:
            self.average.copy_to(self.trained)
        return TrainedComponents(*model.components(), model.facts() | {"settings": asdict(self.settings)})


def _check_released(
    network: CorrespondenceEncoders, layers: Mapping[str, Mapping[str, float] | None], warmup: Mapping[str, Any]
) -> None:
    """Refuse keys that the released loss fixes, instead of ignoring them."""
    if network.form != "released":
        raise ValueError(f"loss 'released' needs encoders.form 'released', got {network.form!r}")
    if any(layers.values()) or warmup["warmup_space"] != "image" or warmup["warmup_rematch"]:
        raise ValueError(
            "loss 'released' has its own source_layers and style_layers and warms up on images: leave out "
            "source_layers, style_layers, warmup_space and warmup_rematch, or take loss 'paper'"
        )
