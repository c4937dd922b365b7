"""Losses of the correspondence: values solvable by hand, where gradients go, and what is said about bad input."""

import pytest
import torch

from midms.losses.matching import (
    cycle_loss,
    diffusion_loss,
    domain_loss,
    perceptual_loss,
    released_diffusion_loss,
    segmentation_warp_loss,
    source_loss,
    warped_condition_loss,
)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def test_domain_loss_ignores_the_length_of_features(rng):
    features = torch.randn(2, 5, 3, 4, generator=rng)
    assert domain_loss(features, 7 * features) < 1e-6


def test_domain_loss_of_opposite_features():
    features = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    assert domain_loss(features, -features).item() == pytest.approx(2 * (0.6 + 0.8) / 2)


def test_domain_loss_reaches_both_branches_but_not_the_exemplar(rng):
    maps = [torch.randn(1, 4, 3, 2, generator=rng, requires_grad=True) for _ in range(3)]
    domain_loss(*maps).backward()
    assert maps[0].grad is not None and maps[1].grad is not None and maps[2].grad is None


@pytest.mark.parametrize(
    "loss",
    [cycle_loss, perceptual_loss, diffusion_loss, released_diffusion_loss, warped_condition_loss],
)
def test_pair_losses_vanish_on_the_target_and_detach_it(loss, rng):
    got = torch.rand(2, 3, 4, 6, generator=rng, requires_grad=True)
    target = torch.rand(2, 3, 4, 6, generator=rng, requires_grad=True)
    assert loss(got, got) == 0
    loss(got, target).backward()
    assert target.grad is None
    assert got.grad is not None and got.grad.abs().sum() > 0
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 5\)"):
        loss(got[..., :5], target)


def test_source_loss_is_the_weighted_sum(rng):
    maps = [torch.rand(2, c, 5, 4, generator=rng) for c in (2, 3)]
    shifted = [maps[0] + 0.5, maps[1] - 2.0]
    assert source_loss(shifted, maps, [0.25, 1.0]).item() == pytest.approx(0.125 + 2.0, rel=1e-5)
    with pytest.raises(ValueError, match="2, 1 and 2"):
        source_loss(shifted, maps[:1], [1.0, 1.0])


def test_warped_condition_loss_forgives_where_the_weight_is_zero():
    warped, condition = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
    weights = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).view(1, 1, 2, 2)
    condition[..., 0, 0] = 0
    assert warped_condition_loss(warped, condition, weights) == 0
    assert warped_condition_loss(warped, condition).item() == pytest.approx(0.75)


def test_segmentation_loss_counts_only_known_labels_that_the_exemplar_has():
    labels = torch.tensor([[1, 1], [2, 0]]).view(1, 1, 2, 2)
    exemplar_labels = torch.tensor([[1, 1], [0, 0]]).view(1, 1, 2, 2)  # no 2; 0 is unknown
    warped = torch.full((1, 3, 2, 2), 0.1)
    warped[0, 1, 0] = torch.tensor([0.5, 0.25])
    expected = -(torch.tensor([0.5, 0.25]).log().mean())
    got = segmentation_warp_loss(warped, labels, exemplar_labels)
    assert got.item() == pytest.approx(expected.item(), rel=1e-4)


def test_segmentation_loss_resizes_labels_by_nearest_neighbour():
    labels = torch.tensor([[1, 2], [2, 1]]).view(1, 1, 2, 2)
    large = labels.repeat_interleave(8, 2).repeat_interleave(8, 3)
    warped = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    small_loss, large_loss = (segmentation_warp_loss(warped, x, x) for x in (labels, large))
    assert small_loss == large_loss


def test_gradients_are_right_in_double_precision(rng):
    pair = [torch.randn(1, 3, 2, 3, generator=rng, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(domain_loss, tuple(pair))
