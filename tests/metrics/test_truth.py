"""Metrics against a known truth: hand-solved values, coordinates in pixels, pairs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from midms.metrics import truth as truth_metrics
from midms.metrics.truth import (
    end_point_error,
    mask_precision_recall,
    paired_difference,
    pck,
    psnr,
)


def grid(batch: int, height: int, width: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([x, y]).expand(batch, 2, height, width).clone()


def test_psnr_of_a_constant_offset_and_its_clipping():
    truth = torch.zeros(2, 3, 8, 12)
    images = truth + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1)  # a tenth and a hundredth of the range
    torch.testing.assert_close(psnr(images, truth), torch.tensor([20.0, 40.0], dtype=torch.float64), atol=1e-4, rtol=0)
    assert torch.isinf(psnr(truth + 5, truth + 9)).all()
    with pytest.raises(ValueError, match=r"psnr.*\(2, 3, 8, 11\)"):
        psnr(images[..., :11], truth)


def test_ssim_is_one_for_equal_images_and_falls_with_noise():
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 24, 16, generator=rng) * 2 - 1
    values = [
        truth_metrics.ssim(images + s * torch.randn(images.shape, generator=rng), images).mean() for s in (0, 0.1, 0.5)
    ]
    assert values[0] == pytest.approx(1)
    assert values[0] > values[1] > values[2]


def test_ssim_agrees_with_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.image", reason="needs the extra [metrics]")
    rng = torch.Generator().manual_seed(0)
    a = torch.rand(2, 3, 32, 48, generator=rng) * 2 - 1
    b = (a + 0.2 * torch.randn(a.shape, generator=rng)).clamp(-1, 1)
    want = functional.structural_similarity_index_measure((a + 1) / 2, (b + 1) / 2, data_range=1.0, reduction="none")
    torch.testing.assert_close(
        truth_metrics.ssim(a, b).float(), want, atol=2e-3, rtol=0
    )  # torchmetrics crops the border wider


def test_errors_are_counted_in_pixels_of_the_given_size():
    true = grid(1, 5, 9)
    predicted = true.clone()
    predicted[:, 0] += 2 / 8  # one column of nine
    valid = torch.ones(1, 5, 9, dtype=torch.bool)
    assert end_point_error(predicted, true, valid).item() == pytest.approx(1, rel=1e-5)
    assert end_point_error(predicted, true, valid, size=(33, 65)).item() == pytest.approx(8, rel=1e-5)
    assert pck(predicted, true, valid, alpha=0.1).item() == 0
    assert pck(predicted, true, valid, alpha=0.12).item() == 1


def test_only_valid_positions_count_and_none_gives_nan():
    true = grid(2, 4, 4)
    predicted = true.clone()
    predicted[:, :, 0] += 1
    valid = torch.zeros(2, 1, 4, 4)
    valid[0, 0, 1:] = 1
    error = end_point_error(predicted, true, valid)
    assert error[0] == 0 and torch.isnan(error[1])
    with pytest.raises(ValueError, match="one shape"):
        pck(predicted[:1], true, valid)
    with pytest.raises(ValueError, match=r"mask: expected \(2, 4, 4\)"):
        pck(predicted, true, valid[..., :3])


def test_mask_precision_and_recall():
    mask = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 0]]], dtype=torch.bool)
    right = torch.tensor([[[1, 0], [1, 1]], [[1, 0], [0, 0]]], dtype=torch.bool)
    precision, recall = mask_precision_recall(mask, right[:, None].float())
    assert precision[0] == 0.5 and recall[0] == pytest.approx(1 / 3)
    assert torch.isnan(precision[1]) and recall[1] == 0


def test_feature_distance_is_zero_at_home_and_blind_to_scale():
    rng = torch.Generator().manual_seed(0)
    a = {"x": torch.randn(2, 4, 3, 5, generator=rng), "y": torch.randn(2, 6, 2, 2, generator=rng)}
    assert truth_metrics.feature_distance(a, {k: 3 * v for k, v in a.items()}).max() < 1e-10
    opposite = truth_metrics.feature_distance(a, {k: -v for k, v in a.items()})
    torch.testing.assert_close(opposite, torch.full((2,), 8.0, dtype=torch.float64), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="layers"):
        truth_metrics.feature_distance(a, {"x": a["x"]})


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=20), st.floats(-5, 5))
def test_a_constant_difference_has_no_error(values, offset):
    b = np.array(values)
    result = paired_difference(b + offset, b)
    assert result.mean == pytest.approx(offset, abs=1e-9) and result.standard_error < 1e-9
    assert result.pairs == len(values)


def test_paired_difference_leaves_undefined_pairs_out():
    result = paired_difference(torch.tensor([1.0, float("nan"), 4.0]), torch.tensor([0.0, 5.0, 1.0]))
    assert result == (2.0, 1.0, 2)
    assert np.isnan(paired_difference(np.zeros(1), np.zeros(1)).standard_error)
    with pytest.raises(ValueError, match=r"\(N,\)"):
        paired_difference(np.zeros(2), np.zeros(3))


def test_sharpness_is_one_for_the_truth_and_falls_with_blur():
    truth = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    blurred = [torch.nn.functional.avg_pool2d(truth, k, 1, k // 2, count_include_pad=False) for k in (1, 3, 5)]
    values = [truth_metrics.sharpness(image, truth).mean() for image in blurred]
    assert values[0] == 1 and values[0] > values[1] > values[2] > 0
    step = torch.full((1, 1, 4, 4), -1.0)
    step[..., 2:] = 1  # one edge of height 1 in [0, 1], in each of four rows
    assert truth_metrics.gradient_energy(step) == 4
