"""FLOP count of a translation, and the highest rate of a device."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.matching_blocks import CEILING_SIZE, ceiling
from benchmarks.networks import random_model
from benchmarks.released_sampling import plain_attention
from benchmarks.timing import time_once
from midms.diffusion.settings import InterleaveSettings
from midms.models.midms import MIDMs


def count_flop(function: Callable[[], object]) -> int:
    """FLOP of matrix products and convolutions in a call, 2 per multiply-add."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


def sampling_flop(config: str, size: int) -> dict[str, float]:
    """FLOP of one lean translation with the released schedule by part, counted on tensors without storage.

    Args:
        config: one of `networks.SIZES`. size: pixels per side.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        model = random_model(config)
        plain_attention(model)  # the counter covers its products
        return _parts(model, size)


def _parts(model: MIDMs, size: int) -> dict[str, float]:
    settings = InterleaveSettings.released()
    side = size // model.first_stage.factor
    latent = torch.empty(1, model.first_stage.latent_channels, side, side)
    labels = torch.empty(1, model.encoders.config["condition_channels"], size, size)
    grid = model.encoders.condition_grid(labels, (side, side))
    condition = model.encoders.encode_condition(grid)
    rewarps = len(settings.rewarped_steps())
    calls = settings.num_interleaved_steps + settings.refine_steps
    encoders = [
        count_flop(lambda: model.encoders.encode_condition(grid)),
        count_flop(lambda: model.encoders.encode_exemplar(latent, grid)),
        rewarps * count_flop(lambda: model.encoders.encode_iterate(latent, condition)),
    ]
    return {
        "unet": calls * count_flop(lambda: model.denoiser(latent, torch.zeros(1))),
        "decode": count_flop(lambda: model.first_stage.model.decoder(latent)),
        "encode": count_flop(lambda: model.first_stage.encode(torch.empty(1, 3, size, size))),
        "encoders": sum(encoders),
        "matching": (1 + rewarps) * 2 * side**4 * model.encoders.config["out_channels"],
    }


def product_rate(device: str, dtype: torch.dtype, repeats: int = 5) -> float:
    """FLOP per second of a large square product, the best of `repeats`; processor time on the CPU."""
    product = ceiling(device, dtype)
    milliseconds = min(time_once(product, device) for _ in range(repeats))
    return 2 * CEILING_SIZE**3 / (milliseconds / 1e3)
