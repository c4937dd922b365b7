"""Rules of the first stage: quantisation, sampling, scale, sizes (numbers of the release: tests/parity)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from midms.models.first_stage import FirstStage

SMALL: dict[str, Any] = {"ch": 8, "ch_mult": [1, 2], "num_res_blocks": 1, "norm_groups": 4, "n_embed": 16}
KL: dict[str, Any] = {**SMALL, "kind": "kl", "z_channels": 4, "scale_factor": 0.5}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def vq() -> FirstStage:
    torch.manual_seed(0)
    stage = FirstStage(SMALL).eval()
    stage.model.quantize.embedding.weight.data.normal_()
    return stage


@pytest.fixture(scope="module")
def kl() -> FirstStage:
    torch.manual_seed(0)
    return FirstStage(KL).eval()


@torch.no_grad()
def test_sizes_that_are_no_multiple_are_padded_and_cropped(vq: FirstStage) -> None:
    images = draw(2, 3, 13, 18)
    latents = vq.encode(images)
    assert latents.shape == (2, 3, 7, 9)
    assert vq.decode(latents, size=(13, 18)).shape == images.shape
    torch.testing.assert_close(latents, vq.encode(torch.cat([images, images[:, :, -1:]], dim=2)))


@torch.no_grad()
def test_encoding_is_before_and_decoding_after_quantisation(vq: FirstStage) -> None:
    latents = vq.encode(draw(1, 3, 16, 16))
    codes, _, indices = vq.quantise(latents)
    table = vq.model.quantize.embedding.weight
    distances = (latents.flatten(2).transpose(1, 2)[..., None, :] - table).square().sum(-1)  # (1, hw, codes)
    torch.testing.assert_close(indices.flatten(1), distances.argmin(-1))
    torch.testing.assert_close(codes, table[indices].permute(0, 3, 1, 2))
    assert not torch.allclose(latents, codes)
    torch.testing.assert_close(vq.decode(latents), vq.decode(codes, quantise=False))


def test_gradients_pass_straight_through_the_codes(vq: FirstStage) -> None:
    latents = draw(1, 3, 4, 4).requires_grad_()
    through = torch.autograd.grad(vq.decode(latents).sum(), latents)[0]
    codes = vq.quantise(latents.detach()).latents.requires_grad_()
    at_codes = torch.autograd.grad(vq.decode(codes, quantise=False).sum(), codes)[0]
    torch.testing.assert_close(through, at_codes)


@torch.no_grad()
def test_kl_gives_the_mode_or_a_sample_on_request(kl: FirstStage) -> None:
    images = draw(2, 3, 16, 16)
    mean, deviation = kl.moments(images)
    torch.testing.assert_close(kl.encode(images), mean)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    sampled = kl.encode(images, sample=True, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(sampled, mean + deviation * noise)
    torch.testing.assert_close(kl.encode(images, sample=True, noise=noise), sampled)
    with pytest.raises(ValueError, match="needs a generator or the noise"):
        kl.encode(images, sample=True)


@torch.no_grad()
def test_the_scale_factor_applies_on_request_only(kl: FirstStage) -> None:
    latents = kl.encode(draw(1, 3, 16, 16))
    scaled = kl.encode(draw(1, 3, 16, 16), scaled=True)
    torch.testing.assert_close(scaled, latents * 0.5)
    torch.testing.assert_close(kl.decode(scaled, scaled=True), kl.decode(latents))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["vq", "kl"])
def test_whitening_changes_no_reconstruction(kind: str) -> None:
    torch.manual_seed(1)
    stage = FirstStage({**SMALL, "kind": kind, "z_channels": 3}).eval()
    images = draw(4, 3, 16, 16)
    before = stage.encode(images)
    decoded = stage.decode(before, quantise=False)
    mean, whitening = stage.standardise(before)
    after = stage.encode(images)
    expected = ((before.movedim(1, -1) - mean) @ whitening.mT).movedim(-1, 1)
    torch.testing.assert_close(after, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cov(after.movedim(1, -1).flatten(0, 2).mT), torch.eye(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(stage.decode(after, quantise=False), decoded, atol=1e-4, rtol=1e-3)


def test_collapsed_latents_are_refused(vq: FirstStage) -> None:
    one = draw(2, 1, 8, 8)
    copies = torch.cat([one, -2 * one + 1e-3 * draw(2, 1, 8, 8, seed=1), draw(2, 1, 8, 8, seed=2)], dim=1)
    weight = vq.model.quant_conv.weight.clone()
    with pytest.raises(ValueError, match="collapsed to fewer channels"):
        vq.standardise(copies)
    with pytest.raises(ValueError, match="a channel with deviation 0"):
        vq.standardise(copies * torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1))
    assert torch.equal(vq.model.quant_conv.weight, weight), "a refused stage must stay as it was"


def test_wrong_use(vq: FirstStage, kl: FirstStage) -> None:
    with pytest.raises(ValueError, match="no codes"):
        kl.quantise(draw(1, 4, 4, 4))
    with pytest.raises(ValueError, match="no posterior"):
        vq.moments(draw(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"unknown key.* chmult"):
        FirstStage({"chmult": [1]})
    with pytest.raises(ValueError, match="kind 'vae' is unknown"):
        FirstStage({"kind": "vae"})
    with pytest.raises(ValueError, match="needs both equal"):
        FirstStage({**KL, "embed_dim": 3})
