"""Encoders F_X, F_Y, F_iter and the matching head that turn conditions and latents into comparable features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn

from midms.losses.matching import at_least_float32
from midms.models.spade import PaddingMode, SPADEBlock, convolution
from midms.schema import Channels, Widths

Form = Literal["released", "paper"]
ConditionInput = Literal["latent", "nearest", "unshuffle"]
FORMS, CONDITION_INPUTS = get_args(Form), get_args(ConditionInput)


def without_autocast(like: Tensor) -> torch.autocast:
    """Switch autocast off on the device of `like`, of any shape.

    Under `bf16-mixed` the features would be rounded to 8 bits. At a temperature of 0.005 that moves logits by 0.1 and
    changes some of the best matches, so encoders and matching keep the precision of their weights.
    """
    return torch.autocast(like.device.type, enabled=False)


class InstanceNorm2d(nn.InstanceNorm2d):
    """`nn.InstanceNorm2d` with the right gradient in every memory layout.

    For a batch of one, torch (2.15, CPU) reads a channels-last gradient as if it were contiguous and returns wrong
    numbers without an error. The dense matching makes such gradients.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        out = super().forward(input)  # (B, C, H, W)
        if out.requires_grad:
            out.register_hook(Tensor.contiguous)
        return out


class ConditionedEncoder(nn.Module):
    """Three convolution stages at full size, then one SPADE block that sees the condition.

    stage k = 3x3 convolution (no bias), instance norm; LeakyReLU(0.2) *between* stages, none before the block.

    Args:
        in_channels: channels of x.
        condition_channels: channels of the SPADE condition.
        widths: channels after each stage.
        out_channels: channels of the features.
        hidden: hidden width of each SPADE.
        padding_mode: padding of the stages. The released encoders use "zeros", from which a network can infer
            positions. With "reflect" it is easier to match by content. The SPADE block always uses "reflect".
        spectral_norm: normalise every convolution outside SPADE.
    """

    def __init__(
        self,
        in_channels: int,
        condition_channels: int,
        widths: Sequence[int] = (64, 256, 512),
        out_channels: int = 256,
        hidden: int = 128,
        padding_mode: PaddingMode = "zeros",
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        self.stages = len(widths)
        channels = in_channels
        for number, width in enumerate(widths, start=1):
            stage = convolution(channels, width, 3, False, padding_mode, spectral_norm)
            self.add_module(f"layer{number}", nn.Sequential(stage, InstanceNorm2d(width)))
            channels = width
        block_padding: PaddingMode = "reflect" if padding_mode == "zeros" else padding_mode
        self.G_middle_1 = SPADEBlock(channels, out_channels, condition_channels, hidden, block_padding, spectral_norm)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, in_channels, H, W), (B, condition_channels, h, w) -> (B, out_channels, H, W)"""
        x = self.get_submodule("layer1")(x)  # (B, widths[0], H, W)
        for number in range(2, self.stages + 1):
            x = self.get_submodule(f"layer{number}")(F.leaky_relu(x, 0.2))  # (B, widths[number - 1], H, W)
        return self.G_middle_1(x, condition)  # (B, out_channels, H, W)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with reflect padding and instance norm; one PReLU parameter for both activations."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.norm1 = InstanceNorm2d(channels)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.norm2 = InstanceNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        out = self.prelu(self.norm1(self.conv1(x)))  # (B, C, H, W)
        return self.prelu(x + self.norm2(self.conv2(out)))  # (B, C, H, W)


class MatchingHead(nn.Module):
    """Residual blocks shared by both sides, then a 1x1 projection per side.

    Args:
        channels: channels of the input features (including concatenated label maps).
        out_channels: channels of the projections.
        blocks: number of residual blocks.
    """

    def __init__(self, channels: int, out_channels: int = 256, blocks: int = 4) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.theta = nn.Conv2d(channels, out_channels, 1)
        self.phi = nn.Conv2d(channels, out_channels, 1)

    def project_condition(self, features: Tensor) -> Tensor:
        """theta(layer(features)): (B, channels, H, W) -> (B, out_channels, H, W)"""
        return self.theta(self.layer(features))

    def project_exemplar(self, features: Tensor) -> Tensor:
        """phi(layer(features)): (B, channels, H, W) -> (B, out_channels, H, W)"""
        return self.phi(self.layer(features))


class ConditionFeatures(NamedTuple):
    """Features of a condition, from F_X."""

    features: Tensor  # S_X (B, out_channels, H, W), matched against the exemplar's features
    raw: Tensor  # the output of F_X before the head (B, out_channels, H, W)
    grid: Tensor  # D_X, the condition on the latent grid (B, grid_channels, H, W)


class ExemplarFeatures(NamedTuple):
    """Features of an exemplar, from F_Y."""

    features: Tensor  # S_Y (B, out_channels, H, W), matched against S_X
    key: Tensor  # matched against F_iter's features in the loop (B, out_channels, H, W)


class CorrespondenceEncoders(MatchingHead):
    """F_X (`seg_enc`), F_Y (`real_enc`), F_iter (`iter_enc`) and the matching head, in one of two forms.

    form="released" (the released code):
        S_X = theta(layer([F_X(s), s])), S_Y = phi(layer([F_Y(D_Y), s_Y])) with the label maps s, s_Y of condition and
        exemplar; the iterate is encoded as F_iter(r, F_X(s)) and matched against F_Y(D_Y) itself, before the head.
    form="paper" (Eq. 5 and 8):
        S_X = theta(layer(F_X(D_X))), S_Y = phi(layer(F_Y(D_Y))), no label map of the exemplar; the iterate is encoded
        as S_iter = phi(layer(F_iter(r, D_X))), because r is a photo's latent like D_Y, and matched against S_Y.

    Args:
        latent_channels: channels of the latents D_Y and r.
        condition_channels: channels of the condition map (of the latent D_X for `condition_input="latent"`).
        widths: channels of the encoder stages.
        out_channels: channels of all features.
        hidden: hidden width of each SPADE.
        padding_mode: padding of the encoder stages, see `ConditionedEncoder`.
        form: "released" or "paper".
        condition_input: how a condition map becomes D_X, see `condition_grid`. The released form has only "nearest".
        factor: size of the image over size of the latent, needed by "unshuffle".
        spectral_norm: normalise the convolutions of the three encoders.
        iterate: whether to build F_iter, which only models with re-matching need.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the keys of its config
        self,
        latent_channels: Channels,
        condition_channels: Channels,
        widths: Widths = (64, 256, 512),
        out_channels: Channels = 256,
        hidden: Channels = 128,
        padding_mode: PaddingMode = "zeros",
        form: Form = "released",
        condition_input: ConditionInput = "nearest",
        factor: Annotated[int, Interval(ge=1, le=64)] = 4,
        spectral_norm: bool = True,
        iterate: bool = True,
    ) -> None:
        if form not in FORMS:
            raise ValueError(f"form {form!r} is unknown; choose one of {', '.join(FORMS)}")
        if condition_input not in CONDITION_INPUTS:
            raise ValueError(
                f"condition_input {condition_input!r} is unknown; choose one of {', '.join(CONDITION_INPUTS)}"
            )
        if form == "released" and condition_input != "nearest":
            raise ValueError(
                f"form 'released' resizes the condition map by nearest neighbour: condition_input must be 'nearest', "
                f"got {condition_input!r}; use form 'paper' for the other inputs"
            )
        grid_channels = condition_channels * (factor**2 if condition_input == "unshuffle" else 1)
        labels = grid_channels if form == "released" else 0
        super().__init__(out_channels + labels, out_channels)
        self.form, self.condition_input, self.factor = form, condition_input, factor
        self.config: dict[str, Any] = {
            "latent_channels": latent_channels,
            "condition_channels": condition_channels,
            "widths": list(widths),
            "out_channels": out_channels,
            "hidden": hidden,
            "padding_mode": padding_mode,
            "form": form,
            "condition_input": condition_input,
            "factor": factor,
            "spectral_norm": spectral_norm,
        }
        self.grid_channels = grid_channels

        def encoder(channels: int, condition: int) -> ConditionedEncoder:
            return ConditionedEncoder(channels, condition, widths, out_channels, hidden, padding_mode, spectral_norm)

        self.seg_enc = encoder(grid_channels, grid_channels)
        self.real_enc = encoder(latent_channels, latent_channels)
        self.iter_enc = None
        if iterate:
            self.iter_enc = encoder(latent_channels, out_channels if form == "released" else grid_channels)
        else:
            self.config["iterate"] = False  # stored only if it is False: older weights do not have the key

    def condition_grid(self, condition_map: Tensor, latent_size: tuple[int, int]) -> Tensor:
        """D_X: the condition on the latent grid.

        "nearest": every factor-th pixel of the map; lines of one pixel can be lost.
        "unshuffle": the factor x factor pixels of a latent position become its channels, without loss.
        "latent": the map is already E(I_X), the first stage's latent of the condition image.

        Args:
            condition_map: (B, C, H, W)
            latent_size: (h, w); for "unshuffle" (H / factor, W / factor), for "latent" (H, W).

        Returns:
            (B, grid_channels, h, w)
        """
        if self.condition_input == "nearest":
            return F.interpolate(condition_map, size=tuple(latent_size), mode="nearest")
        factor = self.factor if self.condition_input == "unshuffle" else 1
        expected = (latent_size[0] * factor, latent_size[1] * factor)
        if tuple(condition_map.shape[-2:]) != expected:
            raise ValueError(
                f"condition of size {tuple(condition_map.shape[-2:])}, expected {expected} for latents of size "
                f"{tuple(latent_size)} with condition_input {self.condition_input!r}; resize the condition"
            )
        return F.pixel_unshuffle(condition_map, factor) if factor > 1 else condition_map

    def encode_condition(self, grid: Tensor) -> ConditionFeatures:
        """S_X of D_X (B, grid_channels, H, W), the result of `condition_grid`."""
        if grid.shape[1] != self.grid_channels:
            raise ValueError(f"condition with {grid.shape[1]} channels, expected {self.grid_channels}")
        with without_autocast(grid):
            grid = at_least_float32(grid)
            raw = self.seg_enc(grid, grid)  # (B, out, H, W)
            return ConditionFeatures(self.project_condition(self._with_labels(raw, grid)), raw, grid)

    def encode_exemplar(self, latent: Tensor, label_grid: Tensor | None = None) -> ExemplarFeatures:
        """S_Y of an exemplar.

        Args:
            latent: D_Y (B, latent_channels, H, W)
            label_grid: `condition_grid` of the exemplar's label map (B, grid_channels, H, W); required by the
                released form, an error in the paper's.
        """
        if (label_grid is None) == (self.form == "released"):
            needed = (
                "needs the exemplar's label map" if self.form == "released" else "takes no label map of the exemplar"
            )
            raise ValueError(
                f"form {self.form!r} {needed}, got label_grid={'None' if label_grid is None else 'a tensor'}"
            )
        with without_autocast(latent):
            latent = at_least_float32(latent)
            raw = self.real_enc(latent, latent)  # (B, out, H, W)
            features = self.project_exemplar(self._with_labels(raw, label_grid))  # (B, out, H, W)
        return ExemplarFeatures(features, raw if self.form == "released" else features)

    def encode_iterate(self, prediction: Tensor, condition: ConditionFeatures) -> Tensor:
        """S_iter = F_iter(r, condition) (Eq. 8): (B, latent_channels, H, W) -> (B, out_channels, H, W)

        Raises:
            ValueError: these encoders were built without F_iter.
        """
        if self.iter_enc is None:
            raise ValueError("these encoders have no F_iter (iterate: false), so no prediction can be matched again")
        with without_autocast(prediction):
            prediction = at_least_float32(prediction)
            if self.form == "released":
                return self.iter_enc(prediction, condition.raw)
            return self.project_exemplar(self.iter_enc(prediction, condition.grid))  # (B, out, H, W)

    def _with_labels(self, raw: Tensor, labels: Tensor | None) -> Tensor:
        """Features, concatenated with the label maps in the released form."""
        if self.form == "paper" or labels is None:
            return raw
        return torch.cat([raw, labels], dim=1)  # (B, out + L, H, W)
