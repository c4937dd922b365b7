"""PatchGAN and its losses."""

import pytest
import torch

from midms.losses.adversarial import (
    PatchDiscriminator,
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
)


def test_ldm_size_and_one_logit_per_patch():
    discriminator = PatchDiscriminator()
    assert (
        sum(p.numel() for p in discriminator.parameters()) == 2_765_633
    )  # as NLayerDiscriminator(3, 64, 3) with batch norm
    assert discriminator(torch.zeros(2, 3, 64, 96)).shape == (2, 1, 6, 10)
    with pytest.raises(ValueError, match="num_layers"):
        PatchDiscriminator(num_layers=0)


def test_hinge_losses_stop_at_the_margin():
    sure = torch.full((2, 1, 3, 3), 5.0)
    assert hinge_discriminator_loss(sure, -sure) == 0
    assert hinge_discriminator_loss(0 * sure, 0 * sure) == 1
    assert hinge_generator_loss(sure) == -5


def test_adaptive_weight_equalises_gradients():
    layer = torch.randn(4, 3, requires_grad=True)
    reconstruction, adversarial = (5 * layer).sum(), (0.5 * layer).sum()
    weight = adaptive_weight(reconstruction, adversarial, layer)
    assert weight.item() == pytest.approx(10, rel=1e-3) and not weight.requires_grad
    (reconstruction + weight * adversarial).backward()
