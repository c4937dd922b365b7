"""Sliced Wasserstein distance: pyramid, order of distances, independence of batches, honest standard errors."""

import numpy as np
import pytest
import torch

from midms.metrics import swd
from midms.metrics.swd import laplacian_pyramid, pyramid_up, sliced_wasserstein_distance, swd_paired_difference


def pictures(seed: int, count: int = 24, size: int = 32) -> torch.Tensor:
    """Images with structure at all scales, (count, 3, size, size)."""
    rng = np.random.default_rng(seed)
    total = 0.25 * rng.standard_normal((count, 3, size, size))
    for cell in (4, 8, 16):
        total += (
            rng.standard_normal((count, 3, cell, cell)).repeat(size // cell, 2).repeat(size // cell, 3) * cell**-0.5
        )
    return torch.from_numpy(total.astype(np.float32))


def blur(images: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1)


def test_the_pyramid_adds_up_to_the_image():
    images = pictures(0, 2, 64)[..., :32]
    levels = laplacian_pyramid(images)
    assert [tuple(level.shape[2:]) for level in levels] == [(64, 32), (32, 16)]
    torch.testing.assert_close(levels[0] + pyramid_up(levels[1]), images, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("size", "levels"), [(16, [16]), (64, [64, 32, 16])])
def test_levels_go_down_to_sixteen(size, levels):
    images = pictures(0, 4, size)
    assert list(sliced_wasserstein_distance(images, images).levels) == levels


@pytest.mark.parametrize(("height", "width"), [(8, 8), (36, 33), (100, 75)])
def test_sizes_that_cannot_be_halved_are_named(height, width):
    images = torch.zeros(2, 3, height, width)
    with pytest.raises(ValueError, match=f"{height}x{width}"):
        sliced_wasserstein_distance(images, images)


def test_sets_of_different_counts_do_not_compare():
    with pytest.raises(ValueError, match="one shape"):
        sliced_wasserstein_distance(pictures(0, 4), pictures(0, 5))


def test_distances_are_ordered_as_the_eye_orders_them():
    a, b = pictures(0), pictures(1)
    noisy = b + 2 * torch.randn(b.shape, generator=torch.Generator().manual_seed(2))
    average = [sliced_wasserstein_distance(a, other).average for other in (a, b, noisy, blur(blur(b)))]
    assert 0 < average[0] < average[1] < average[2] < average[3]
    assert sliced_wasserstein_distance(a, a, shared_patches=True).average == 0


def textures(seed: int, count: int) -> torch.Tensor:
    """Images of one distribution without anything they share, (count, 3, 32, 32)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.nn.functional.interpolate(torch.randn(count, 3, 20, 20, generator=generator), 32, mode="nearest")
    return coarse + 0.3 * torch.randn(count, 3, 32, 32, generator=generator)


def test_two_halves_of_one_distribution_have_the_floor_alone():
    """It halves with four times as many images, and stays far below what smoothing adds."""
    few, many = (sliced_wasserstein_distance(textures(0, n), textures(1, n)).average for n in (16, 64))
    assert few / many == pytest.approx(2, rel=0.15)
    half, other = textures(0, 64), textures(1, 64)
    noisy = other + torch.randn(other.shape, generator=torch.Generator().manual_seed(2))
    worse = [sliced_wasserstein_distance(half, x).average for x in (noisy, blur(other), blur(blur(other)))]
    assert many < worse[0] < worse[1] < worse[2] and many < 0.65 * worse[1]


def test_brightness_and_contrast_do_not_count():
    a = pictures(0, 8)
    assert sliced_wasserstein_distance(a, 0.5 * a + 3, shared_patches=True).average < 1e-3


def test_sets_without_any_structure_have_no_distance():
    with pytest.raises(ValueError, match="no standard deviation to divide by"):
        sliced_wasserstein_distance(pictures(0, 2), torch.full((2, 3, 32, 32), 9.0))


def test_patches_depend_on_the_image_not_on_its_batch():
    images = pictures(0, 5)
    whole = swd.patch_descriptors(images, range(5), seed=3)
    for level, patches in whole.items():
        parts = [swd.patch_descriptors(images[k : k + 1], [k], seed=3)[level] for k in (4, 1)]
        assert torch.equal(patches[[4, 1]], torch.cat(parts))


def test_blocks_do_not_change_the_distance(monkeypatch):
    a, b = pictures(0, 6), pictures(1, 6)
    whole = sliced_wasserstein_distance(a, b).average
    monkeypatch.setattr(swd, "_DIRECTION_BLOCK", 7)
    monkeypatch.setattr(swd, "_ROW_BLOCK", 100)
    assert sliced_wasserstein_distance(a, b).average == pytest.approx(whole, rel=1e-6)


def test_a_method_against_itself_differs_by_nothing():
    a, reference = pictures(0, 10), pictures(1, 10)
    result = swd_paired_difference(a, a, reference, groups=4)
    assert result.mean == 0 and result.standard_error == 0
    assert result.pairs == 8  # four groups of two


def test_the_better_method_wins_by_more_than_its_error():
    reference = pictures(0, 24, 16)
    good, bad = reference + 0.2 * pictures(1, 24, 16), blur(reference)
    result = swd_paired_difference(good, bad, reference, groups=8)
    assert result.mean < -3 * result.standard_error
    assert result.mean == pytest.approx(result.swd_a.average - result.swd_b.average)
    expected = sliced_wasserstein_distance(good, reference, shared_patches=True)
    assert result.swd_a.average == pytest.approx(expected.average)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        swd_paired_difference(good[:1], bad[:1], reference[:1])


def test_the_standard_error_is_the_spread_over_new_draws():
    differences, errors = [], []
    for k in range(8):
        rng = np.random.default_rng(k)
        reference = torch.from_numpy(rng.standard_normal((48, 1, 16, 16)).cumsum(2).cumsum(3))
        noise = [torch.from_numpy(rng.standard_normal(reference.shape)) for _ in range(2)]
        result = swd_paired_difference(reference + noise[0], 0.9 * reference + 1.2 * noise[1], reference, k, groups=12)
        differences.append(result.mean)
        errors.append(result.standard_error)
    assert 0.4 < np.mean(errors) / np.std(differences, ddof=1) < 2.5
