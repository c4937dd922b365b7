"""Layers that give a sample the same numbers whatever the batch around it and the number of threads, on the CPU.

The mask's threshold and the choice of a code turn a difference in the last bit into another picture. On a CPU, PyTorch
computes some layers in another order in other batches: it takes oneDNN's convolution or its own by the size of the
input, MKL's products of fewer than four rows by other kernels, and an addition's layout by strides that a batch of one
leaves open. Here each of these is done in one way.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Rows of a matrix product that MKL computes alike in every number of rows and threads: multiples of this.
ROWS = 4
#: Convolutions of at most so many input channels are faster as matrix products.
FEW_CHANNELS = 4
#: Pixels of a map, and numbers in a layer's weights, up to which weights are kept in oneDNN's order.
SMALL_MAP, SMALL_WEIGHTS = 400, 2**20

_products = torch.ops.aten.thnn_conv2d.default  # one matrix product per sample


def make_batch_invariant(model: nn.Module) -> None:
    """Change the layers of a model in place, as the module says. Training, GPUs and other precisions stay as they are.

    Args:
        model: networks with `nn.Conv2d`, `nn.Linear` and attention of diffusers; changing it again does nothing.
    """
    attention = _attention_class(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            convolve = _convolution_of(module)
            if convolve is not None:
                module._conv_forward = MethodType(convolve, module)  # type: ignore[method-assign]  # of this layer alone
                module.__dict__.setdefault("kept_weight", _Kept())
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
    return x.is_cpu and x.dtype == torch.float32 and not torch.is_grad_enabled()


Convolution = Callable[[nn.Conv2d, Tensor, Tensor, "Tensor | None"], Tensor]


def _convolution_of(layer: nn.Conv2d) -> Convolution | None:
    """The one way in which a layer is computed. None: PyTorch's own choice.

    PyTorch chooses between oneDNN and a matrix product per sample by the size of the input and the number of threads.
    The choice here is by the layer alone: products for layers of 1 x 1 and for those with few input channels, which
    are faster in every batch, and oneDNN for the others. It is made once, because these calls take microseconds.
    """
    if not torch.backends.mkldnn.is_available() or isinstance(layer.padding, str):
        return None
    one_by_one = layer.kernel_size == (1, 1) and layer.padding == (0, 0)
    as_products = layer.groups == 1 and layer.dilation == (1, 1) and (one_by_one or layer.in_channels <= FEW_CHANNELS)
    return _multiply_patches if as_products else _convolve


def _multiply_patches(layer: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not _applies(x):
        return nn.Conv2d._conv_forward(layer, x, weight, bias)
    x, padding = _padded(layer, x)
    return _products(x, weight, layer.kernel_size, bias, layer.stride, padding)


def _convolve(layer: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """oneDNN's convolution, with weights that are kept in its order where maps and weights are small.

    Otherwise oneDNN reorders the weights in every call, which takes most of the time of a small map. Whether they are
    kept depends on the layer and the size of the map, never on the batch.
    """
    if not _applies(x):
        return nn.Conv2d._conv_forward(layer, x, weight, bias)
    x, padding = _padded(layer, x)
    _, _, height, width = x.shape
    if height * width > SMALL_MAP or weight is not layer._parameters.get("weight") or not _can_be_kept(weight):
        return torch.mkldnn_convolution(x, weight, bias, padding, layer.stride, layer.dilation, layer.groups)
    kept: _Kept = layer.__dict__["kept_weight"]
    state = (weight.data_ptr(), weight._version, height, width)
    entry = kept.entry
    if entry is None or entry[0] != state:
        size = [1, *x.shape[1:]]
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            weight, padding, layer.stride, layer.dilation, layer.groups, size
        )
        entry = kept.entry = (state, weight.detach(), packed)
    options: tuple[Any, ...] = (padding, layer.stride, layer.dilation, layer.groups, "none", [], "")
    return torch.ops.mkldnn._convolution_pointwise(x, entry[2], bias, *options)


def _can_be_kept(weight: Tensor) -> bool:
    return weight.numel() <= SMALL_WEIGHTS and not weight.is_inference()  # inference tensors do not count their changes


class _Kept:
    """A layer's weights in oneDNN's order. Copies of the layer start without them.

    Attributes:
        entry: the state of the weights and maps (address, version, height, width), of which each other one needs
            another order; the weights themselves, so that no others can get their address; the weights in order.
            None: none yet. It is one tuple, because threads may share a layer.
    """

    entry: tuple[tuple[int, int, int, int], Tensor, Tensor] | None = None

    def __reduce__(self) -> tuple[type[_Kept], tuple[()]]:
        return _Kept, ()


def _padded(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, Any]:
    """The input of a convolution, with its own padding unless that is by zeros, and the zeros that are still to pad."""
    if layer.padding_mode == "zeros" or layer.padding == (0, 0):
        return x, layer.padding
    return F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode), (0, 0)


def _multiply(layer: nn.Linear, x: Tensor) -> Tensor:
    """`nn.Linear.forward`; one row per sample (the time embedding) becomes a multiple of `ROWS`."""
    if x.ndim != 2 or len(x) % ROWS == 0 or not _applies(x):
        return F.linear(x, layer.weight, layer.bias)
    if len(x) == 1:
        return F.linear(x.expand(ROWS, -1), layer.weight, layer.bias)[:1]  # less work than padding
    return F.linear(F.pad(x, (0, 0, 0, -len(x) % ROWS)), layer.weight, layer.bias)[: len(x)]


def _keep_layout(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    """Attention returns the layout (channels first or last) of what it was given."""
    given = inputs[0] if inputs else None
    if not isinstance(given, Tensor) or not isinstance(output, Tensor) or output.ndim != 4 or not _applies(given):
        return output
    plain = given.is_contiguous()
    return output.contiguous(memory_format=torch.contiguous_format if plain else torch.channels_last)
