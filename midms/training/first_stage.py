"""Stage 1: train the autoencoder (VQ-GAN or KL) in whose latent space diffusion and matching work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn

from midms.checkpoints.loading import copy_weights, load_first_stage
from midms.data.module import data_of
from midms.diffusion.schedule import sample_noise
from midms.losses.adversarial import (
    PatchDiscriminator,
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from midms.losses.latents import PatchComponents, decorrelation_loss, effective_rank, patch_components
from midms.losses.pyramid import laplacian_loss
from midms.metrics.truth import psnr, sharpness
from midms.models.first_stage import FirstStage
from midms.schema import Count, Keywords, Natural, NonNegative, Positive, Seed, Text
from midms.training.export import TrainedComponents
from midms.training.optimisation import warmup_cosine
from midms.training.stage import Batch, Stage


class FirstStageTraining(Stage):
    """Reconstruction, codebook or KL term, and optionally features and a patch discriminator (Esser et al. 2021).

    Args:
        first_stage: keys of `midms.models.first_stage.DEFAULTS`.
        learning_rate: of Adam, after `warmup_steps`, falling along a cosine to 0 at the last step.
        l1_weight, l2_weight: of the pixel losses.
        kl_weight: of the KL term (KL first stages only).
        perceptual: a feature network (see `midms.losses.perceptual`), with weight `perceptual_weight`.
        quantise_from: step at which a VQ first stage begins to quantise. Until then the decoder sees the latents
            themselves. After the step before it, the codebook is set to k-means centres of latents, so that no code
            starts unused. 0: quantise from the start, with the codebook as it is.
        laplacian_weight: of the L1 distance between Laplacian pyramids, which counts edges and texture as
            much as areas.
        decorrelation_weight: of the squared correlations between latent channels. Without this term a small
            autoencoder may make its channels copies of one another. Such latents cannot be averaged, and so not
            warped (docs/training.md shows how to see this).
        anchor_weight: of the squared distance between the latents and the leading principal components of the image's
            own patches, so that latents lie near local colour and structure. Falls linearly to a tenth at
            the last step.
        discriminator_from: step at which the discriminator's gradient joins in. None: no discriminator.
        discriminator_weight: of the adversarial term, on top of the adaptive weight.
        discriminator: keywords of `PatchDiscriminator`.
        gradient_clip, accumulation, channels_last, seed: see `Stage`.
        start_from: weights (a folder, or a shipped name) of the same config to start from. None: random weights.
        decoder_only: train only the layers behind the codebook. The latents stay as they are, so that models trained
            on them stay valid (as with LDM's later kl-f8 decoders).
    """

    def __init__(
        self,
        first_stage: Annotated[Mapping[str, Any], Keywords("midms.models.first_stage.FirstStageConfig")],
        learning_rate: NonNegative = 4.5e-6,
        warmup_steps: Natural = 0,
        l1_weight: NonNegative = 1.0,
        l2_weight: NonNegative = 0.0,
        kl_weight: NonNegative = 1e-6,
        perceptual: nn.Module | None = None,
        perceptual_weight: NonNegative = 1.0,
        quantise_from: Natural = 0,
        laplacian_weight: NonNegative = 0.0,
        decorrelation_weight: NonNegative = 0.0,
        anchor_weight: NonNegative = 0.0,
        discriminator_from: Natural | None = None,
        discriminator_weight: NonNegative = 0.5,
        discriminator: Annotated[Mapping[str, Any], Keywords("midms.losses.adversarial.PatchDiscriminator")]
        | None = None,
        gradient_clip: Positive | None = 1.0,
        accumulation: Count = 1,
        channels_last: bool = False,
        start_from: Text | None = None,
        decoder_only: bool = False,
        seed: Seed = 0,
    ) -> None:
        super().__init__(seed, gradient_clip, accumulation, channels_last)
        self.first_stage = FirstStage(first_stage)
        if start_from is not None:
            copy_weights(self.first_stage, load_first_stage(start_from), start_from)
        if decoder_only:
            self.first_stage.requires_grad_(False)
            self.first_stage.model.decoder.requires_grad_(True)
            self.first_stage.model.post_quant_conv.requires_grad_(True)
        self.learning_rate, self.warmup_steps = learning_rate, warmup_steps
        self.l1_weight, self.l2_weight, self.kl_weight = l1_weight, l2_weight, kl_weight
        self.perceptual, self.perceptual_weight = perceptual, perceptual_weight
        self.quantise_from, self.discriminator_from = quantise_from, discriminator_from
        self.discriminator_weight = discriminator_weight
        self.discriminator = None if discriminator_from is None else PatchDiscriminator(**(discriminator or {}))
        self.laplacian_weight, self.decorrelation_weight = laplacian_weight, decorrelation_weight
        self.anchor_weight = anchor_weight
        self.components_of_patches: PatchComponents | None = None  # of the first training images, set by `setup`

    def setup(self, stage: str) -> None:
        """The anchor's components, from the first training images: the same in every part of a resumed run."""
        super().setup(stage)
        if self.anchor_weight and stage == "fit":
            images = self._training_images(96)
            factor, channels = self.first_stage.factor, self.first_stage.latent_channels
            self.components_of_patches = patch_components(images, factor, channels)

    def forward(self, images: Tensor, step: int, generators: list[torch.Generator]) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction of images (B, 3, H, W), the codebook or KL term, and the latents (B, C, h, w).

        One generator per sample, for KL's noise. The latents are those before codes or noise.
        """
        if self.first_stage.kind == "kl":
            mean, std = self.first_stage.moments(images)  # (B, C, h, w) each
            latents = mean + std * sample_noise(mean.shape, generators).to(mean)
            kl = 0.5 * (mean**2 + std**2 - 1 - 2 * std.log()).sum(dim=(1, 2, 3)).mean()
            return self.first_stage.decode(latents), self.kl_weight * kl, mean
        latents = self.first_stage.encode(images)  # (B, C, h, w)
        if step < self.quantise_from:
            return self.first_stage.decode(latents, quantise=False), latents.new_zeros(()), latents
        codes = self.first_stage.quantise(latents)
        return self.first_stage.decode(codes.latents, quantise=False), codes.loss, latents

    def reconstruction_loss(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Pixel, pyramid and feature terms."""
        loss = self.l1_weight * F.l1_loss(reconstruction, images) + self.l2_weight * F.mse_loss(reconstruction, images)
        if self.laplacian_weight:
            loss = loss + self.laplacian_weight * laplacian_loss(reconstruction, images)
        if self.perceptual is not None:
            got, want = self.perceptual(reconstruction), self.perceptual(images)
            loss = loss + self.perceptual_weight * sum(F.l1_loss(got[k], want[k].detach()) for k in want) / len(want)
        return loss

    def latent_loss(self, latents: Tensor, images: Tensor, step: int) -> dict[str, Tensor]:
        """Decorrelation and anchor of the latents (B, C, h, w) of images (B, 3, H, W), weighted."""
        terms: dict[str, Tensor] = {}
        if self.decorrelation_weight:
            terms["decorrelation"] = self.decorrelation_weight * decorrelation_loss(latents)
        if self.components_of_patches is not None:
            components = PatchComponents(*(part.to(images) for part in self.components_of_patches))
            weight = self.anchor_weight * (1 - 0.9 * step / self.trainer.max_steps)
            terms["anchor"] = weight * F.mse_loss(latents, components(images))
        return terms

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of the autoencoder and, from `discriminator_from` on, of the discriminator."""
        step = self.global_step
        optimizers = self.optimizers()
        optimizer = optimizers[0] if isinstance(optimizers, list) else optimizers
        critic = self.discriminator if step >= (self.discriminator_from or 0) else None
        decoded: list[Tensor] = []

        def terms(part: Batch, generators: list[torch.Generator]) -> dict[str, Tensor]:
            reconstruction, regularisation, latents = self(part["image"], step, generators)
            decoded.append(reconstruction.detach())
            terms = self.terms(part["image"], reconstruction, regularisation, critic)
            for name, value in self.latent_loss(latents, part["image"], step).items():
                terms |= {"loss": terms["loss"] + value, name: value}
            return terms

        total = self.optimise(optimizer, self.first_stage.parameters(), batch, terms)
        self.step_learning_rates()
        if critic is not None and total is not None:
            total["discriminator"] = self.discriminator_step(critic, batch["image"], torch.cat(decoded))
        # at the end of this step, because its checkpoint, validation, picture and export quantise already
        if self.global_step == self.quantise_from and self.first_stage.kind == "vq":
            self.set_codebook()
        self.log_terms(total)

    def terms(
        self, images: Tensor, reconstruction: Tensor, regularisation: Tensor, critic: PatchDiscriminator | None
    ) -> dict[str, Tensor]:
        """Terms of the autoencoder's loss, their sum, and the PSNR of the reconstruction."""
        reconstruction_loss = self.reconstruction_loss(reconstruction, images)
        loss = reconstruction_loss + regularisation
        # a step whose loss is not finite is left out, and the critic must not see its images
        if critic is not None and bool(torch.isfinite(reconstruction_loss)):
            generator_loss = hinge_generator_loss(critic(reconstruction))
            weight = adaptive_weight(
                reconstruction_loss, generator_loss, self.first_stage.model.decoder.conv_out.weight
            )
            loss = loss + self.discriminator_weight * weight * generator_loss
        accuracy = psnr(reconstruction.detach().float(), images).mean()
        return {"loss": loss, "reconstruction": reconstruction_loss, "regularisation": regularisation, "psnr": accuracy}

    def discriminator_step(self, critic: PatchDiscriminator, images: Tensor, reconstruction: Tensor) -> Tensor:
        """One step of the discriminator on real and decoded images. Returns its loss over all ranks."""
        loss = hinge_discriminator_loss(critic(images), critic(reconstruction))
        optimizers: Any = self.optimizers(use_pl_optimizer=False)  # Lightning's wrapper would count this step
        optimizer = optimizers[1]
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.unscale(optimizer)
        self.step_scaled(optimizer)
        return self._mean_over_ranks({"loss": loss})["loss"]

    @torch.no_grad()
    def set_codebook(self, images: int = 96) -> None:
        """Standardise the latents, then set the codes to k-means centres of the first training images' latents.

        Mean and covariance of the channels are folded into the 1x1 convolutions around the codebook. This changes no
        reconstruction, and gives the diffusion latents of unit covariance.
        """
        batch = self._training_images(images).to(self.device)
        latents = torch.cat([self.first_stage.encode(part) for part in batch.split(16)])  # (images, C, h, w)
        mean, whitening = self.first_stage.standardise(latents)
        vectors = ((latents.movedim(1, -1) - mean) @ whitening.mT).flatten(0, 2).float().cpu().numpy()  # (N, C)
        embedding = self.first_stage.model.quantize.embedding.weight
        centres, _ = kmeans2(vectors, len(embedding), iter=5, minit="points", missing="warn", rng=self.seed)
        embedding.copy_(torch.as_tensor(centres))

    def _training_images(self, count: int) -> Tensor:
        """The first training images, (at most `count`, 3, H, W)."""
        dataset: Any = data_of(self.trainer).train
        return torch.stack([dataset[index]["image"] for index in range(min(count, len(dataset)))])

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """PSNR and sharpness of the reconstruction, and the effective rank of the batch's latents."""
        images = batch["image"]
        generators = self.validation_generators(batch_idx, len(images))
        reconstruction, _, latents = self(images, self.global_step, generators)
        reconstruction = reconstruction.clamp(-1, 1).float()
        values = {
            "psnr": psnr(reconstruction, images).mean(),
            "sharpness": sharpness(reconstruction, images).mean(),
            "effective_rank": effective_rank(latents),
        }
        self.add_validation(values, len(images))

    def configure_optimizers(self) -> Any:
        """Adam as in LDM (betas 0.5, 0.9), with a warm-up and a cosine to the last step."""
        trained = [weight for weight in self.first_stage.parameters() if weight.requires_grad]
        optimizer = torch.optim.Adam(trained, self.learning_rate, betas=(0.5, 0.9))
        schedule = warmup_cosine(optimizer, self.warmup_steps, self.trainer.max_steps)
        if self.discriminator is None:
            return {"optimizer": optimizer, "lr_scheduler": schedule}
        critic = torch.optim.Adam(self.discriminator.parameters(), self.learning_rate, betas=(0.5, 0.9))
        return [optimizer, critic], [schedule]

    def pictures(self, batch: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
        """Rows of a picture: input and reconstruction, (B, 3, H, W) in [-1, 1]."""
        images = batch["image"]
        generators = self.validation_generators(0, len(images))
        return [("input", images), ("reconstruction", self(images, self.global_step, generators)[0])]

    def changes(self) -> dict[int, str]:
        """The first steps with codes and with the discriminator."""
        changes = {}
        if self.first_stage.kind == "vq" and self.quantise_from:
            changes[self.quantise_from] = "from here latents are quantised, and the loss has the codebook's term"
        if self.discriminator_from:
            joined = "from here the loss has the discriminator's term"
            both = changes.get(self.discriminator_from)
            changes[self.discriminator_from] = joined if both is None else f"{both}; {joined}"
        return changes

    def components(self) -> TrainedComponents:
        """What an export saves: modules and their configs by name."""
        return TrainedComponents({"first_stage": self.first_stage.model}, {"first_stage": self.first_stage.config}, {})
