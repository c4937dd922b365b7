"""Adapters: v-prediction, CLIP's input, posterior samples, freezing."""

from __future__ import annotations

import pytest
import torch
from tiny_stable_diffusion import tiny_components
from torchvision.transforms.v2 import functional as tv

from midms.oig.networks import CLIP_MEAN, CLIP_STD, NoisePredictor, clip_preprocess, encode_images, frozen

COMPONENTS = tiny_components()


class Velocity(torch.nn.Module):
    """A U-Net that answers with v = (e - sqrt(1-a) x) / sqrt(a) for the e of another."""

    def __init__(self, unet: torch.nn.Module, alphas: torch.Tensor) -> None:
        super().__init__()
        self.unet, self.alphas = unet, alphas

    def forward(self, x: torch.Tensor, t: int, **options: object) -> tuple[torch.Tensor]:
        e, a = self.unet(x, t, **options)[0], self.alphas[t]
        return ((e - (1 - a) ** 0.5 * x) / a**0.5,)


def test_velocity_gives_the_same_noise() -> None:
    unet, alphas = COMPONENTS["unet"], COMPONENTS["scheduler"].alphas_cumprod
    generator = torch.Generator().manual_seed(0)
    x, text = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 16, 24, generator=generator)
    with torch.no_grad():
        noise = NoisePredictor(unet, alphas)(x, 501, text)
        velocity = NoisePredictor(Velocity(unet, alphas), alphas, "v_prediction")(x, 501, text)
    torch.testing.assert_close(velocity, noise, rtol=1e-4, atol=1e-5)


def test_other_predictions_are_refused() -> None:
    with pytest.raises(ValueError, match="got 'sample'"):
        NoisePredictor(COMPONENTS["unet"], COMPONENTS["scheduler"].alphas_cumprod, "sample")


@pytest.mark.parametrize("size", [(40, 64), (64, 40), (32, 32), (17, 20)])
@pytest.mark.parametrize("antialias", [True, False])
def test_clip_input_is_that_of_torchvision(size: tuple[int, int], antialias: bool) -> None:
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    resized = tv.resize(image, [32], interpolation=tv.InterpolationMode.BICUBIC, antialias=antialias)
    expected = tv.normalize(tv.center_crop(resized, [32, 32]), list(CLIP_MEAN), list(CLIP_STD))
    torch.testing.assert_close(clip_preprocess(image, 32, antialias), expected, rtol=1e-4, atol=1e-4)


def test_posterior_mean_and_seeded_samples() -> None:
    vae, image = COMPONENTS["vae"], torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def encode(seed: int | None) -> torch.Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        with torch.no_grad():
            return encode_images(vae, image, seed is not None, generator)

    assert encode(None).shape == (1, 4, 8, 8)
    assert torch.equal(encode(3), encode(3)) and not torch.equal(encode(3), encode(4))
    assert torch.equal(encode(None), encode(None))


def test_frozen_restores_everything_after_an_exception() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    module[0].bias.requires_grad_(False)
    with pytest.raises(KeyError), frozen(module, None):
        assert not module[0].weight.requires_grad and not module[1].training
        raise KeyError("stop")
    assert module[0].weight.requires_grad and not module[0].bias.requires_grad and module[1].training
