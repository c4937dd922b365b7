"""Condition maps: how each kind is drawn, and how one is made from a user's file. `make` is imported on demand."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from midms.conditions.make import (
        BuiltCondition,
        ConditionSpec,
        label_maps,
        line_drawing,
        make_condition,
        photo_edges,
        pose_maps,
    )

__all__ = [
    "BuiltCondition",
    "ConditionSpec",
    "label_maps",
    "line_drawing",
    "make_condition",
    "photo_edges",
    "pose_maps",
]

#: Old names -> current names. The old names work for one more version.
RENAMED = {"Made": "BuiltCondition", "Taken": "ConditionSpec"}


def __getattr__(name: str) -> Any:
    if name in RENAMED:
        message = f"midms.conditions.{name} is now {RENAMED[name]}; the old name works for one more version"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        name = RENAMED[name]
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("midms.conditions.make"), name)
