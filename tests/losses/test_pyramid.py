"""The Laplacian pyramid's bands and the loss on them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from midms.losses.pyramid import laplacian_bands, laplacian_loss


def images(side: int = 24) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(("side", "sizes"), [(24, [24, 12, 6]), (21, [21, 11, 6])])
def test_sizes_halve(side, sizes):
    assert [band.shape[-1] for band in laplacian_bands(images(side))] == sizes


def test_constant_images_have_no_bands():
    assert all(band.abs().max() < 1e-6 for band in laplacian_bands(torch.full((1, 3, 16, 16), 0.7)))
    assert laplacian_loss(images(), images() + 0.5) < 1e-5, "a shift of brightness is no detail"


def test_the_finest_band_holds_the_finest_detail():
    board = (torch.arange(16)[:, None] + torch.arange(16)).remainder(2).float().expand(1, 3, 16, 16)
    fine, *coarse = laplacian_bands(board)
    assert fine.abs().mean() > 0.49 and all(band.abs().max() < 1e-6 for band in coarse)


def test_blur_costs_more_than_in_l1():
    sharp = images()
    blurred = F.avg_pool2d(sharp, 3, 1, 1)
    brighter = sharp + (blurred - sharp).abs().mean()
    assert F.l1_loss(blurred, sharp) == pytest.approx(float(F.l1_loss(brighter, sharp)), rel=1e-5)
    assert laplacian_loss(blurred, sharp) > 100 * laplacian_loss(brighter, sharp)
