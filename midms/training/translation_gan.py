"""Training of the GAN baseline: correspondence, generator and discriminator together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midms.checkpoints.loading import load_encoders, load_first_stage
from midms.data.module import data_of
from midms.losses.adversarial import (
    MultiScaleDiscriminator,
    hinge_discriminator_loss,
    hinge_generator_loss,
    multi_scale,
)
from midms.losses.contextual import RELEASED_STYLE_WEIGHTS
from midms.losses.matching import at_least_float32, cycle_loss, domain_loss, warped_condition_loss
from midms.losses.objective import RELEASED_SOURCE_WEIGHTS
from midms.losses.perceptual import FirstStageFeatures
from midms.models.encoders import CorrespondenceEncoders
from midms.models.matcher import Translation
from midms.models.translation_gan import GANSettings, Generator, MatchingGAN, generator_config
from midms.schema import Count, Keywords, Natural, NonNegative, Positive, Seed, Share, Text
from midms.training.errors import TrainingError
from midms.training.export import TrainedComponents
from midms.training.optimisation import WeightAverage, averaged, warmup_cosine
from midms.training.stage import Batch, Stage, merge_loss_weights
from midms.training.terms import FeatureTerms, warp_with_maps, weighted_sum
from midms.visualize import condition_image

#: Terms of the loss and their default weights. Shared terms have the weights of `midms.training.midms`.
WEIGHTS = {"feat": 1.0, "perc": 0.002, "style": 1.0, "adv": 1.0, "cycle": 1.0, "dom": 10.0, "warp": 0.0}
#: Adam's betas. No momentum, because the discriminator changes with every step.
BETAS = (0.0, 0.999)


class Generated(NamedTuple):
    """Result of one forward pass."""

    terms: dict[str, Tensor]  # unweighted, and "loss", their weighted sum
    images: Tensor  # the translations, (B, 3, H, W)


@dataclass(frozen=True)
class MatchingGANObjective:
    """One forward pass and its terms, by the names in `WEIGHTS`:

        feat    L_feat, as Eq. 14: phi of a picture made from a pseudo exemplar pair (a condition and a distortion of
                its own photo) against phi of the photo
        perc    L_perc, Eq. 15
        style   L_context, Eq. 16
        adv     hinge loss of the generator
        cycle   L_reg: the exemplar's pixels return from their own warp, as Eq. 13
        dom     L_domain, Eq. 12
        warp    the exemplar's warped condition maps against the condition, as in `midms.training.midms`. Not in the
                paper. The term keeps both methods from matching by position

    Attributes:
        weights: by term.
        features: L_feat (as L_src), L_perc and L_context (as L_style).
    """

    model: MatchingGAN
    discriminator: MultiScaleDiscriminator
    features: FeatureTerms
    weights: Mapping[str, float]

    def __call__(self, batch: Batch, generators: Sequence[torch.Generator]) -> Generated:
        """Translate a batch, and reconstruct its photos from distortions of themselves, as one batch of 2B.

        Args:
            generators: one per sample, for its distortion.
        """
        model, size = self.model, len(batch["source"])
        pseudo = distort(batch["source"], generators)
        condition = model.encode_condition(batch["condition"])
        encoded = model.encode_exemplar(torch.cat([batch["exemplar"], pseudo, batch["source"]]))  # 3B
        exemplar = encoded.map(lambda part: part[:size])
        distorted = encoded.map(lambda part: part[size : 2 * size])
        source = encoded.map(lambda part: part[2 * size :])
        grid = (condition.grid.shape[-2], condition.grid.shape[-1])
        maps = F.adaptive_avg_pool2d(
            torch.cat([batch["exemplar_condition"], batch["condition"]]), grid
        )  # (2B, L, h, w)
        warp, warped_maps, cycled = warp_with_maps(condition, exemplar, maps[:size], model.temperature)
        pseudo_warp = model.first_match(condition, [distorted]).warp
        twice = condition._replace(grid=torch.cat([condition.grid, condition.grid]))
        images = model.generate(torch.cat([warp, pseudo_warp]), twice)  # (2B, 3, H, W)
        images = images[..., : batch["source"].shape[-2], : batch["source"].shape[-1]]
        terms = {
            "dom": domain_loss(condition.features, source.features),
            "cycle": cycle_loss(cycled, exemplar.latent),
            "warp": warped_condition_loss(warped_maps, maps[size:]),
            "adv": multi_scale(
                [hinge_generator_loss(at_least_float32(logits)) for logits in self.discriminator(images[:size])]
            ),
        }
        by_features = self.features(images, batch)
        terms |= {"feat": by_features["src"], "perc": by_features["perc"], "style": by_features["style"]}
        return Generated(terms | {"loss": weighted_sum(self.weights, terms)}, images[:size])


def distort(images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Pseudo exemplars that have to be matched by content, because they no longer line up with their condition.

    Photos are turned by up to 10 degrees, scaled by 0.9 to 1.1 and moved by up to a tenth. Half of them are mirrored.

    Args:
        images: (B, 3, H, W).
        generators: one per sample.
    Returns:
        (B, 3, H, W). Outside the photo the border is repeated.
    """
    drawn = torch.stack([torch.rand(5, generator=one) for one in generators]) * 2 - 1  # (B, 5) in [-1, 1]
    angle, scale = drawn[:, 0] * torch.pi / 18, 1 + drawn[:, 1] / 10
    mirror = torch.where(drawn[:, 2] < 0, -1.0, 1.0)
    ratio = images.shape[-2] / images.shape[-1]  # a rotation keeps shapes in pixels, not in units of a side
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = [torch.stack([mirror * cos, -sin * ratio, drawn[:, 3] / 5], dim=1)]
    rows.append(torch.stack([mirror * sin / ratio, cos, drawn[:, 4] / 5], dim=1))
    grid = F.affine_grid(torch.stack(rows, dim=1).to(images), list(images.shape), align_corners=False)  # (B, H, W, 2)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


class MatchingGANTraining(Stage):
    """Train matching, generator and discriminator together from the first step (Zhang et al. 2020).

    Args:
        weights: folder with the first stage that the encoders use ("demo" names the shipped one).
        encoders: keywords of `CorrespondenceEncoders` of the form "paper". F_iter is left out.
        encoders_from: folder of weights with encoders to start from. None: random encoders.
        generator: changes to `midms.models.translation_gan.DEFAULTS`.
        discriminator: keywords of `MultiScaleDiscriminator`.
        temperature: tau of Eq. 6.
        loss_weights: changes to `WEIGHTS`.
        features: feature network phi. None: the frozen first stage's encoder.
        feature_layers: layer -> weight in L_feat.
        perceptual_layer: layer of L_perc.
        style_layers: layer -> weight in L_context.
        learning_rate, discriminator_learning_rate: of Adam with betas 0 and 0.999, for encoders and generator, and for
            the discriminator. Both rise for `warmup_steps`, then fall along a cosine to 0 at the last step.
        ema_decay: keep averaged weights of encoders and generator, and validate and export those. None: no averaging.
        gradient_clip: see `Stage`. The discriminator's gradient is clipped to the same norm.
        accumulation, channels_last, seed: see `Stage`.
    """

    def __init__(
        self,
        weights: Text,
        encoders: Annotated[Mapping[str, Any], Keywords("midms.models.encoders.CorrespondenceEncoders")],
        encoders_from: Text | None = None,
        generator: Annotated[Mapping[str, Any], Keywords("midms.models.translation_gan.GeneratorConfig")] | None = None,
        discriminator: Annotated[Mapping[str, Any], Keywords("midms.losses.adversarial.MultiScaleDiscriminator")]
        | None = None,
        temperature: Positive = 0.005,
        loss_weights: Mapping[str, NonNegative] | None = None,
        features: nn.Module | None = None,
        feature_layers: Mapping[str, NonNegative] | None = None,
        perceptual_layer: Text = "relu4_2",
        style_layers: Mapping[str, NonNegative] | None = None,
        learning_rate: NonNegative = 1e-4,
        discriminator_learning_rate: NonNegative = 4e-4,
        warmup_steps: Natural = 0,
        ema_decay: Share | None = None,
        gradient_clip: Positive | None = None,
        accumulation: Count = 1,
        channels_last: bool = False,
        seed: Seed = 0,
    ) -> None:
        super().__init__(seed, gradient_clip, accumulation, channels_last)
        merged_weights = merge_loss_weights(WEIGHTS, loss_weights)
        network = CorrespondenceEncoders(**{**encoders, "iterate": False})
        if encoders_from is not None:
            state = load_encoders(encoders_from).state_dict()
            network.load_state_dict({key: state[key] for key in state if not key.startswith("iter_enc.")})
        stage = load_first_stage(weights)
        made = Generator(generator_config(network, stage.factor, generator or {}))
        self.model = MatchingGAN(stage, network, made, temperature)
        self.discriminator = MultiScaleDiscriminator(**(discriminator or {}))
        self.features = FirstStageFeatures(stage.model) if features is None else features
        self.objective = MatchingGANObjective(
            self.model,
            self.discriminator,
            FeatureTerms(
                self.features,
                dict(feature_layers or RELEASED_SOURCE_WEIGHTS),
                dict(style_layers or RELEASED_STYLE_WEIGHTS),
                perceptual_layer,
            ),
            merged_weights,
        )
        self.learning_rate, self.discriminator_learning_rate = learning_rate, discriminator_learning_rate
        self.warmup_steps = warmup_steps
        self.average = None if ema_decay is None else WeightAverage(self.trained, ema_decay)

    @property
    def trained(self) -> nn.ModuleDict:
        """Trained modules that are averaged and exported. No attribute, so that a checkpoint holds each weight once."""
        return nn.ModuleDict({"encoders": self.model.encoders, "generator": self.model.generator})

    def on_train_start(self) -> None:
        """Refuse pictures that are too small for the discriminator, before the first step.

        Raises:
            TrainingError: the pictures are too small.
        """
        size, smallest = getattr(data_of(self.trainer).train, "size", None), self.discriminator.smallest
        if size is not None and size < smallest:
            raise TrainingError(f"model.params.discriminator: pictures of {size} pixels, expected {smallest} or more; "
                                "take fewer scales or num_layers")  # fmt: skip

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of encoders and generator, then one of the discriminator on the generated pictures."""
        optimizers: Any = self.optimizers()
        made: list[Tensor] = []

        def terms(part: Batch, generators: list[torch.Generator]) -> dict[str, Tensor]:
            found = self.objective(part, generators)
            made.append(found.images.detach())
            return found.terms

        self.discriminator.requires_grad_(False)
        total = self.optimise(optimizers[0], self.trained.parameters(), batch, terms)
        self.discriminator.requires_grad_(True)
        if total is not None:
            total["discriminator"] = self.discriminator_step(batch["source"], torch.cat(made))
            if self.average is not None:
                self.average.update(self.trained)
        self.step_learning_rates()
        self.log_terms(total)

    def discriminator_step(self, photos: Tensor, made: Tensor) -> Tensor:
        """One step of the discriminator on photos and translations, (B, 3, H, W) each.

        The step is left out if its gradient is not finite.

        Returns:
            The discriminator's loss over all ranks, a scalar.
        """
        logits = [scale.float().chunk(2) for scale in self.discriminator(torch.cat([photos, made]))]
        loss = multi_scale([hinge_discriminator_loss(real, fake) for real, fake in logits])
        optimizers: Any = self.optimizers(use_pl_optimizer=False)  # Lightning's wrapper would count this step
        optimizer = optimizers[1]
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.unscale(optimizer)
        norm = nn.utils.clip_grad_norm_(self.discriminator.parameters(), self.gradient_clip or float("inf"))
        self.step_scaled(optimizer, bool(torch.isfinite(norm)))
        optimizer.zero_grad()
        return self._mean_over_ranks({"loss": loss})["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """PSNR of warp and result against the ground truth, where the data have one."""
        if "truth" not in batch:
            return
        with averaged(self.trained, self.average):
            found = self.translate(batch)
        self.add_accuracy(self.model, found, batch["truth"])

    @torch.no_grad()
    def translate(self, batch: Batch, generations: int = 1) -> Translation:
        """The first warp and the pictures generated from it and, for more generations, from later warps."""
        model = self.model
        condition, exemplar = model.encode_condition(batch["condition"]), model.encode_exemplar(batch["exemplar"])
        return model.translate(condition, [exemplar], GANSettings(generations))

    def pictures(self, batch: Batch) -> list[tuple[str, Tensor]]:
        """Rows of a picture: condition, exemplar, warp, result, the result of matching it again, truth."""
        with averaged(self.trained, self.average):
            found = self.translate(batch, generations=2)
        rows = [("condition", condition_image(batch["condition"])), ("exemplar", batch["exemplar"])]
        rows.append(("warp", self.model.decode(found.first.warp)))
        names = ("result", "matched again")
        rows += [(name, self.model.decode(x)) for name, x in zip(names, found.loop.predictions, strict=True)]
        return [*rows, ("truth", batch["truth"])] if "truth" in batch else rows

    def configure_optimizers(self) -> Any:
        """Adam for encoders and generator, Adam for the discriminator, with one schedule."""
        rates = (self.learning_rate, self.discriminator_learning_rate)
        networks = (self.trained, self.discriminator)
        optimizers = [
            torch.optim.Adam(network.parameters(), rate, betas=BETAS)
            for network, rate in zip(networks, rates, strict=True)
        ]
        return optimizers, [warmup_cosine(one, self.warmup_steps, self.trainer.max_steps) for one in optimizers]

    def components(self) -> TrainedComponents:
        """Components of an export: first stage, encoders and generator, and the pipeline's settings."""
        if self.average is not None:
            self.average.copy_to(self.trained)
        return TrainedComponents(*self.model.components(), self.model.facts() | {"settings": asdict(GANSettings())})
