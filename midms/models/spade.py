"""Building blocks of the matching encoders: positional norm, SPADE, and the spectral norm they were trained with."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
PADDINGS: dict[PaddingMode, type[nn.Module]] = {
    "zeros": nn.ZeroPad2d,
    "reflect": nn.ReflectionPad2d,
    "replicate": nn.ReplicationPad2d,
    "circular": nn.CircularPad2d,
}


def pad_layer(padding_mode: PaddingMode, width: int = 1) -> nn.Module:
    """Layer that pads `width` pixels on every side, by a `padding_mode` of `nn.Conv2d`.

    Raises:
        ValueError: `padding_mode` is not "zeros", "reflect", "replicate" or "circular".
    """
    if padding_mode not in PADDINGS:
        raise ValueError(f"padding_mode {padding_mode!r} is unknown; choose one of {', '.join(PADDINGS)}")
    return PADDINGS[padding_mode](width)


def positional_norm(x: Tensor, epsilon: float = 1e-5) -> Tensor:
    """PONO (Li et al., 2019): zero mean, unit variance over the channels of each position.

    Args:
        x: (B, C, H, W), C >= 2; the variance is unbiased (C - 1).

    Returns:
        (B, C, H, W)
    """
    mean = x.mean(dim=1, keepdim=True)  # (B, 1, H, W)
    variance = x.var(dim=1, keepdim=True, unbiased=True)  # (B, 1, H, W)
    return (x - mean) / torch.sqrt(variance + epsilon)


class PONO(nn.Module):
    """`positional_norm` as a layer without parameters."""

    def __init__(self, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return positional_norm(x, self.epsilon)


class SpectralNormConv2d(nn.Conv2d):
    """Convolution with the weight W / sigma, sigma = u·(W v): spectral norm in its first, "legacy" order.

    In train mode every forward first does one power iteration, v <- normalise(Wᵀ u) and *then* u <- normalise(W v).
    In eval mode the stored u, v are used even if they have not converged. Published files contain them, so sigma is
    part of the weights. (`torch.nn.utils.parametrizations.spectral_norm` iterates u first, and names its tensors
    differently.)

    State: `weight_orig` (out, in, k, k), `weight_u` (out,), `weight_v` (in·k·k,), and an optional `bias`.
    """

    weight_u: Tensor
    weight_v: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        padding: int = 0,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, bias=bias, padding_mode=padding_mode)
        self.weight_orig = nn.Parameter(self.weight.detach())
        del self.weight
        flat = self.weight_orig.detach().flatten(1)  # (out, in·k·k)
        self.register_buffer("weight_u", F.normalize(flat.new_ones(flat.shape[0]), dim=0))
        self.register_buffer("weight_v", F.normalize(flat.new_ones(flat.shape[1]), dim=0))
        # a new layer starts near its true sigma, so that eval mode works before training
        for _ in range(0 if flat.is_meta else 10):
            self._power_iteration(flat)

    @torch.no_grad()
    def _power_iteration(self, flat: Tensor) -> None:
        self.weight_v.copy_(F.normalize(flat.T @ self.weight_u, dim=0, eps=1e-12))
        self.weight_u.copy_(F.normalize(flat @ self.weight_v, dim=0, eps=1e-12))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight_orig
        flat = weight.flatten(1)  # (out, in·k·k)
        with torch.autocast(x.device.type, enabled=False):  # sigma has the precision of the weights
            if self.training:
                self._power_iteration(flat.detach())
            u, v = self.weight_u.clone(), self.weight_v.clone()  # the buffers may change before backward
            sigma = torch.dot(u, flat @ v)
        return self._conv_forward(x, weight / sigma, self.bias)


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    bias: bool = True,
    padding_mode: PaddingMode = "zeros",
    spectral_norm: bool = True,
) -> nn.Conv2d:
    """Convolution with the input's size, optionally with spectral norm."""
    layer = SpectralNormConv2d if spectral_norm else nn.Conv2d
    pad_layer(padding_mode)  # one error for a misspelt mode
    return layer(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias, padding_mode=padding_mode)


class SPADE(nn.Module):
    """Spatially-adaptive normalisation on a positional norm: PONO(x)·(1 + gamma(c)) + beta(c).

    Args:
        channels: channels of x.
        condition_channels: channels of the condition c.
        hidden: channels between c and gamma, beta.
        padding_mode: padding of the three convolutions.
    """

    def __init__(
        self, channels: int, condition_channels: int, hidden: int = 128, padding_mode: PaddingMode = "reflect"
    ) -> None:
        super().__init__()
        self.param_free_norm = PONO()
        self.mlp_shared = nn.Sequential(pad_layer(padding_mode), nn.Conv2d(condition_channels, hidden, 3), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1, padding_mode=padding_mode)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1, padding_mode=padding_mode)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """
        Args:
            x: (B, channels, H, W)
            condition: (B, condition_channels, h, w), resized to (H, W) by nearest neighbour.

        Returns:
            (B, channels, H, W)
        """
        if condition.shape[-2:] != x.shape[-2:]:
            condition = F.interpolate(condition, size=x.shape[-2:], mode="nearest")  # (B, Cc, H, W)
        hidden = self.mlp_shared(condition)  # (B, hidden, H, W)
        gamma, beta = self.mlp_gamma(hidden), self.mlp_beta(hidden)  # 2 x (B, C, H, W)
        return self.param_free_norm(x) * (1 + gamma) + beta


class SPADEBlock(nn.Module):
    """Residual block of two SPADE-normalised 3x3 convolutions, with a 1x1 shortcut if the width changes.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        condition_channels: channels of the SPADE condition.
        hidden: hidden width of each SPADE.
        padding_mode: padding of every 3x3 convolution, those inside SPADE included.
        spectral_norm: normalise `conv_0`, `conv_1` and `conv_s`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        condition_channels: int,
        hidden: int = 128,
        padding_mode: PaddingMode = "reflect",
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        middle = min(in_channels, out_channels)
        self.conv_0 = convolution(in_channels, middle, 3, True, padding_mode, spectral_norm)
        self.conv_1 = convolution(middle, out_channels, 3, True, padding_mode, spectral_norm)
        self.norm_0 = SPADE(in_channels, condition_channels, hidden, padding_mode)
        self.norm_1 = SPADE(middle, condition_channels, hidden, padding_mode)
        self.learned_shortcut = in_channels != out_channels
        if self.learned_shortcut:
            self.conv_s = convolution(in_channels, out_channels, 1, False, "zeros", spectral_norm)
            self.norm_s = SPADE(in_channels, condition_channels, hidden, padding_mode)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, in_channels, H, W), (B, condition_channels, h, w) -> (B, out_channels, H, W)"""
        shortcut = self.conv_s(self.norm_s(x, condition)) if self.learned_shortcut else x  # (B, out, H, W)
        middle = self.conv_0(F.leaky_relu(self.norm_0(x, condition), 0.2))  # (B, middle, H, W)
        return shortcut + self.conv_1(F.leaky_relu(self.norm_1(middle, condition), 0.2))
