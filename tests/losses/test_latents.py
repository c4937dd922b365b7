"""Rank, decorrelation and the anchor of a first stage's latents, on latents whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from midms.losses.latents import channel_correlation, decorrelation_loss, effective_rank, patch_components


def independent(channels: int, side: int = 64) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_independent_channels_have_full_rank(channels):
    latents = independent(channels) * torch.tensor([10.0, 0.1, 3.0, 1.0])[:channels].view(1, -1, 1, 1) + 5
    assert effective_rank(latents) == pytest.approx(channels, abs=0.01)
    assert decorrelation_loss(latents) < 0.01


@pytest.mark.parametrize("channels", [2, 3])
def test_copies_have_rank_one(channels):
    scales = torch.tensor([1.0, -2.0, 0.5])[:channels].view(1, -1, 1, 1)
    latents = independent(1) * scales + scales
    assert effective_rank(latents) == pytest.approx(1, abs=1e-3)
    assert decorrelation_loss(latents) == pytest.approx(channels - 1, abs=1e-3)


def test_correlation_is_numpys():
    latents = independent(3, 16)
    latents[:, 1] += latents[:, 0]
    expected = torch.corrcoef(latents.movedim(1, -1).flatten(0, 2).mT)
    torch.testing.assert_close(channel_correlation(latents), expected, atol=1e-4, rtol=0)
    constant = torch.cat([latents[:, :1] * 0 + 2, latents[:, 1:]], dim=1)
    assert torch.isfinite(channel_correlation(constant)).all()


def test_descending_the_loss_restores_the_rank():
    latents = independent(1).repeat(1, 3, 1, 1) + 0.3 * independent(3)
    matrix = torch.eye(3, requires_grad=True)
    optimizer, ranks = torch.optim.Adam([matrix], 0.05), []
    for _ in range(60):
        mixed = torch.einsum("ij,bjhw->bihw", matrix, latents)
        ranks.append(float(effective_rank(mixed)))
        optimizer.zero_grad()
        decorrelation_loss(mixed).backward()
        optimizer.step()
    assert ranks[0] < 1.3 and ranks[-1] > 2.8


def test_patch_components_are_uncorrelated_and_span_what_they_should():
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(8, 3, 8, 8, generator=generator) * 2 - 1
    images = torch.nn.functional.interpolate(colours, scale_factor=4)  # patches of 4 x 4 hold one colour each
    coefficients = patch_components(images, 4, 3)(images)
    assert coefficients.shape == (8, 3, 8, 8)
    vectors = coefficients.movedim(1, -1).flatten(0, 2)
    torch.testing.assert_close(torch.cov(vectors.mT), torch.eye(3), atol=1e-3, rtol=0)
    # three components say everything about one colour: a linear map gives the colours back
    design = torch.cat([vectors, torch.ones(len(vectors), 1)], dim=1)
    target = colours.movedim(1, -1).flatten(0, 2)
    solution = torch.linalg.lstsq(design, target).solution
    torch.testing.assert_close(design @ solution, target, atol=1e-3, rtol=0)


@pytest.mark.parametrize("channels", [1, 3, 6, 12])
def test_more_components_explain_more_of_the_patches(channels):
    """The least-squares reconstruction from k components leaves the variance of the others, which falls with k."""
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    patches = torch.nn.functional.pixel_unshuffle(images, 2).movedim(1, -1).flatten(0, 2)  # (N, 12)
    coefficients = patch_components(images, 2, channels)(images).movedim(1, -1).flatten(0, 2)
    design = torch.cat([coefficients, torch.ones(len(coefficients), 1)], dim=1)
    left = patches - design @ torch.linalg.lstsq(design, patches).solution
    variances = torch.linalg.eigvalsh(torch.cov(patches.mT)).flip(0)
    expected = variances[channels:].sum()
    torch.testing.assert_close(left.square().sum() / (len(patches) - 1), expected, atol=1e-3, rtol=1e-2)
