"""Data sets and their conditions, each imported on demand."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from midms.data.celeba import CelebAEdges
    from midms.data.churches import ChurchesSegmentation
    from midms.data.deepfashion import DeepFashionKeypoints
    from midms.data.folder import ImageFolder
    from midms.data.procedural.dataset import ProceduralPairs

__all__ = ["CelebAEdges", "ChurchesSegmentation", "DeepFashionKeypoints", "ImageFolder", "ProceduralPairs"]

_MODULES = {
    "CelebAEdges": "celeba",
    "ChurchesSegmentation": "churches",
    "DeepFashionKeypoints": "deepfashion",
    "ImageFolder": "folder",
    "ProceduralPairs": "procedural.dataset",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
