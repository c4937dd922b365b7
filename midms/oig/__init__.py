"""OIG: text-driven image editing by optimised inference with guidance (Lee, Kang, Han; WACV 2025, arXiv 2412.15798).

This is the second system of this repository, separate from the matching-based one. It is described in `docs/oig.md`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "OIGPipeline": "pipeline",
    "OIGOutput": "outputs",
    "InversionOutput": "outputs",
    "EditSettings": "settings",
    "RELEASED_EDIT": "settings",
    "RELEASED_INVERSION": "settings",
    "edit_image": "editing",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_HOMES)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
