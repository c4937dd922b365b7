"""Read the weights of published networks (VGG-19, Inception, AlexNet) from files, without running any code in them."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from midms.io.files import BrokenFileError, check_readable


def load_restricted(file: Path, allowed: Sequence[Any] = (), mapped: bool = False) -> Any:
    """The content of a file of `torch.save`, on the CPU, read by torch's restricted unpickler.

    Args:
        allowed: classes that may be built beside tensors and plain containers, see `torch.serialization.safe_globals`.
        mapped: map the tensors from the file instead of reading them; only for files in the zip format.
    Raises:
        BrokenFileError: the file is missing, empty, not a regular file, damaged, or would run code.
    """
    check_readable(file, "a weights file")
    try:
        with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, for the author of the file
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise BrokenFileError(file, f"refused: {_refused(str(error))}") from None
    except Exception as error:  # a damaged file makes the reader fail in any way
        text = str(error).strip().splitlines()
        reason = text[0] if text else type(error).__name__
        raise BrokenFileError(file, f"damaged, or not a weights file ({reason})") from None


def _refused(message: str) -> str:
    """The part of torch's long message that names the refused class or function."""
    words = message.partition("GLOBAL ")[2].split(maxsplit=1)
    if words:
        return f"it wants to run or build {words[0]}, and weights need no such thing"
    return f"it is not a plain weights file ({message.strip().splitlines()[-1][:120]})"


def read_state(file: Path, network: str) -> dict[str, Tensor]:
    """State dict of a published network.

    Args:
        network: what the file should hold, for messages.
    Raises:
        BrokenFileError: as `load_restricted`, and if the file holds anything but names with tensors, or a tensor that
            is no weight: sparse, nested or not whole in the file, with NaN or infinite values, or not of real numbers.
    """
    state = load_restricted(file)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BrokenFileError(file, f"not the weights of {network}: expected names with tensors")
    for name, value in state.items():
        check_stored(value, file, str(name))
        if not value.is_floating_point() and value.ndim:  # a lone whole number is a counter of batches
            raise BrokenFileError(file, f"{name} has dtype {value.dtype}, expected a floating-point one")
        if not all_finite(value):
            raise BrokenFileError(file, f"{name} holds NaN or infinite values")
    return {str(name): value for name, value in state.items()}


def check_stored(value: Tensor, file: Path, key: str) -> None:
    """Refuse a tensor whose numbers are not all stored in the file, before anything is computed with the tensor.

    Args:
        value: a tensor of any shape.
    Raises:
        BrokenFileError: the tensor is sparse, nested, quantised, without data, or larger than its storage.
    """
    form = "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
    if form != "strided" or value.is_meta or value.is_quantized:
        kind = "meta" if value.is_meta else "quantised" if value.is_quantized else form
        raise BrokenFileError(file, f"{key} is a {kind} tensor; expected a plain one")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise BrokenFileError(file, f"{key} claims shape {tuple(value.shape)}, but the file holds only a part of it")


def all_finite(value: Tensor) -> bool:
    """Whether a tensor of any shape, (...), holds neither NaN nor infinite values."""
    if not value.is_floating_point():
        return True
    # a finite sum proves finite terms, and each value is checked only if the sum is not finite
    return bool(torch.isfinite(value.sum(dtype=torch.float64))) or bool(torch.isfinite(value).all())


def load_state(module: nn.Module, state: Mapping[str, Tensor], file: Path, network: str) -> None:
    """Load a state dict that was read from `file` into a module.

    Raises:
        BrokenFileError: names or shapes do not fit. The message says which.
    """
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BrokenFileError(file, f"not the weights of {network}: {lines[min(1, len(lines) - 1)][:300]}") from None
