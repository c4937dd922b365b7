"""The latent cache: encoded once, bounded, and independent of the batch."""

from __future__ import annotations

import pytest
import torch

from midms.checkpoints.loading import load_first_stage
from midms.training.latent_diffusion import LatentDiffusionTraining
from midms.training.latents import LatentCache


@pytest.fixture
def stage(tiny_weights):
    return load_first_stage(str(tiny_weights))


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_an_image_is_encoded_once_and_its_latent_does_not_depend_on_the_batch(stage, monkeypatch):
    encoded = []
    encode = stage.encode
    monkeypatch.setattr(stage, "encode", lambda image, scaled: encoded.append(image) or encode(image, scaled=scaled))
    cache, batch = LatentCache(stage, 1.0), images()
    first = cache(batch)
    assert torch.equal(cache(batch.flip(0)), first.flip(0)) and torch.equal(cache(batch[1:2]), first[1:2])
    assert len(encoded) == 3
    assert torch.allclose(first, encode(batch, scaled=True), atol=1e-5)
    cache(batch.flip(-1))  # mirrored images are other images
    assert len(encoded) == 6


def test_latents_beyond_the_memory_are_encoded_again(stage):
    size = stage.encode(images(1), scaled=True).numel() * 4
    cache, batch = LatentCache(stage, 2.5 * size / 1e9), images()
    assert torch.equal(cache(batch), cache(batch)) and len(cache.latents) == 2


def test_a_kept_latent_is_not_changed_by_what_is_done_to_a_batch(stage):
    cache, batch = LatentCache(stage, 1.0), images()
    first = cache(batch)
    expected = first.clone()
    first.mul_(0)
    assert torch.equal(cache(batch), expected)


def test_the_loss_with_a_cache_is_the_loss_without(tiny_weights):
    small = {"model_channels": 16, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_resolutions": [2],
             "num_head_channels": 8, "norm_groups": 8}  # fmt: skip
    losses = []
    for gigabytes in (0, 1.0):
        torch.manual_seed(0)
        module = LatentDiffusionTraining(str(tiny_weights), small, latent_cache_gb=gigabytes)
        generators = [torch.Generator().manual_seed(index) for index in range(3)]
        losses.append(float(module.loss(module.denoiser, images(), generators).detach()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
