"""Accuracy by what the exemplar shows: the regions share out every pixel, and an error counts where it lies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from midms.data.procedural.dataset import test_pairs as fixed_test_pairs
from tables.regions import REGIONS, region_psnr, regions


@pytest.mark.parametrize("task", ["faces", "figures", "churches"])
def test_every_pixel_is_in_one_region(task):
    pairs = fixed_test_pairs(task, 32, 6)
    for index in range(6):
        item = pairs[index]
        masks = regions(item)
        assert list(masks) == list(REGIONS)
        assert (torch.stack(list(masks.values())).sum(dim=0) == 1).all()
        assert torch.equal(masks["psnr_visible"], item["visible"])
        absent = set(item["labels"][masks["psnr_absent"]].tolist())
        assert not absent & set(item["exemplar_labels"].unique().tolist())


def test_an_error_counts_in_its_own_region_only():
    pairs = fixed_test_pairs("faces", 32, 4)
    items = [pairs[index] for index in range(4)]
    images = torch.stack([item["truth"].double() + 0.2 * regions(item)["psnr_hidden"] for item in items])
    scores = region_psnr(images, pairs)
    assert np.isinf(scores["psnr_visible"]).all()
    expected = 10 * np.log10(4 / 0.2**2)
    assert scores["psnr_hidden"] == pytest.approx(expected, rel=1e-6)


def test_a_pair_without_a_region_is_not_a_number():
    pairs = fixed_test_pairs("faces", 32, 8)
    images = torch.zeros(8, 3, 32, 32)
    absent = region_psnr(images, pairs)["psnr_absent"]
    empty = [not regions(pairs[index])["psnr_absent"].any() for index in range(8)]
    assert np.isnan(absent).tolist() == empty and any(empty)
