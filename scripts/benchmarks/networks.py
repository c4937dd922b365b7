"""Inputs of the benchmarks: networks of known sizes with random weights, and random pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from midms.models.denoiser import CELEBAHQ_VQ4, CHURCHES_KL8, Denoiser
from midms.models.encoders import CorrespondenceEncoders
from midms.models.first_stage import KL_F8, VQ_F4, FirstStage
from midms.models.midms import MIDMs

Sizes = Mapping[str, Mapping[str, Any]]

#: First stage, U-Net and encoders by name: the two published sizes, the shipped demo's, and one for tests.
SIZES: dict[str, Sizes] = {
    "celebahq": {
        "first_stage": VQ_F4,
        "denoiser": CELEBAHQ_VQ4,
        "encoders": {"latent_channels": 3, "condition_channels": 15},
    },
    "churches": {
        "first_stage": KL_F8,
        "denoiser": CHURCHES_KL8,
        "encoders": {"latent_channels": 4, "condition_channels": 151, "factor": 8},
    },
    "demo": {
        "first_stage": {"ch": 16, "num_res_blocks": 1, "n_embed": 2048, "norm_groups": 8},
        "denoiser": {
            "model_channels": 48,
            "channel_mult": [1, 2, 2],
            "num_res_blocks": 1,
            "attention_resolutions": [2, 4],
            "num_head_channels": 16,
            "norm_groups": 16,
        },
        "encoders": {
            "latent_channels": 3,
            "condition_channels": 15,
            "widths": [32, 64, 96],
            "out_channels": 64,
            "hidden": 32,
        },
    },
    "tiny": {
        "first_stage": {"ch": 8, "ch_mult": [1, 1, 2], "num_res_blocks": 1, "n_embed": 64, "norm_groups": 4},
        "denoiser": {
            "model_channels": 16,
            "channel_mult": [1, 2],
            "num_res_blocks": 1,
            "attention_resolutions": [2],
            "num_head_channels": 8,
            "norm_groups": 8,
        },
        "encoders": {
            "latent_channels": 3,
            "condition_channels": 15,
            "widths": [8, 8, 16],
            "out_channels": 16,
            "hidden": 8,
        },
    },
}


class Pairs(NamedTuple):
    """Random pairs; images in [-1, 1], maps in [0, 1]."""

    condition: Tensor  # (B, L, H, W)
    exemplar: Tensor  # (B, 3, H, W)
    exemplar_condition: Tensor  # (B, L, H, W)
    source: Tensor  # (B, 3, H, W), photo of the condition


def random_model(name: str, device: str | torch.device = "cpu", seed: int = 0) -> MIDMs:
    """A whole model of one of the `SIZES`, in evaluation mode.

    Raises:
        ValueError: unknown size.
    """
    if name not in SIZES:
        raise ValueError(f"--config: got {name!r}, expected one of {', '.join(SIZES)}")
    torch.manual_seed(seed)
    sizes = SIZES[name]
    with torch.device(device):
        stage, denoiser = FirstStage(sizes["first_stage"]), Denoiser(sizes["denoiser"])
        encoders = CorrespondenceEncoders(**sizes["encoders"])
        return MIDMs(stage, encoders, denoiser).eval()


def random_pairs(model: MIDMs, size: int, batch: int, seed: int = 0) -> Pairs:
    """Pairs of squares of `size` pixels."""
    generator = torch.Generator().manual_seed(seed)
    labels = model.encoders.config["condition_channels"]
    shapes = {"condition": labels, "exemplar": 3, "exemplar_condition": labels, "source": 3}
    drawn = {name: torch.rand(batch, n, size, size, generator=generator) for name, n in shapes.items()}
    for name in ("exemplar", "source"):
        drawn[name] = 2 * drawn[name] - 1
    return Pairs(**{name: tensor.to(model.alphas_cumprod.device) for name, tensor in drawn.items()})
