"""Layers that give a sample the same numbers whatever the batch around it and the number of threads, on the CPU.

The mask's threshold and the choice of a code turn a difference in the last bit into another picture. On a CPU, PyTorch
computes some layers in another order in other batches: it takes oneDNN's convolution or its own by the size of the
input, MKL's products of fewer than four rows by other kernels, and an addition's layout by strides that a batch of one
leaves open. Here each of these is done in one way. Nothing is done twice, so no time is lost.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Rows of a matrix product that MKL computes alike in every number of rows and threads: multiples of this.
ROWS = 4


def make_batch_invariant(model: nn.Module) -> None:
    """Change the layers of a model in place, as the module says. Training, GPUs and other precisions stay as they are.

    Args:
        model: networks with `nn.Conv2d`, `nn.Linear` and attention of diffusers; changing it again does nothing.
    """
    attention = _attention_class(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module._conv_forward = MethodType(_convolve, module)  # type: ignore[method-assign]  # of this layer alone
        elif type(module) is nn.Linear:
            module.forward = MethodType(_multiply, module)  # type: ignore[method-assign]  # of this layer alone
        elif attention is not None and isinstance(module, attention):
            if _keep_layout not in module._forward_hooks.values():
                module.register_forward_hook(_keep_layout)


def _attention_class(model: nn.Module) -> type | None:
    """diffusers' attention, where the model has any; importing it takes a second."""
    found = (type(module) for module in model.modules())
    return next((kind for kind in found if kind.__name__ == "Attention" and "diffusers" in kind.__module__), None)


def _applies(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled()


def _convolve(layer: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`nn.Conv2d._conv_forward`: layers of 1 x 1 as a matrix product per sample, the others by oneDNN.

    PyTorch chooses between the two by size of the input and threads.
    """
    if not _applies(x) or not torch.backends.mkldnn.is_available() or isinstance(layer.padding, str):
        return nn.Conv2d._conv_forward(layer, x, weight, bias)
    padding = layer.padding
    if layer.padding_mode != "zeros":
        x, padding = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode), (0, 0)
    if weight.shape[2:] == (1, 1) and padding == (0, 0) and layer.groups == 1:
        return torch.ops.aten.thnn_conv2d(x, weight, (1, 1), bias, layer.stride, padding)  # without oneDNN's overhead
    return torch.mkldnn_convolution(x, weight, bias, padding, layer.stride, layer.dilation, layer.groups)


def _multiply(layer: nn.Linear, x: Tensor) -> Tensor:
    """`nn.Linear.forward`; one row per sample (the time embedding) becomes a multiple of `ROWS`."""
    missing = -len(x) % ROWS if x.ndim == 2 else 0
    if missing == 0 or not _applies(x):
        return F.linear(x, layer.weight, layer.bias)
    return F.linear(F.pad(x, (0, 0, 0, missing)), layer.weight, layer.bias)[: len(x)]


def _keep_layout(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    """Attention returns the layout (channels first or last) of what it was given."""
    given = inputs[0] if inputs else None
    if not isinstance(given, Tensor) or not isinstance(output, Tensor) or output.ndim != 4 or not _applies(given):
        return output
    plain = given.is_contiguous()
    return output.contiguous(memory_format=torch.contiguous_format if plain else torch.channels_last)
