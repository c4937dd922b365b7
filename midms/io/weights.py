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
        BrokenFileError: as `load_restricted`, and if the file holds anything but names with tensors.
    """
    state = load_restricted(file)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BrokenFileError(file, f"not the weights of {network}: expected names with tensors")
    return {str(name): value for name, value in state.items()}


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
