"""Latents of training images, encoded once."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from midms.losses.matching import at_least_float32
from midms.models.first_stage import FirstStage


class LatentCache:
    """Latents of images that a training sees again and again, kept in memory.

    The key of a latent is a digest of the image's values, so that any data set can be used and a changed image is
    encoded anew. Images are encoded one by one: a latent does not depend on the batch that its image came in, and a
    resumed training sees the same latents bit for bit.

    Args:
        first_stage: the frozen first stage.
        max_gb: memory for latents, in 10^9 bytes. Images beyond it are encoded each time.
    """

    def __init__(self, first_stage: FirstStage, max_gb: float) -> None:
        self.first_stage, self.free_bytes = first_stage, max_gb * 1e9
        self.latents: dict[bytes, Tensor] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Scaled latents (B, c, h, w) of images (B, 3, H, W), on the images' device."""
        return torch.stack([self._latent(image) for image in images])

    @torch.no_grad()
    def _latent(self, image: Tensor) -> Tensor:
        key = hashlib.blake2b(image.detach().cpu().contiguous().numpy().tobytes(), digest_size=16).digest()
        if key in self.latents:
            return self.latents[key].to(image.device)
        latent = at_least_float32(self.first_stage.encode(image[None], scaled=True))[0]  # (c, h, w)
        size = latent.numel() * latent.element_size()
        if size <= self.free_bytes:
            self.free_bytes -= size
            self.latents[key] = latent.cpu().clone()
        return latent
