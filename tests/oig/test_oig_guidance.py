"""The losses of the guidance: values by hand, gradients, and independence of the images of a batch."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from midms.oig.guidance import (
    clip_margin_loss,
    feature_distance,
    feature_distances,
    guided_noise,
    latent_distance,
    oig_step_size,
    structure_loss,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_structure_loss_by_hand() -> None:
    to_source = torch.tensor([[1.0, 2.0], [0.1, 0.0]])  # two layers, two images
    to_previous = torch.tensor([[1.0, 6.0], [1.0, 0.0]])
    torch.testing.assert_close(structure_loss(to_source, None, 2.0), torch.tensor([2.2, 4.0]))
    torch.testing.assert_close(structure_loss(to_source, to_previous, 2.0), torch.tensor([1.0, 0.0]))


def test_hinges_close_layer_by_layer_and_gradients_check() -> None:
    features, source, previous = (draw(2, 3, 4, 5, seed=s) for s in range(3))
    features.requires_grad_()

    def loss(f: torch.Tensor) -> torch.Tensor:
        return structure_loss(feature_distances([f], [source]), feature_distances([f], [previous]), 2.5)

    assert gradcheck(loss, (features,))
    closed = structure_loss(feature_distances([features], [source]), feature_distances([features], [previous]), 0.0)
    (gradient,) = torch.autograd.grad(closed.sum(), features)
    assert closed.abs().sum() == 0 and gradient.abs().sum() == 0


def test_feature_distance_is_per_image_and_accumulates_in_float32() -> None:
    a, b = draw(3, 8, 6, 5), draw(3, 8, 6, 5, seed=1)
    torch.testing.assert_close(feature_distance(a, b)[1], (a[1] - b[1]).square().mean())
    assert feature_distance(a.bfloat16(), b.bfloat16()).dtype == torch.float32
    assert feature_distance(a, b).dtype == torch.float64


def test_clip_margin_by_hand() -> None:
    image = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    source, target = torch.tensor([[1.0, 0.0]] * 2), torch.tensor([[0.0, 5.0]] * 2)
    term = clip_margin_loss(image, source, target, 0.5)
    torch.testing.assert_close(term.loss, torch.tensor([1.5, 0.0]))
    torch.testing.assert_close(term.cos_source, torch.tensor([1.0, 0.0]))
    embedding = draw(2, 4).requires_grad_()
    assert gradcheck(lambda i: clip_margin_loss(i, draw(2, 4, seed=1), draw(2, 4, seed=2), 2.5).loss, (embedding,))


def test_guided_noise_ends() -> None:
    negative, positive = draw(1, 2, 3, 3), draw(1, 2, 3, 3, seed=1)
    torch.testing.assert_close(guided_noise(negative, positive, 1.0), positive)
    torch.testing.assert_close(guided_noise(negative, positive, 0.0), negative)


def test_latent_distance_is_the_root_of_each_image() -> None:
    x = torch.zeros(2, 1, 1, 2)
    y = torch.tensor([[[[3.0, 4.0]]], [[[0.0, 1.0]]]])
    torch.testing.assert_close(latent_distance(x, y), torch.tensor([5.0, 1.0]))


def test_step_sizes_of_fifty_steps() -> None:
    used = [oig_step_size(min(k + 1, 49), 50) for k in range(50)]
    assert used[:5] == pytest.approx([0.8, 1.2, 1.6, 1.567, 1.492], abs=1e-3)
    assert used[-3:] == pytest.approx([0.1831, 0.1744, 0.1744], abs=1e-4)


@pytest.mark.parametrize("steps", [2, 6, 7, 9])
def test_few_steps_have_no_warm_up(steps: int) -> None:
    sizes = [oig_step_size(j, steps) for j in range(steps)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == pytest.approx(2 / 1.05)
