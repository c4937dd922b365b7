"""Attention kernels, memory format, precision and compilation of the networks, changed in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from midms.models.matcher import Matcher
from midms.models.narrow_import import narrow_diffusers, tell_dynamo

#: From how many parameters of the U-Net on the programs compute in the quickest way without being asked. The published
#: models have 274 and 295 million, the shipped ones 2.
LARGE = 50_000_000


def is_large(model: Matcher) -> bool:
    """Whether a call of the U-Net, or generator, costs so much that memory format and precision are worth a choice."""
    networks = [network for network in model.networks() if network is not model.first_stage]
    return max(sum(weight.numel() for weight in network.parameters()) for network in networks) >= LARGE


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16: CPUs with avx512_bf16 or amx_bf16, and GPUs that say so.

    Every CPU can compute in bfloat16, but those without such instructions are slower in it than in float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    describe = getattr(torch.cpu, "get_capabilities", None)
    if describe is None:  # older versions of torch do not say
        return False
    features: dict[str, bool] = describe()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def best_dtype(model: Matcher, device: torch.device) -> torch.dtype:
    """Precision of first stage and U-Nets where nobody asks for one.

    It is bfloat16 for large U-Nets with a VQ-GAN on a device that multiplies in it, and float32 else. On the shipped
    weights pictures in bfloat16 are above 40 dB to those in float32 with a VQ-GAN, but down to 37 dB with a KL
    autoencoder (docs/benchmarks/sampling.md).
    """
    fits = is_large(model) and model.first_stage.kind == "vq" and has_bfloat16(device)
    return torch.bfloat16 if fits else torch.float32


class _NothingDrawn(TorchFunctionMode):
    """Skips initialisations: tensors stay as they are."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", None) == "torch.nn.init":
            return named["tensor"] if "tensor" in named else args[0]
        return func(*args, **named)


@contextmanager
def weights_to_come() -> Iterator[None]:
    """Context in which new networks are not initialised: their weights are arbitrary until `load_state_dict`.

    Memory that was not written takes no physical memory. The device "meta" is not used, because its operations in
    Python import torch._dynamo.
    """
    with _NothingDrawn():
        yield


def fused_attention(model: Matcher) -> None:
    """Use `scaled_dot_product_attention` in U-Net and first stage, which can avoid storing the attention matrix."""
    with narrow_diffusers():
        from diffusers.models.attention_processor import (  # noqa: PLC0415 - seconds to import
            Attention,
            AttnProcessor2_0,
        )

    for module in model.modules():
        if isinstance(module, Attention):
            processor: Any = AttnProcessor2_0()  # `set_processor` is declared for the unfused one only
            module.set_processor(processor)


def set_dtype_and_memory_format(model: Matcher, dtype: torch.dtype, channels_last: bool) -> None:
    """Set precision and memory format of all networks but the encoders, which stay float32 and contiguous.

    The temperature of 0.005 in the matching multiplies the encoders' rounding errors by 200.
    """
    form = torch.channels_last if channels_last else torch.contiguous_format
    for part in model.networks():
        part.to(dtype=dtype).to(memory_format=form)


def compile_static(model: Matcher) -> None:
    """Compile U-Nets and the first stage's decoder for static shapes, in place; with CUDA graphs on a GPU.

    The first call of each shape compiles (minutes for the published sizes).
    """
    tell_dynamo()
    mode = "reduce-overhead" if model.device.type == "cuda" else "default"
    for part in model.compiled_networks():
        part.compile(dynamic=False, mode=mode)
