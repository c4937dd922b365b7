"""Attention kernels, memory format, precision and compilation of the networks, changed in place."""

from __future__ import annotations

import torch

from midms.models.matcher import Matcher


def fused_attention(model: Matcher) -> None:
    """Use `scaled_dot_product_attention` in U-Net and first stage, which avoids the attention matrix where it can."""
    from diffusers.models.attention_processor import Attention, AttnProcessor2_0  # noqa: PLC0415 - seconds to import

    for module in model.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor2_0())  # type: ignore[arg-type]  # declared for the unfused one only


def set_dtype_and_memory_format(model: Matcher, dtype: torch.dtype, channels_last: bool) -> None:
    """Set precision and memory format of all networks but the encoders, which stay float32 and contiguous.

    The encoders decide the matching, whose temperature of 0.005 multiplies their rounding errors by 200.
    """
    form = torch.channels_last if channels_last else torch.contiguous_format
    for part in model.networks():
        part.to(dtype=dtype).to(memory_format=form)


def compile_static(model: Matcher) -> None:
    """Compile U-Nets and the first stage's decoder for static shapes, in place; with CUDA graphs on a GPU.

    The first call of each shape compiles (minutes for the published sizes).
    """
    mode = "reduce-overhead" if model.device.type == "cuda" else "default"
    for part in model.compiled_networks():
        part.compile(dynamic=False, mode=mode)
