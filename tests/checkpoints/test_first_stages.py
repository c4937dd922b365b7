"""Promises of the first stages that come with the project: latents that can be averaged, and sharp pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from midms.checkpoints.loading import load_first_stage
from midms.data.procedural.dataset import ProceduralImages
from midms.losses.latents import effective_rank
from midms.metrics.truth import psnr, sharpness

FOLDERS = sorted((Path(__file__).resolve().parents[2] / "data" / "first_stages_128").iterdir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@torch.no_grad()
def test_latents_have_full_rank_and_unit_covariance_and_decode_sharply(folder):
    """Few images and wide margins: docs/demo_weights.md has the numbers of 64 images."""
    images = ProceduralImages(folder.name, 128, "val", 8)
    batch = torch.stack([images[index]["image"] for index in range(8)])
    stage = load_first_stage(folder)
    latents = stage.encode(batch)
    channels = latents.shape[1]
    assert effective_rank(latents) >= 0.8 * channels
    covariance = torch.cov(latents.movedim(1, 0).flatten(1))
    assert (covariance - torch.eye(channels)).abs().max() < 0.5
    decoded = stage.decode(latents).clamp(-1, 1)
    assert psnr(decoded, batch).mean() > 26.5
    assert sharpness(decoded, batch).mean() > 0.35
