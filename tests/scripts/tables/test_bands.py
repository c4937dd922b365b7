"""Numbers by pyramid level: detail falls where an image is smoothed and nowhere else, and level gaps add up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from midms.metrics.swd import pyramid_down, pyramid_up, swd_paired_difference
from tables.bands import band_columns, band_detail, level_cells


def grain(seed: int, count: int = 8, size: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_detail_falls_in_the_band_that_was_smoothed():
    images = grain(0)
    smooth = pyramid_up(pyramid_down(images))
    whole, less = band_detail(images), band_detail(smooth)
    assert list(whole) == [64, 32] and whole[64].shape == (8,)
    kept = {level: less[level] / whole[level] for level in whole}
    assert (kept[64] < 0.2).all() and (kept[32] > 2 * kept[64]).all()
    np.testing.assert_allclose(band_detail(3 * images + 5)[64], 3 * whole[64], rtol=1e-3)


def test_a_few_edges_are_no_detail():
    images = torch.zeros(1, 3, 64, 64)
    images[..., 32:] = 255
    assert band_detail(images)[64].item() == 0


def test_gaps_of_the_levels_average_to_the_gap():
    truth, near, far = grain(0), grain(0) + 0.3 * grain(1), pyramid_up(pyramid_down(grain(0)))
    gap = swd_paired_difference(near, far, truth, groups=4)
    values, differences = level_cells(gap)
    assert list(values) == ["swd_level_64", "swd_level_32", "swd_level_16"] == list(differences)
    assert np.mean([cell.mean for cell in differences.values()]) == pytest.approx(gap.mean)
    assert values["swd_level_64"].mean == gap.swd_b.levels[64]
    finest = differences["swd_level_64"]
    assert finest.mean < -3 * finest.error < 0  # smoothing took the finest level away, and is far in it


def test_the_error_of_a_single_level_is_that_of_the_whole():
    """Images of 16 pixels have one level, whose error must be the difference's own."""
    truth, other = grain(0, size=16), grain(1, size=16)
    gap = swd_paired_difference(0.7 * truth, other, truth, groups=4)
    assert gap.levels == {16: (gap.mean, gap.standard_error)} and gap.standard_error > 0


def test_columns_go_from_fine_to_coarse():
    keys = {"swd_level_16", "swd_level_128", "swd_level_32", "swd_level_64", "psnr", "swd_average"}
    titles = [column.title for column in band_columns(keys)]
    assert titles == ["SWD 128", "SWD 64", "SWD 32", "SWD 16", "detail 128", "detail 64", "detail 32"]
