"""Positional norm, spectral norm and SPADE against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from midms.models.spade import SPADE, SPADEBlock, SpectralNormConv2d, pad_layer, positional_norm


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(0))


def test_positional_norm_has_zero_mean_and_unit_unbiased_variance_at_every_position(noise: Tensor) -> None:
    normed = positional_norm(noise * 3 + 5)
    torch.testing.assert_close(normed.mean(dim=1), torch.zeros(2, 5, 7), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var(dim=1), torch.ones(2, 5, 7), atol=1e-4, rtol=0)


def pair_of_spectral_convs() -> tuple[SpectralNormConv2d, nn.Module]:
    """Our layer and torch's legacy hook with equal weight, bias, u, v (not converged)."""
    torch.manual_seed(0)
    module = SpectralNormConv2d(6, 4, 3, padding=1)
    reference = torch.nn.utils.spectral_norm(nn.Conv2d(6, 4, 3, padding=1))
    module.load_state_dict(reference.state_dict())
    return module, reference


@pytest.mark.parametrize("training", [False, True])
def test_spectral_norm_equals_torchs_legacy_hook(training: bool, noise: Tensor) -> None:
    module, reference = pair_of_spectral_convs()
    module.train(training), reference.train(training)
    for _ in range(3):
        got, want = module(noise), reference(noise)
        torch.testing.assert_close(got, want)
    got.square().sum().backward()
    want.square().sum().backward()
    torch.testing.assert_close(module.weight_orig.grad, reference.weight_orig.grad)
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(module.state_dict()[key], value)


def test_two_forwards_before_one_backward(noise: Tensor) -> None:
    layer = SpectralNormConv2d(6, 6, 3, padding=1)
    layer(layer(noise)).sum().backward()
    assert layer.weight_orig.grad is not None and torch.isfinite(layer.weight_orig.grad).all()


def test_a_new_layer_is_normalised_before_any_training() -> None:
    layer = SpectralNormConv2d(6, 4, 3).eval()
    sigma = torch.dot(layer.weight_u, layer.weight_orig.flatten(1) @ layer.weight_v)
    largest = torch.linalg.matrix_norm(layer.weight_orig.flatten(1), ord=2)
    assert 0.8 * largest <= sigma <= 1.0001 * largest


def test_spade_is_the_modulated_positional_norm(noise: Tensor) -> None:
    spade = SPADE(6, 3, hidden=8)
    condition = torch.randn(2, 3, 10, 14)
    small = condition[:, :, ::2, ::2]  # nearest neighbour from twice the size
    hidden = spade.mlp_shared(small)
    want = positional_norm(noise) * (1 + spade.mlp_gamma(hidden)) + spade.mlp_beta(hidden)
    torch.testing.assert_close(spade(noise, condition), want)


@pytest.mark.parametrize(("out", "shortcut"), [(6, False), (4, True)])
def test_block_projects_its_input_only_where_the_width_changes(out: int, shortcut: bool, noise: Tensor) -> None:
    block = SPADEBlock(6, out, 3, hidden=8)
    assert block(noise, torch.randn(2, 3, 5, 7)).shape == (2, out, 5, 7)
    keys = set(block.state_dict())
    assert ("conv_s.weight_orig" in keys) == ("norm_s.mlp_beta.bias" in keys) == shortcut
    assert "conv_s.bias" not in keys and "conv_0.bias" in keys


def test_circular_padding_knows_no_position(noise: Tensor) -> None:
    block = SPADEBlock(6, 4, 3, hidden=8, padding_mode="circular").eval()
    condition = torch.randn(2, 3, 5, 7)

    def roll(x: Tensor) -> Tensor:
        return x.roll((2, 3), dims=(2, 3))

    torch.testing.assert_close(block(roll(noise), roll(condition)), roll(block(noise, condition)))


def test_unknown_padding_is_an_error_that_names_the_known() -> None:
    with pytest.raises(ValueError, match="'mirror' is unknown; choose one of zeros, reflect"):
        pad_layer("mirror")
