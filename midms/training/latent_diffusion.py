"""Stage 2: train the unconditional latent diffusion model (Rombach et al. 2022) on a frozen first stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from midms.checkpoints.loading import copy_weights, load_first_stage, load_pretrained
from midms.diffusion.schedule import Schedule, add_noise, ddim_tables, ddim_timesteps, linear_schedule, sample_noise
from midms.diffusion.solvers import ddim_step, predict_x0
from midms.losses.matching import at_least_float32, diffusion_loss
from midms.models.denoiser import Denoiser
from midms.models.first_stage import FirstStage
from midms.schema import Count, Keywords, Natural, NonNegative, Positive, Seed, Share, Text
from midms.training.export import TrainedComponents
from midms.training.latents import LatentCache
from midms.training.optimisation import WeightAverage, adamw, configure_unet, warmup_cosine
from midms.training.signals import SIGNALS
from midms.training.stage import Batch, Stage


class LatentDiffusionTraining(Stage):
    """Predict the noise in latents at uniformly drawn times (Ho et al. 2020, the simple loss).

    Args:
        first_stage: folder of weights that holds a trained first stage ("demo" names the shipped one).
        denoiser: keys of `midms.models.denoiser.DEFAULTS`.
        schedule: keywords of `linear_schedule`.
        learning_rate: of AdamW after `warmup_steps`, then along a cosine to 0.
        weight_decay: of AdamW.
        ema_decay: of the averaged weights, which are validated and exported.
        gradient_clip, accumulation, channels_last, seed: see `Stage`.
        gradient_checkpointing: recompute the U-Net's activations in the backward pass instead of keeping them.
        compile: backend of `torch.compile` for the U-Net, "inductor" to speed it up. None: not compiled.
        fused: AdamW in one kernel. None: on CUDA and the CPU.
        mirror: flip half of the images, which doubles the training set.
        max_time: draw only times below this one, for the last part of a training: MIDMs calls the model only at the
            lower noise levels (t <= N/T of all). None: all times.
        start_from: weights (a folder, or a shipped name) with a denoiser of the same config to start from. None:
            random weights.
        latent_cache_gb: memory for latents of images that were seen before, in 10^9 bytes, so that an image is encoded
            once. For data sets whose images repeat exactly, without random crops. 0: no cache.
    """

    def __init__(
        self,
        first_stage: Text,
        denoiser: Annotated[Mapping[str, Any], Keywords("midms.models.denoiser.DenoiserConfig")],
        schedule: Annotated[Mapping[str, Any], Keywords("midms.diffusion.schedule.linear_schedule")] | None = None,
        learning_rate: NonNegative = 1e-4,
        warmup_steps: Natural = 100,
        weight_decay: NonNegative = 0.0,
        ema_decay: Share = 0.999,
        gradient_clip: Positive | None = 1.0,
        accumulation: Count = 1,
        channels_last: bool = False,
        gradient_checkpointing: bool = False,
        compile: Text | None = None,
        fused: bool | None = None,
        mirror: bool = True,
        max_time: Count | None = None,
        start_from: Text | None = None,
        latent_cache_gb: NonNegative = 0.0,
        seed: Seed = 0,
    ) -> None:
        super().__init__(seed, gradient_clip, accumulation, channels_last)
        self.first_stage: FirstStage = load_first_stage(first_stage)
        self.latent_cache = LatentCache(self.first_stage, latent_cache_gb) if latent_cache_gb else None
        self.denoiser = Denoiser(denoiser)
        if start_from is not None:
            copy_weights(self.denoiser, load_pretrained(start_from), start_from)
        self.average = WeightAverage(self.denoiser, ema_decay)
        self.averaged = Denoiser(denoiser).requires_grad_(False).eval()
        self.schedule_config = dict(schedule or {})
        self.schedule: Schedule = linear_schedule(**self.schedule_config)
        self.learning_rate, self.warmup_steps, self.weight_decay = learning_rate, warmup_steps, weight_decay
        self.max_time = self.schedule.num_train_timesteps if max_time is None else max_time
        if self.max_time > self.schedule.num_train_timesteps:
            raise ValueError(f"max_time: got {max_time}, expected at most {self.schedule.num_train_timesteps}")
        self.mirror, self.fused = mirror, fused
        configure_unet(self.denoiser.unet, gradient_checkpointing, compile)

    def loss(self, denoiser: nn.Module, images: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Mean squared error of the noise predicted at random times, a scalar. One generator per sample."""
        with torch.no_grad():
            if self.mirror:
                flip = torch.stack([torch.rand((), generator=one) < 0.5 for one in generators]).to(images.device)
                images = torch.where(flip.view(-1, 1, 1, 1), images.flip(-1), images)  # (B, 3, H, W)
            latents = self.encode(images)  # (B, c, h, w)
        times = torch.cat([torch.randint(self.max_time, (1,), generator=one) for one in generators]).to(
            latents.device
        )  # (B,)
        noise = sample_noise(latents.shape, generators).to(latents)  # (B, c, h, w)
        alpha_bar = self.schedule.alphas_cumprod.to(latents.device)[times].view(-1, 1, 1, 1)
        return diffusion_loss(denoiser(add_noise(latents, noise, alpha_bar), times), noise)

    def encode(self, images: Tensor) -> Tensor:
        """Scaled latents (B, c, h, w) of images (B, 3, H, W), in float32 or wider. From the cache if there is one."""
        if self.latent_cache is not None:
            return self.latent_cache(images)
        return at_least_float32(self.first_stage.encode(images, scaled=True))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of AdamW and of the weight average."""

        def terms(part: Batch, generators: list[torch.Generator]) -> dict[str, Tensor]:
            return {"loss": self.loss(self.denoiser, part["image"], generators)}

        total = self.optimise(self.optimizers(), self.denoiser.parameters(), batch, terms)
        self.step_learning_rates()
        if total is not None:
            self.average.update(self.denoiser)
        self.log_terms(total)

    def on_validation_start(self) -> None:
        """Validate the averaged weights."""
        self.average.copy_to(self.averaged)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The loss of the averaged weights on fixed noise."""
        images = batch["image"]
        loss = self.loss(self.averaged, images, self.validation_generators(batch_idx, len(images)))
        self.add_validation({"loss": loss}, len(images))

    def configure_optimizers(self) -> Any:
        """AdamW with a warm-up and a cosine to the last step."""
        optimizer = adamw(self.denoiser.parameters(), self.learning_rate, self.weight_decay, self.fused, self.device)
        return {
            "optimizer": optimizer,
            "lr_scheduler": warmup_cosine(optimizer, self.warmup_steps, self.trainer.max_steps),
        }

    @torch.no_grad()
    def sample(self, latents: Tensor, steps: int = 50) -> Tensor:
        """Images (B, 3, H, W) from standard normal latents by DDIM."""
        schedule = Schedule(*(table.to(latents.device) for table in self.schedule))
        times = ddim_timesteps(schedule.num_train_timesteps, steps)
        tables = ddim_tables(schedule, times)
        for index in reversed(range(len(times))):
            SIGNALS.check()
            eps = self.averaged(latents, times[index])
            x0 = predict_x0(latents, eps, tables.alphas[index])
            latents = ddim_step(x0, eps, tables.alphas[index], tables.alphas_prev[index])
        return self.first_stage.decode(latents, scaled=True)

    def pictures(self, batch: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
        """Rows of a picture: photos, their reconstructions, and samples from noise."""
        self.average.copy_to(self.averaged)
        images = batch["image"]
        latents = self.first_stage.encode(images)
        noise = sample_noise(latents.shape, self.validation_generators(0, len(images))).to(latents)
        return [
            ("photo", images),
            ("reconstruction", self.first_stage.decode(latents)),
            ("sample", self.sample(noise)),
            ("sample", self.sample(noise.flip(0).roll(1, -1))),
        ]

    def components(self) -> TrainedComponents:
        """Components of an export: the averaged U-Net and its first stage."""
        self.average.copy_to(self.averaged)
        modules: dict[str, nn.Module] = {"first_stage": self.first_stage.model, "denoiser": self.averaged.unet}
        configs = {"first_stage": self.first_stage.config, "denoiser": self.averaged.config}
        return TrainedComponents(modules, configs, {"schedule": self.schedule_config})
