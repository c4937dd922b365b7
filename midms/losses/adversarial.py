"""Adversarial training: PatchGAN at one or several scales, hinge losses and LDM's adaptive weight."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from midms.schema import Channels

Layers = Annotated[int, Interval(ge=1, le=8)]


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017) as in VQGAN and LDM: `num_layers` strided convolutions, one logit per patch.

    Args:
        in_channels: channels of the images.
        width: channels after the first convolution; doubled per layer up to eight times.
        num_layers: strided convolutions.
        norm: "batch" as in LDM, or "spectral": every convolution's weight is divided by its largest singular value
            (Miyato et al. 2018), so that an image's logits do not depend on its batch.
    """

    def __init__(
        self,
        in_channels: Channels = 3,
        width: Channels = 64,
        num_layers: Layers = 3,
        norm: Literal["batch", "spectral"] = "batch",
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"PatchDiscriminator: num_layers must be at least 1, got {num_layers}")
        widths = [width * min(2**k, 8) for k in range(num_layers + 1)]
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for k, (before, after) in enumerate(pairwise(widths), start=1):
            stride = 1 if k == num_layers else 2
            layers.append(nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=norm == "spectral"))
            layers += [nn.BatchNorm2d(after)] if norm == "batch" else []
            layers.append(nn.LeakyReLU(0.2))
        layers.append(nn.Conv2d(widths[-1], 1, 4, stride=1, padding=1))
        self.layers = nn.Sequential(*layers)
        self.apply(_init_normal)
        if norm == "spectral":
            self.apply(_normalise_spectrum)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> logits (B, 1, h, w), high for real ones."""
        return self.layers(images)  # (B, 1, h, w)


class MultiScaleDiscriminator(nn.Module):
    """One `PatchDiscriminator` with spectral norm per scale: for the images, for the images at half the size, ...

    Args:
        scales: number of scales.
        width, num_layers: of each discriminator.
    """

    def __init__(self, scales: Layers = 2, width: Channels = 64, num_layers: Layers = 3) -> None:
        super().__init__()
        if scales < 1:
            raise ValueError(f"MultiScaleDiscriminator: scales must be at least 1, got {scales}")
        self.smallest = 3 * 2 ** (num_layers + scales - 1)  # pixels per side of the smallest accepted images
        self.parts = nn.ModuleList(PatchDiscriminator(3, width, num_layers, "spectral") for _ in range(scales))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) -> logits of each scale, (B, 1, h, w), the finest first.

        Raises:
            ValueError: images too small for the coarsest scale.
        """
        if min(images.shape[-2:]) < self.smallest:
            size = tuple(images.shape[-2:])
            raise ValueError(
                f"discriminator: images of {size}, needs {self.smallest} pixels per side; take fewer scales"
            )
        logits = []
        for part in self.parts:
            logits.append(part(images))  # (B, 1, h, w)
            images = F.avg_pool2d(images, 2)  # (B, 3, H / 2, W / 2)
        return logits


def _normalise_spectrum(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        spectral_norm(module)


def _init_normal(module: nn.Module) -> None:
    """Convolutions N(0, 0.02^2), normalisation scales N(1, 0.02^2), biases 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def hinge_discriminator_loss(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """Hinge loss of the discriminator: half of mean max(0, 1 - real) + mean max(0, 1 + fake); logits of any shape."""
    return 0.5 * (F.relu(1 - logits_real).mean() + F.relu(1 + logits_fake).mean())


def hinge_generator_loss(logits_fake: Tensor) -> Tensor:
    """Hinge loss of the generator: minus the mean logit of its images; logits of any shape."""
    return -logits_fake.mean()


def multi_scale(losses: Sequence[Tensor]) -> Tensor:
    """Mean of the scales' losses, scalars."""
    return torch.stack(list(losses)).mean()


def adaptive_weight(reconstruction_loss: Tensor, generator_loss: Tensor, last_layer: Tensor) -> Tensor:
    """Weight that makes the adversarial gradient as large as that of the reconstruction at the decoder's last layer.

    |grad reconstruction| / (|grad generator| + 1e-4), clipped to [0, 1e4] and detached (VQGAN, Eq. 7).

    Args:
        reconstruction_loss, generator_loss: scalars that depend on `last_layer`; both graphs are kept.
        last_layer: the weight of the decoder's last convolution.
    """
    (reconstruction,) = torch.autograd.grad(reconstruction_loss, last_layer, retain_graph=True)
    (generator,) = torch.autograd.grad(generator_loss, last_layer, retain_graph=True)
    return (reconstruction.norm() / (generator.norm() + 1e-4)).clamp(0.0, 1e4).detach()
