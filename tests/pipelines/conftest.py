"""A small pipeline and pairs for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from midms.pipelines.midms import MIDMsPipeline


@pytest.fixture(scope="module")
def pipe(tiny_pipeline_folder: Path) -> MIDMsPipeline:
    """Loaded anew for each file."""
    return MIDMsPipeline.from_pretrained(tiny_pipeline_folder)


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor]:
    """Conditions (8, 15, 32, 32) and exemplars (8, 3, 32, 32)."""
    generator = torch.Generator().manual_seed(3)
    return torch.rand(8, 15, 32, 32, generator=generator), torch.rand(8, 3, 32, 32, generator=generator) * 2 - 1
