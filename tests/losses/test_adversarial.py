"""PatchGAN and its losses."""

import pytest
import torch

from midms.losses.adversarial import (
    MultiScaleDiscriminator,
    PatchDiscriminator,
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    multi_scale,
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


def test_scales_see_the_images_at_full_half_and_quarter_size():
    discriminator = MultiScaleDiscriminator(scales=3, width=8, num_layers=2)
    images = torch.rand(2, 3, 64, 48)
    logits = discriminator(images)
    assert [tuple(x.shape) for x in logits] == [(2, 1, 14, 10), (2, 1, 6, 4), (2, 1, 2, 1)]
    discriminator.eval()
    half = torch.nn.functional.avg_pool2d(images, 2)
    assert torch.equal(discriminator(images)[1], discriminator.parts[1](half))
    assert torch.equal(discriminator(images)[0][:1], discriminator(images[:1])[0]), "no sample sees its batch"
    assert multi_scale([torch.tensor(1.0), torch.tensor(4.0)]) == 2.5
    assert discriminator.smallest == 48
    with pytest.raises(ValueError, match=r"images of \(48, 40\), needs 48 pixels per side"):
        discriminator(images[..., :48, :40])


def test_spectral_norm_bounds_every_convolution():
    """After some power iterations no layer stretches anything by more than 1."""
    discriminator = PatchDiscriminator(width=8, num_layers=2, norm="spectral")
    for _ in range(100):
        discriminator(torch.rand(1, 3, 32, 32))
    weights = [m.weight.detach().flatten(1) for m in discriminator.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(weights) == 4
    assert all(float(torch.linalg.matrix_norm(w, 2)) == pytest.approx(1, abs=0.02) for w in weights)
