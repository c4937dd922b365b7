"""What metrics do not see, and what they must: scale, order, place, and the meaning of their units."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from midms.metrics import style, swd, truth
from midms.metrics.diversity import diversity_pairs
from midms.metrics.fidelity import feature_moments, frechet_distance


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", ["channel-mean", "channel-variance", "gram"])
def test_statistics_of_channels_do_not_see_places(name: str) -> None:
    """So pictures of other sizes compare too; the cosines of positions do see where things are."""
    a, b = numbers(2, 4, 6, 6).abs(), numbers(2, 4, 6, 6, seed=1).abs()
    moved = b.flatten(2)[:, :, torch.randperm(36, generator=torch.Generator().manual_seed(0))].view_as(b)
    cosine = style.COSINES[name]
    torch.testing.assert_close(cosine(a, moved), cosine(a, b))
    for placed in ("position", "flat"):
        assert not torch.allclose(style.COSINES[placed](a, moved), style.COSINES[placed](a, b), atol=1e-3)


@pytest.mark.parametrize("degrees", [False, True])
def test_the_numbers_of_regions_are_only_names(degrees: bool) -> None:
    a, b = numbers(2, 5, 4, 4), numbers(2, 5, 4, 4, seed=1)
    labels = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    renamed = torch.tensor([7, 0, 30])[labels]
    torch.testing.assert_close(
        style.region_pooled_cosine(a, b, renamed, degrees), style.region_pooled_cosine(a, b, labels, degrees)
    )


METRICS: list[Callable[[Tensor, Tensor], Tensor]] = [truth.psnr, truth.ssim]


@pytest.mark.parametrize("metric", METRICS)
def test_distances_to_the_truth_have_no_direction_and_follow_the_batch(
    metric: Callable[[Tensor, Tensor], Tensor],
) -> None:
    a, b = numbers(3, 3, 16, 16).tanh(), numbers(3, 3, 16, 16, seed=1).tanh()
    whole = metric(a, b)
    torch.testing.assert_close(metric(b, a), whole)
    torch.testing.assert_close(metric(a.flip(0), b.flip(0)), whole.flip(0))
    torch.testing.assert_close(metric(a.flip(3), b.flip(3)), whole, msg="mirrored together")
    torch.testing.assert_close(torch.cat([metric(x[None], y[None]) for x, y in zip(a, b, strict=True)]), whole)


@given(st.floats(0.01, 0.9))
def test_psnr_falls_by_twenty_decibels_for_a_tenfold_error(error: float) -> None:
    base = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    small, large = truth.psnr(base + error / 10, base), truth.psnr(base + error, base)
    assert float(small - large) == pytest.approx(20, abs=1e-6)


@given(st.floats(0.1, 0.9), st.floats(-0.1, 0.1))
def test_sharpness_is_the_square_of_the_contrast_at_any_brightness(contrast: float, brightness: float) -> None:
    picture = numbers(2, 3, 8, 8).tanh() * 0.9
    value = truth.sharpness(contrast * picture + brightness * (1 - contrast), picture)
    torch.testing.assert_close(value, torch.full((2,), contrast**2, dtype=torch.float64))


def test_a_constant_picture_has_no_detail_and_no_sharpness_of_its_own() -> None:
    flat, busy = torch.zeros(1, 3, 4, 4), numbers(1, 3, 4, 4).tanh()
    assert truth.gradient_energy(flat) == 0 and truth.sharpness(flat, busy) == 0
    assert truth.sharpness(busy, flat).isinf() and truth.sharpness(flat, flat).isnan()


@pytest.mark.parametrize("size", [(4, 4), (3, 7)])
def test_a_match_that_is_one_pixel_off_is_one_pixel_off_along_either_side(size: tuple[int, int]) -> None:
    height, width = size
    right = torch.zeros(1, 2, height, width, dtype=torch.float64)
    valid = torch.ones(1, height, width, dtype=torch.bool)
    for axis, side in ((0, width), (1, height)):
        wrong = right.clone()
        wrong[:, axis] += 2 / (side - 1)
        assert truth.end_point_error(wrong, right, valid).item() == pytest.approx(1)
        assert truth.pck(wrong, right, valid, alpha=1.001 / max(size)) == 1
        assert truth.pck(wrong, right, valid, alpha=0.999 / max(size)) == 0


def test_a_wider_tolerance_finds_no_fewer_matches() -> None:
    found, right = numbers(2, 2, 5, 5).tanh(), numbers(2, 2, 5, 5, seed=1).tanh()
    valid = torch.ones(2, 5, 5)
    shares = torch.stack([truth.pck(found, right, valid, alpha) for alpha in (0.05, 0.1, 0.2, 0.5, 2.0)])
    assert (shares.diff(dim=0) >= 0).all() and (shares[-1] == 1).all() and (shares[0] < 0.5).all()


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 2, 4)])
def test_coordinates_of_another_form_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"coordinates: expected \(B, 2, H, W\) with \(x, y\) in \[-1, 1\], got"):
        truth.end_point_error(torch.zeros(shape), torch.zeros(shape), torch.ones(2, 4, 4))


def test_moments_follow_a_shift_and_a_rotation_and_the_distance_a_rotation_alone() -> None:
    first, second = (numbers(60, 4, seed=seed).numpy() for seed in (0, 1))
    turn = np.linalg.qr(numbers(4, 4, seed=2).numpy())[0]
    plain, turned = feature_moments([first]), feature_moments([first @ turn + 3])
    np.testing.assert_allclose(turned.mean, plain.mean @ turn + 3)
    np.testing.assert_allclose(turned.covariance, turn.T @ plain.covariance @ turn, atol=1e-12)
    value = frechet_distance(plain, feature_moments([second]))
    assert frechet_distance(turned, feature_moments([second @ turn + 3])) == pytest.approx(value)
    assert frechet_distance(feature_moments([second]), plain) == pytest.approx(value)
    moved = frechet_distance(plain, feature_moments([first + np.array([3.0, 4.0, 0.0, 0.0])]))
    assert moved == pytest.approx(25), "the squared length of the shift"


def test_a_pyramid_is_linear_and_flat_pictures_have_no_band() -> None:
    a, b = numbers(2, 3, 64, 32), numbers(2, 3, 64, 32, seed=1)
    both = swd.laplacian_pyramid(2 * a - b)
    for level, x, y in zip(both, swd.laplacian_pyramid(a), swd.laplacian_pyramid(b), strict=True):
        torch.testing.assert_close(level, 2 * x - y)
    *bands, rest = swd.laplacian_pyramid(torch.full((1, 3, 64, 64), 7.0, dtype=torch.float64))
    assert len(bands) == 2 and all(band.abs().max() < 1e-12 for band in bands)
    torch.testing.assert_close(rest, torch.full((1, 3, 16, 16), 7.0, dtype=torch.float64))


def test_the_low_pass_is_the_binomial_filter_of_a_convolution() -> None:
    images = numbers(1, 2, 16, 20)
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=torch.float64) / 16
    kernel = torch.outer(taps, taps).expand(2, 1, 5, 5)
    want = F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=2)[:, :, ::2, ::2]
    torch.testing.assert_close(swd.pyramid_down(images), want)


@given(st.lists(st.sampled_from("abc"), max_size=9))
def test_every_pair_of_one_condition_comes_once(groups: list[str]) -> None:
    pairs = diversity_pairs(groups)
    assert len(set(pairs)) == len(pairs) == sum(n * (n - 1) // 2 for n in map(groups.count, set(groups)))
    assert all(i < j and groups[i] == groups[j] for i, j in pairs)
