"""Types and functions for golden cases: each case is a file that gives a list of `Check`.

A golden folder has files made by the released code or by a reference tool. Each module of this package has a table
``CASES`` (file name pattern -> function of the path) of the files that it checks. The program
`scripts/verify_parity.py` checks a folder with these tables and fails on a file without a pattern.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor


class Check(NamedTuple):
    """Result of comparing one quantity with its golden value."""

    name: str
    max_abs: float  # largest absolute difference
    max_rel: float  # the same over the largest absolute golden value
    tolerance: float  # bound on `error`
    error: float  # compared with `tolerance`: max_abs, or max_rel for relative checks

    @property
    def passed(self) -> bool:
        return bool(self.error <= self.tolerance)  # a NaN fails


CaseFunction = Callable[[Path], list[Check]]


def compare(name: str, got: Any, want: Any, tolerance: float, relative: bool = False) -> Check:
    """Compare arrays or tensors of one shape; for different shapes the error is infinite."""
    got_array, want_array = (torch.as_tensor(value, dtype=torch.float64).detach() for value in (got, want))
    if got_array.shape != want_array.shape:
        return Check(
            f"{name} (shape {tuple(got_array.shape)}, expected {tuple(want_array.shape)})",
            *(float("inf"),) * 2,
            tolerance,
            float("inf"),
        )
    if got_array.numel() == 0:
        return Check(name, 0.0, 0.0, tolerance, 0.0)
    max_abs = float((got_array - want_array).abs().max())
    max_rel = max_abs / max(float(want_array.abs().max()), 1e-30)
    return Check(name, max_abs, max_rel, tolerance, max_rel if relative else max_abs)


@dataclass
class Case:
    """A `.safetensors` golden: full state dict, inputs, outputs and its description."""

    name: str
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    meta: dict[str, Any]

    def tolerance(self, output: str, default: float = 1e-4) -> float:
        """Absolute float32 tolerance of the file for `output`."""
        return float(self.meta.get("tolerance", {}).get(output, default))

    def check(self, output: str, got: Tensor, name: str | None = None) -> Check:
        """Compare `got`, of any shape, with the stored output of that name, with the file's tolerance."""
        return compare(name or output, got, self.outputs[output], self.tolerance(output))

    def checks(self, got: Mapping[str, Tensor]) -> list[Check]:
        """Compare all stored outputs with `got`; a file may store only some of the outputs.

        Raises:
            ValueError: the file stores an output that `got` lacks.
        """
        self.require_known(got)
        return [self.check(name, got[name]) for name in self.outputs]

    def require_known(self, names: Collection[str]) -> None:
        """Check that every stored output is one of `names`, so that none is left out of the comparison unseen.

        Raises:
            ValueError: another output is stored.
        """
        unknown = sorted(set(self.outputs) - set(names))
        if unknown:
            raise ValueError(
                f"{self.name}: this kind of case has no such output: {', '.join(unknown)}; "
                f"known are {', '.join(sorted(names))}"
            )


def draw(seed: int, name: str, shape: tuple[int, ...], loc: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Float32 numbers from N(loc, scale²) fixed by (seed, name): numpy's frozen `RandomState(crc32("seed:name"))`."""
    state = np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode()) & 0xFFFFFFFF)
    numbers = state.standard_normal(int(np.prod(shape)) if shape else 1)
    return (loc + scale * numbers).astype(np.float32).reshape(shape)


def load_case(path: Path) -> Case:
    """Read one golden file; weights that are stored as a recipe are drawn again and checked by their sums.

    Raises:
        ValueError: the file is not a golden case, a tensor is of no known group, or a weight does not match its
            checksum or is missing.
    """
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "inputs": {}, "outputs": {}}
    with safe_open(str(path), framework="pt") as handle:
        metadata = handle.metadata() or {}
        if "case" not in metadata:
            raise ValueError(f"{path}: no 'case' entry in the metadata, so this is not a golden case")
        meta = json.loads(metadata["case"])
        for key in handle.keys():
            group, _, name = key.partition("/")
            if group not in groups:
                raise ValueError(f"{path}: tensor {key!r} is of no known group; expected {'/..., '.join(groups)}/...")
            groups[group][name] = handle.get_tensor(key)
    recipe = meta.get("weight_recipe") or {"seed": 0, "tensors": {}}
    for key, (shape, loc, scale, name) in recipe["tensors"].items():
        groups["weights"][key] = torch.from_numpy(draw(recipe["seed"], name, tuple(shape), loc, scale))
    for key, total in meta.get("weight_check", {}).items():
        if key not in groups["weights"]:
            raise ValueError(f"{path}: weight {key}, which has a checksum, is neither stored nor drawn")
        drawn = float(groups["weights"][key].double().sum())
        if not abs(drawn - total) <= 1e-3 * (1.0 + abs(total)):  # a NaN does not match
            raise ValueError(f"{path}: drawn weight {key} sums to {drawn}, expected {total}")
    return Case(path.stem, groups["weights"], groups["inputs"], groups["outputs"], meta)
