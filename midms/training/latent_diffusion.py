"""Stage 2: train the unconditional latent diffusion model (Rombach et al. 2022) on a frozen first stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from midms.diffusion.schedule import Schedule, add_noise, ddim_tables, ddim_timesteps, linear_schedule
from midms.diffusion.solvers import ddim_step, predict_x0
from midms.losses.matching import diffusion_loss
from midms.models.denoiser import Denoiser
from midms.models.first_stage import FirstStage
from midms.models.loading import copy_weights, load_first_stage, load_pretrained
from midms.training.export import Exported
from midms.training.optimisation import WeightAverage, step_generator, warmup_cosine


class LatentDiffusionTraining(pl.LightningModule):
    """Predict the noise in latents at uniformly drawn times (Ho et al. 2020, the simple loss).

    Args:
        first_stage: folder of weights that holds a trained first stage ("demo" names the shipped one).
        denoiser: keys of `midms.models.denoiser.DEFAULTS`.
        schedule: keywords of `linear_schedule`.
        learning_rate: of AdamW after `warmup_steps`, then along a cosine to 0.
        weight_decay: of AdamW.
        ema_decay: of the averaged weights, which are the ones validated and exported.
        gradient_clip: largest gradient norm.
        mirror: flip half of the images, which doubles the training set.
        start_from: weights (a folder, or a shipped name) whose denoiser of the same config to start from.
        seed: of the random numbers of each step.
    """

    def __init__(
        self,
        first_stage: str,
        denoiser: Mapping[str, Any],
        schedule: Mapping[str, Any] | None = None,
        learning_rate: float = 1e-4,
        warmup_steps: int = 100,
        weight_decay: float = 0.0,
        ema_decay: float = 0.999,
        gradient_clip: float = 1.0,
        mirror: bool = True,
        start_from: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.first_stage: FirstStage = load_first_stage(first_stage)
        self.denoiser = Denoiser(denoiser)
        if start_from is not None:
            copy_weights(self.denoiser, load_pretrained(start_from), start_from)
        self.average = WeightAverage(self.denoiser, ema_decay)
        self.averaged = Denoiser(denoiser).requires_grad_(False).eval()
        self.schedule_config = dict(schedule or {})
        self.schedule: Schedule = linear_schedule(**self.schedule_config)
        self.learning_rate, self.warmup_steps, self.weight_decay = learning_rate, warmup_steps, weight_decay
        self.gradient_clip, self.mirror, self.seed = gradient_clip, mirror, seed

    def loss(self, denoiser: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the noise predicted at random times."""
        with torch.no_grad():
            if self.mirror:
                flip = torch.rand(len(images), generator=generator, device=generator.device) < 0.5
                images = torch.where(flip.to(images.device).view(-1, 1, 1, 1), images.flip(-1), images)
            latents = self.first_stage.encode(images, scaled=True)  # (B, c, h, w)
        times = torch.randint(
            self.schedule.num_train_timesteps, (len(latents),), generator=generator, device=generator.device
        )
        noise = torch.randn(latents.shape, generator=generator, device=generator.device).to(latents)
        times = times.to(latents.device)
        alpha_bar = self.schedule.alphas_cumprod.to(latents.device)[times].view(-1, 1, 1, 1)
        return diffusion_loss(denoiser(add_noise(latents, noise, alpha_bar), times), noise)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step of AdamW and of the average."""
        generator = step_generator(self.seed, self.global_step, self.global_rank, self.device)
        optimizer = self.optimizers()
        loss = self.loss(self.denoiser, batch["image"], generator)
        optimizer.zero_grad()  # type: ignore[union-attr]
        self.manual_backward(loss)
        norm = nn.utils.clip_grad_norm_(self.denoiser.parameters(), self.gradient_clip)
        optimizer.step()  # type: ignore[union-attr]
        self.lr_schedulers().step()  # type: ignore[union-attr, call-arg]
        self.average.update(self.denoiser)
        self.log_dict({"train/grad_norm": norm, "train/loss": loss.detach()}, prog_bar=True)
        return loss.detach()

    def on_validation_start(self) -> None:
        """Validate the averaged weights."""
        self.average.copy_to(self.averaged)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The loss of the averaged weights on fixed noise."""
        loss = self.loss(self.averaged, batch["image"], step_generator(self.seed, -1 - batch_idx, 0, self.device))
        self.log("val/loss", loss, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW with a warm-up and a cosine to the last step."""
        optimizer = torch.optim.AdamW(self.denoiser.parameters(), self.learning_rate, weight_decay=self.weight_decay)
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
            eps = self.averaged(latents, times[index])
            x0 = predict_x0(latents, eps, tables.alphas[index])
            latents = ddim_step(x0, eps, tables.alphas[index], tables.alphas_prev[index])
        return self.first_stage.decode(latents, scaled=True)

    def pictures(self, batch: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
        """Rows of a picture: photos, their reconstructions, and samples from noise."""
        self.average.copy_to(self.averaged)
        images = batch["image"]
        latents = self.first_stage.encode(images)
        noise = torch.randn(latents.shape, generator=step_generator(self.seed, -1, 0, self.device), device=self.device)
        return [
            ("photo", images),
            ("reconstruction", self.first_stage.decode(latents)),
            ("sample", self.sample(noise)),
            ("sample", self.sample(noise.flip(0).roll(1, -1))),
        ]

    def components(self) -> Exported:
        """What an export saves: the averaged U-Net beside its first stage."""
        self.average.copy_to(self.averaged)
        modules: dict[str, nn.Module] = {"first_stage": self.first_stage.model, "denoiser": self.averaged.unet}
        configs = {"first_stage": self.first_stage.config, "denoiser": self.averaged.config}
        return Exported(modules, configs, {"schedule": self.schedule_config})
