"""Golden files for tests: written anew, or copied from the shared ones with less or something else in them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

GOLDENS = Path(os.environ.get("MIDMS_SHARED", Path(__file__).parents[3].parent / "shared")) / "goldens"


def golden(name: str) -> Path:
    """A shared golden file; the test is skipped where it is absent."""
    path = GOLDENS / name
    if not path.is_file():
        pytest.skip(f"no golden file {path}; set MIDMS_SHARED to the folder that holds goldens/")
    return path


def write_case(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Path:
    """A golden file of "inputs/...", "outputs/..." and "weights/..." tensors."""
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, {"case": json.dumps(meta)})
    return path


def copy_case(
    source: Path,
    folder: Path,
    keep: Iterable[str] | None = None,
    add: Mapping[str, Tensor] | None = None,
    change: Callable[[dict[str, Any]], None] = lambda meta: None,
) -> Path:
    """A copy of a golden file in `folder`.

    Args:
        keep: names of the outputs that stay; None keeps all.
        add: more tensors, such as "inputs/noise/ref_start".
        change: what to change in the description.
    """
    with safe_open(str(source), framework="pt") as handle:
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}
        meta = json.loads(handle.metadata()["case"])
    if keep is not None:
        outputs = {f"outputs/{name}" for name in keep}
        assert outputs <= set(tensors), f"{source.name} lacks {outputs - set(tensors)}"
        tensors = {k: v for k, v in tensors.items() if not k.startswith("outputs/") or k in outputs}
    change(meta)
    return write_case(folder / source.name, tensors | dict(add or {}), meta)
