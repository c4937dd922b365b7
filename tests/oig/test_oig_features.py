"""Hooks: the right layers, gone afterwards, and no more memory than stated."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from tiny_stable_diffusion import tiny_components

from midms.oig.features import FeatureTap, structure_layers


def hook_count(module: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def test_features_are_the_outputs_of_the_last_convolutions() -> None:
    unet = tiny_components()["unet"]
    layers = structure_layers(unet)
    assert list(layers) == [
        "down_blocks.0.resnets.0",
        "down_blocks.1.resnets.0",
        "up_blocks.0.resnets.0",
        "up_blocks.0.resnets.1",
        "up_blocks.1.resnets.0",
        "up_blocks.1.resnets.1",
    ]
    with torch.no_grad(), FeatureTap(list(layers.values())) as tap:
        unet(torch.zeros(2, 4, 8, 12), 7, encoder_hidden_states=torch.zeros(2, 16, 24))
    assert [tuple(f.shape) for f in tap.features[:2]] == [(2, 16, 8, 12), (2, 32, 4, 6)]
    assert len(tap.features) == 6 and hook_count(unet) == 0


def test_hooks_are_gone_after_an_exception() -> None:
    unet = tiny_components()["unet"]
    with pytest.raises(KeyError), FeatureTap(list(structure_layers(unet).values())):
        assert hook_count(unet) == 6
        raise KeyError("stop")
    assert hook_count(unet) == 0


def test_a_network_without_residual_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear has no residual blocks"):
        structure_layers(torch.nn.Linear(2, 2))


def test_memory_at_the_size_of_stable_diffusion() -> None:
    """S, F and P of one half and P of the other, float32, at 64 x 64 latents: 190 MB (stored features: 4.75 GB)."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        layers = list(structure_layers(unet).values())
        with torch.no_grad(), FeatureTap(layers) as tap:
            unet(torch.zeros(1, 4, 64, 64), torch.zeros(1), encoder_hidden_states=torch.zeros(1, 77, 768))
    one_branch = sum(f.numel() * f.element_size() for f in tap.features)
    assert len(layers) == 20
    assert one_branch == pytest.approx(95e6 / 2, rel=0.01)
    assert 4 * one_branch <= 200e6
