"""The latent diffusion U-Net eps_theta(x, t) as a diffusers class, with the settings of both published models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import torch
from annotated_types import Interval
from torch import Tensor, nn

from midms.models.first_stage import complete_config, pad_to_multiple
from midms.models.narrow_import import narrow_diffusers
from midms.schema import Channels, Count, Share, Widths

if TYPE_CHECKING:
    from diffusers import UNet2DModel

# Keys carry the names of the published LDM files (`unet_config.params`).
DEFAULTS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 224,
    "channel_mult": [1, 2, 3, 4],
    "num_res_blocks": 2,
    "attention_resolutions": [8, 4, 2],  # factors of downsampling at which there is attention
    "num_head_channels": None,  # channels per head, or
    "num_heads": None,  # a constant number of heads
    "use_scale_shift_norm": False,
    "resblock_updown": False,
    "dropout": 0.0,
    "norm_groups": 32,
}


class DenoiserConfig(TypedDict, total=False):
    """Types and ranges of the keys of `DEFAULTS`."""

    in_channels: Channels
    out_channels: Channels
    model_channels: Channels
    channel_mult: Widths
    num_res_blocks: Annotated[int, Interval(ge=1, le=16)]
    attention_resolutions: list[Count]
    num_head_channels: Channels | None
    num_heads: Channels | None
    use_scale_shift_norm: bool
    resblock_updown: bool
    dropout: Share
    norm_groups: Channels


CELEBAHQ_VQ4: dict[str, Any] = {"num_head_channels": 32}
CHURCHES_KL8: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 192,
    "channel_mult": [1, 2, 2, 4, 4],
    "attention_resolutions": [1, 2, 4, 8],
    "num_heads": 8,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
}


def block_types(config: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """diffusers' names of the down and up blocks, for a complete config."""
    with_attention = [2**level in config["attention_resolutions"] for level in range(len(config["channel_mult"]))]
    plain = (
        ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
        if config["resblock_updown"]
        else ("DownBlock2D", "UpBlock2D")
    )
    down = tuple("AttnDownBlock2D" if attention else plain[0] for attention in with_attention)
    up = tuple("AttnUpBlock2D" if attention else plain[1] for attention in reversed(with_attention))
    return down, up


def build_unet(config: Mapping[str, Any]) -> UNet2DModel:
    """U-Net from a plain dict with the keys of `DEFAULTS`.

    Two settings of the published churches model need care. Without them the number of parameters is right, but the
    output is wrong. The class has no argument for a constant number of heads, so `set_head_count` sets it. The class
    drops the norm of the middle attention with scale-shift norm, unless the number of groups is given.

    Raises:
        ValueError: unknown keys, or not exactly one of `num_head_channels` and `num_heads`.
    """
    with narrow_diffusers():
        from diffusers.models.unets.unet_2d import UNet2DModel  # noqa: PLC0415 - seconds to import

    full = complete_config(config, DEFAULTS, "unet")
    if (full["num_head_channels"] is None) == (full["num_heads"] is None):
        raise ValueError(
            f"unet: give either num_head_channels or num_heads, got {full['num_head_channels']} and {full['num_heads']}"
        )
    down, up = block_types(full)
    resample = "resnet" if full["resblock_updown"] else "conv"
    unet: Any = UNet2DModel(
        in_channels=full["in_channels"],
        out_channels=full["out_channels"],
        down_block_types=down,
        up_block_types=up,
        block_out_channels=tuple(full["model_channels"] * multiple for multiple in full["channel_mult"]),
        layers_per_block=full["num_res_blocks"],
        attention_head_dim=full["num_head_channels"] or full["model_channels"] // full["num_heads"],
        downsample_type=resample,
        upsample_type=resample,
        resnet_time_scale_shift="scale_shift" if full["use_scale_shift_norm"] else "default",
        norm_num_groups=full["norm_groups"],
        attn_norm_num_groups=full["norm_groups"],
        dropout=full["dropout"],
        flip_sin_to_cos=True,
        freq_shift=0,
        downsample_padding=1,
        norm_eps=1e-5,
    )
    if full["num_heads"] is not None:
        set_head_count(unet, full["num_heads"])
    return unet


def set_head_count(unet: nn.Module, heads: int) -> None:
    """Give every attention of `unet` the same number of heads, in place.

    Call this again after anything that rebuilds the module, such as diffusers' own `from_pretrained`.
    """
    with narrow_diffusers():
        from diffusers.models.attention_processor import Attention  # noqa: PLC0415 - seconds to import

    for module in unet.modules():
        if isinstance(module, Attention):
            channels = module.to_q.out_features
            if channels % heads:
                raise ValueError(f"unet: {channels} channels cannot be split into {heads} heads")
            module.heads = heads
            module.scale = (channels / heads) ** -0.5


class Denoiser(nn.Module):
    """eps_theta: a noisy latent and its time step to the predicted noise.

    If height or width is not a multiple of `multiple` = 2^(levels - 1), the last row or column of the latent is
    repeated as padding, and the prediction is cropped (`pad_to_multiple`).

    Attributes:
        unet: the `UNet2DModel`; trained weights load into it.
        multiple: see above.
        config: the complete config it was built from.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = complete_config(config, DEFAULTS, "unet")
        self.unet: Any = build_unet(config)
        self.multiple: int = 2 ** (len(self.config["channel_mult"]) - 1)

    def forward(self, x: Tensor, t: Tensor | int) -> Tensor:
        """
        Args:
            x: (B, C, H, W)
            t: time step in 0 .. 999, one for all or (B,)

        Returns:
            eps (B, C, H, W)
        """
        height, width = x.shape[-2:]
        times = torch.as_tensor(t, device=x.device).expand(x.shape[0])  # (B,)
        eps = self.unet(pad_to_multiple(x, self.multiple), times).sample  # (B, C, H', W')
        return eps[..., :height, :width]
