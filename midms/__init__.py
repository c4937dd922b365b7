"""Exemplar-based image translation by matching interleaved diffusion models (MIDMs, AAAI 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midms._lazy import LazyClass
from midms._moved import install

if TYPE_CHECKING:
    from midms.diffusion.settings import InterleaveSettings
    from midms.oig.pipeline import OIGPipeline
    from midms.pipelines.midms import MIDMsPipeline
else:
    InterleaveSettings = LazyClass("midms.diffusion.settings", "InterleaveSettings")
    OIGPipeline = LazyClass("midms.oig.pipeline", "OIGPipeline")
    MIDMsPipeline = LazyClass("midms.pipelines.midms", "MIDMsPipeline")

__all__ = ["InterleaveSettings", "MIDMsPipeline", "OIGPipeline", "__version__"]

__version__ = "0.1.0"

install()
