"""Results of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusers.utils.outputs import BaseOutput
from torch import Tensor


@dataclass
class InversionOutput(BaseOutput):
    """Result of `OIGPipeline.invert`, from which `__call__` edits a real image.

    Attributes:
        latents: x_T, (B, 4, H/8, W/8).
        prompt: the source prompt of each image (the caption, if none was given).
        trajectory: all latents from the encoded image to x_T, (steps + 1, B, 4, H/8, W/8).
        image: the images at the working size, (B, 3, H, W) in -1..1.
    """

    latents: Tensor
    prompt: list[str]
    trajectory: Tensor
    image: Tensor


@dataclass
class OIGOutput(BaseOutput):
    """Edits, and reconstructions: samples from the same noise without editing.

    Attributes:
        images, reconstruction: B images in the requested `output_type`.
        latents, reconstruction_latents: their latents, (B, 4, H/8, W/8).
        nsfw_content_detected: the safety checker's result for each edit; None without a checker.
    """

    images: Any
    reconstruction: Any
    latents: Tensor
    reconstruction_latents: Tensor
    nsfw_content_detected: list[bool] | None
