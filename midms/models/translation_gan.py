"""The baseline of the comparison with MIDMs: match once, then generate with a GAN.

The method is that of "Cross-domain Correspondence Learning for Exemplar-based Image Translation" (CoCosNet, Zhang et
al. 2020, arXiv 2004.05571), written from the paper. The exemplar's pixels are warped by the match of Eq. 5 and 6. The
warp modulates SPADE blocks with positional normalisation, which turn a constant code into the picture.

Two differences from the CoCosNet paper favour the baseline. The warp moves whole blocks of the exemplar's pixels at
full resolution, where the paper reduces the exemplar to the grid of the match. The generator also sees the condition,
unless `condition_width=0`. The encoders and the match are ours, so that only the part after the match is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, TypedDict

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn

from midms.diffusion.interleave import Interleaved, Rewarp, StepRecord
from midms.matching.correspondence import Match
from midms.models.encoded import Exemplar
from midms.models.encoders import ConditionFeatures, CorrespondenceEncoders
from midms.models.first_stage import FirstStage, complete_config, pad_to_multiple
from midms.models.matcher import Matcher, Translation
from midms.models.spade import SPADEBlock
from midms.schema import Channels, Widths


class GeneratorConfig(TypedDict, total=False):
    """Keys of `DEFAULTS`."""

    grid_channels: Channels | None
    factor: Annotated[int, Interval(ge=1, le=64)]
    widths: Widths
    hidden: Channels
    condition_width: Annotated[int, Interval(ge=0, le=16384)]


#: Keys of a generator's config. The first two follow from encoders and first stage.
DEFAULTS: dict[str, Any] = {
    "grid_channels": None,  # channels of the condition on the grid of the match
    "factor": 4,  # pixels per side of one position of that grid
    "widths": [128, 128, 96, 64, 32],  # channels of each SPADE block, each at twice the size of the one before
    "hidden": 32,  # between what steers a SPADE and its gamma, beta
    "condition_width": 8,  # channels that the condition is reduced to; 0: the generator sees the warp alone
}


@dataclass(frozen=True)
class GANSettings:
    """Settings of a translation by matching and generation.

    Attributes:
        num_interleaved_steps: N, the number of generated pictures. 1 is the method itself. With more, each picture but
            the last is matched with the exemplar again by the photo encoder, without training for it (Tables 8, 9).
    """

    num_interleaved_steps: int = 1

    def __post_init__(self) -> None:
        if self.num_interleaved_steps < 1:
            raise ValueError(f"num_interleaved_steps: got {self.num_interleaved_steps}, expected 1 or more")

    def replace(self, **changes: Any) -> GANSettings:
        """A copy with some settings changed, checked again."""
        return replace(self, **changes)

    def with_steps(self, total: int | None = None, calls: int | None = None) -> GANSettings:
        """A copy with another number of generator calls.

        Raises:
            ValueError: a number of diffusion steps, which this method does not have.
        """
        if total is not None:
            raise ValueError(f"matching_gan weights have no diffusion steps, got T = {total}; N alone can be given")
        return self if calls is None else self.replace(num_interleaved_steps=calls)


class Generator(nn.Module):
    """Upsamples a constant code to a picture by SPADE blocks, modulated by the warped exemplar and the condition.

    The first block works at 1 / 2^(blocks - 1) of the picture's size, the last at the picture's size. The modulating
    maps are reduced to each size by averaging. The code is the same at every position, so any size can be generated.

    Args:
        config: keys of `DEFAULTS`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = complete_config(config, DEFAULTS, "generator")
        widths, self.factor, hidden = self.config["widths"], self.config["factor"], self.config["hidden"]
        reduced = self.config["condition_width"]
        self.condition = None
        if reduced:
            self.condition = nn.Conv2d(self.config["grid_channels"], reduced * self.factor**2, 1)
        self.code = nn.Parameter(torch.randn(1, widths[0], 1, 1))
        self.blocks = nn.ModuleList(
            SPADEBlock(before, after, 3 + reduced, hidden, padding_mode="replicate")  # also for a single pixel
            for before, after in pairwise([widths[0], *widths])
        )
        self.to_image = nn.Conv2d(widths[-1], 3, 3, padding=1, padding_mode="replicate")

    def forward(self, warp: Tensor, condition_grid: Tensor) -> Tensor:
        """
        Args:
            warp: the exemplar's pixels after the match, one block per position, (B, 3 * factor^2, h, w).
            condition_grid: D_X, (B, grid_channels, h, w).

        Returns:
            Images in [-1, 1], (B, 3, h * factor, w * factor).
        """
        steering = [F.pixel_shuffle(warp, self.factor)]  # (B, 3, H, W)
        if self.condition is not None:
            steering.append(F.pixel_shuffle(self.condition(condition_grid), self.factor))  # (B, reduced, H, W)
        guide = torch.cat(steering, dim=1)  # (B, 3 + reduced, H, W)
        x = self.code.expand(len(warp), -1, -1, -1)  # (B, C, 1, 1)
        for level, block in zip(range(len(self.blocks) - 1, -1, -1), self.blocks, strict=True):
            size = (-(-guide.shape[-2] // 2**level), -(-guide.shape[-1] // 2**level))
            small = F.adaptive_avg_pool2d(guide, size) if level else guide  # (B, 3 + reduced, H', W')
            x = block(F.interpolate(x, size), small)  # (B, C', H', W')
        return torch.tanh(self.to_image(F.leaky_relu(x, 0.2)))  # (B, 3, H, W)


class MatchingGAN(Matcher):
    """Exemplar-based translation by matching and then generating.

    MIDMs works on latents of the first stage. This model works on pixels, with one block of factor x factor pixels per
    position of the same grid. `Exemplar.latent`, the warp and the result are such blocks, and `decode` arranges them
    as an image. The first stage is used only by the encoders, which match the same features as those of MIDMs.

    Args:
        first_stage: E, frozen.
        encoders: F_X, F_Y and the matching head, in the paper's form; F_iter is not needed.
        generator: built for these encoders (`generator_config`).
        temperature: tau of Eq. 6.
    Raises:
        ValueError: encoders of the released form, which also match the exemplar's condition.
    """

    kind = "matching_gan"
    settings_class = GANSettings

    def __init__(
        self,
        first_stage: FirstStage,
        encoders: CorrespondenceEncoders,
        generator: Generator,
        temperature: float = 0.005,
    ) -> None:
        if encoders.form != "paper":
            raise ValueError(f"matching_gan: encoders.form is {encoders.form!r}, expected 'paper'")
        super().__init__(first_stage, encoders, temperature)
        self.generator = generator

    def values(self, images: Tensor, latent: Tensor) -> Tensor:
        """Pixels of images (B, 3, H, W) as blocks, (B, 3 * factor^2, h, w)."""
        factor = self.first_stage.factor
        return F.pixel_unshuffle(pad_to_multiple(images, factor), factor)

    def decode(self, latent: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Images (B, 3, H, W) of blocks of pixels (B, 3 * factor^2, h, w), clipped, and cropped to `size`."""
        images = F.pixel_shuffle(latent, self.first_stage.factor).clamp(-1, 1)  # (B, 3, H, W)
        return images if size is None else images[..., : size[0], : size[1]]

    def encode_prediction(self, prediction: Tensor, condition: ConditionFeatures) -> Tensor:
        """Features of a generated picture by F_Y, because it is in the exemplar's domain (the paper's appendix).

        Args:
            prediction: blocks of pixels, (B, 3 * factor^2, h, w).
            condition: not used.
        Returns:
            (B, C, h, w)
        """
        del condition
        return self.encode_exemplar(self.decode(prediction)).key

    def generate(self, warp: Tensor, condition: ConditionFeatures) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] from the warped pixels (B, 3 * factor^2, h, w)."""
        dtype = self.generator.code.dtype
        return self.generator(warp.to(dtype), condition.grid.to(dtype))

    def translate(
        self,
        condition: ConditionFeatures,
        exemplars: Sequence[Exemplar],
        settings: GANSettings,
        generators: Sequence[torch.Generator] = (),
        callback: Callable[[StepRecord], None] | None = None,
        first_callback: Callable[[Match], None] | None = None,
    ) -> Translation:
        """Match and generate N times.

        Args:
            condition, exemplars: encoded, of one batch size.
            settings: the number of generations N.
            generators: not used, because nothing is random.
            callback: called after each generation n = N ... 1 with its `StepRecord`, whose `epsilon` is the prediction.
            first_callback: called with the first match, before the generations.
        Returns:
            `Translation` with blocks of pixels (B, 3 * factor^2, h, w); `rewarps` are the matches of generated
            pictures, with masks of 1 everywhere.
        """
        del generators
        first = self.first_match(condition, exemplars)
        if first_callback is not None:
            first_callback(first)
        keys = [e.key for e in exemplars]
        warp, steps = first.warp, []
        for n in range(settings.num_interleaved_steps, 0, -1):
            prediction = F.pixel_unshuffle(self.generate(warp, condition), self.first_stage.factor)
            rewarp = None
            if n > 1:
                matched = self.match(self.encode_prediction(prediction, condition), exemplars, keys)
                rewarp = Rewarp(matched.warp, torch.ones_like(matched.warp[:, :1]))
            steps.append(StepRecord(n, warp, prediction, prediction, rewarp))
            if callback is not None:
                callback(steps[-1])
            warp = warp if rewarp is None else rewarp.warp
        return Translation(prediction, first, Interleaved(prediction, steps))

    def networks(self) -> list[nn.Module]:
        """First stage and generator."""
        return [self.first_stage, self.generator]

    def compiled_networks(self) -> list[nn.Module]:
        """The generator."""
        return [self.generator]

    def facts(self) -> dict[str, Any]:
        """Temperature and kind."""
        return super().facts() | {"kind": self.kind}

    def components(self) -> tuple[dict[str, nn.Module], dict[str, dict[str, Any]]]:
        """Networks by the name they are saved under, and the configs they are built from."""
        modules: dict[str, nn.Module] = {
            "first_stage": self.first_stage.model,
            "encoders": self.encoders,
            "generator": self.generator,
        }
        configs = {
            "first_stage": self.first_stage.config,
            "encoders": self.encoders.config,
            "generator": self.generator.config,
        }
        return modules, configs


def generator_config(encoders: CorrespondenceEncoders, factor: int, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Config of a generator for these encoders, with `changes` to `DEFAULTS`.

    Args:
        factor: of the first stage.
    Raises:
        ValueError: an unknown key, or one that follows from the encoders.
    """
    derived = {"grid_channels": encoders.grid_channels, "factor": factor}
    given = sorted(set(changes) & set(derived))
    if given:
        raise ValueError(f"generator: {', '.join(given)} follow from the encoders; leave them out")
    return complete_config({**changes, **derived}, DEFAULTS, "generator")
