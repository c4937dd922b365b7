"""Scenes of the built-in benchmark by their index."""

from __future__ import annotations

from typing import Any

from midms.data.procedural.dataset import TASKS, generator
from midms.data.procedural.scene import Scene


def layout_and_style(task: str, index: int) -> tuple[Any, Any]:
    """The same pair for the same index, of the validation split."""
    return TASKS[task].sample_layout(generator("val", index, 0)), TASKS[task].sample_style(generator("val", index, 1))


def draw(task: str, index: int, size: int = 64) -> Scene:
    """That pair, drawn."""
    return TASKS[task].render(*layout_and_style(task, index), size)
