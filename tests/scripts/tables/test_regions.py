"""Accuracy by region: both divisions share out every pixel, and an error counts where it lies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from midms.data.procedural import churches, faces, pose
from midms.data.procedural.dataset import test_pairs as fixed_test_pairs
from tables.regions import BY_EXEMPLAR, BY_SUBJECT, SHARE, region_scores, regions

MODULES = {"faces": faces, "figures": pose, "churches": churches}


@pytest.mark.parametrize("task", sorted(MODULES))
def test_every_pixel_is_in_one_region(task):
    pairs = fixed_test_pairs(task, 32, 6)
    for index in range(6):
        item = pairs[index]
        masks = regions(item)
        assert list(masks) == [*BY_EXEMPLAR, *BY_SUBJECT]
        for division in (BY_EXEMPLAR, BY_SUBJECT):
            assert (torch.stack([masks[key] for key in division]).sum(dim=0) == 1).all()
        assert set(item["labels"][masks["psnr_surroundings"]].tolist()) <= set(map(int, MODULES[task].SURROUNDINGS))
        assert torch.equal(masks["psnr_visible"], item["visible"])
        absent = set(item["labels"][masks["psnr_absent"]].tolist())
        assert not absent & set(item["exemplar_labels"].unique().tolist())


def test_an_error_counts_in_its_own_region_only():
    pairs = fixed_test_pairs("faces", 32, 4)
    items = [pairs[index] for index in range(4)]
    images = torch.stack([item["truth"].double() + 0.2 * regions(item)["psnr_hidden"] for item in items])
    scores = region_scores(images, pairs)
    assert np.isinf(scores["psnr_visible"]).all()
    expected = 10 * np.log10(4 / 0.2**2)
    assert scores["psnr_hidden"] == pytest.approx(expected, rel=1e-6)


def test_the_subjects_share_of_the_error():
    pairs = fixed_test_pairs("figures", 32, 4)
    items = [pairs[index] for index in range(4)]
    for on_subject, elsewhere in ((0.2, 0.0), (0.0, 0.2), (0.2, 0.1)):
        offsets = [torch.where(item["subject"], on_subject, elsewhere).double() for item in items]
        images = torch.stack([item["truth"].double() + offset for item, offset in zip(items, offsets, strict=True)])
        for share, item in zip(region_scores(images, pairs)[SHARE], items, strict=True):
            area = item["subject"].double().mean().item()
            inside, outside = area * on_subject**2, (1 - area) * elsewhere**2
            assert share == pytest.approx(100 * inside / (inside + outside), rel=1e-5)


def test_a_pair_without_a_region_is_not_a_number():
    pairs = fixed_test_pairs("faces", 32, 8)
    images = torch.zeros(8, 3, 32, 32)
    absent = region_scores(images, pairs)["psnr_absent"]
    empty = [not regions(pairs[index])["psnr_absent"].any() for index in range(8)]
    assert np.isnan(absent).tolist() == empty and any(empty)
