"""The repository's programs as modules, names by what they stand for, and a stand-in for a terminal."""

from __future__ import annotations

import importlib
import importlib.util
import io
import sys
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


def load_program(path: str) -> ModuleType:
    """A program by its path below the root ("scripts/sample.py"), imported afresh and not run."""
    file = ROOT / path
    assert file.is_file(), f"no program {path}"
    spec = importlib.util.spec_from_file_location(f"program_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def resolve(name: str) -> Any:
    """What a dotted name ("midms.models.midms.MIDMs.decode") stands for.

    Raises:
        ModuleNotFoundError, AttributeError: nothing.
    """
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[cut:], module)
    raise ModuleNotFoundError(name)
