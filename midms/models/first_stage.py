"""The frozen first stage (E, D): images to latents and back, by a VQ-GAN or a KL autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypedDict

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn

from midms.models.narrow_import import narrow_diffusers
from midms.schema import Channels, Positive, Widths

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, VQModel

# Keys carry the names of the published LDM files (`ddconfig`, `embed_dim`, `n_embed`).
DEFAULTS: dict[str, Any] = {
    "kind": "vq",  # "vq" or "kl"
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4],
    "num_res_blocks": 2,
    "z_channels": 3,
    "embed_dim": None,  # channels of the latent, None = z_channels
    "n_embed": 8192,  # codes, VQ only
    "norm_groups": 32,
    "mid_attention": True,
    "scale_factor": 1.0,  # factor of the latents in the latent diffusion, see `FirstStage`
}


class FirstStageConfig(TypedDict, total=False):
    """Types and ranges of the keys of `DEFAULTS`."""

    kind: Literal["vq", "kl"]
    in_channels: Channels
    out_ch: Channels
    ch: Channels
    ch_mult: Widths
    num_res_blocks: Annotated[int, Interval(ge=1, le=16)]
    z_channels: Channels
    embed_dim: Channels | None
    n_embed: Annotated[int, Interval(ge=1, le=1_048_576)]
    norm_groups: Channels
    mid_attention: bool
    scale_factor: Positive


VQ_F4: dict[str, Any] = {"kind": "vq", "ch": 128, "ch_mult": [1, 2, 4], "z_channels": 3, "n_embed": 8192}
KL_F8: dict[str, Any] = {"kind": "kl", "ch": 128, "ch_mult": [1, 2, 4, 4], "z_channels": 4}


#: Largest correlation between two latent channels that `FirstStage.standardise` accepts.
MAX_CORRELATION = 0.99


def complete_config(config: Mapping[str, Any], defaults: Mapping[str, Any], what: str) -> dict[str, Any]:
    """`config` with the missing keys from `defaults`.

    Raises:
        ValueError: a key that `defaults` does not know.
    """
    unknown = sorted(set(config) - set(defaults))
    if unknown:
        raise ValueError(f"{what}: unknown key(s) {', '.join(unknown)}; known are {', '.join(defaults)}")
    return {**defaults, **config}


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last column and row until height and width are multiples of `multiple`.

    Args:
        x: (B, C, H, W)

    Returns:
        (B, C, H', W') with H' the smallest multiple >= H; `x` itself if no padding is needed. Undo by `[..., :H, :W]`.
    """
    right, bottom = -x.shape[-1] % multiple, -x.shape[-2] % multiple
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if right or bottom else x


def build_vq(config: Mapping[str, Any]) -> VQModel:
    """VQ-GAN of the latent diffusion models on diffusers' class, from the keys of `DEFAULTS`."""
    with narrow_diffusers():
        from diffusers.models.autoencoders.vq_model import VQModel  # noqa: PLC0415 - seconds to import

    full = complete_config(config, DEFAULTS, "first stage")
    model = VQModel(
        **_shared_arguments(full),
        num_vq_embeddings=full["n_embed"],
        vq_embed_dim=full["embed_dim"] or full["z_channels"],
        mid_block_add_attention=full["mid_attention"],
    )
    return model


def build_kl(config: Mapping[str, Any]) -> AutoencoderKL:
    """KL autoencoder of the latent diffusion models on diffusers' class, from the keys of `DEFAULTS`."""
    with narrow_diffusers():
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL  # noqa: PLC0415 - seconds to import

    full = complete_config(config, DEFAULTS, "first stage")
    if full["embed_dim"] not in (None, full["z_channels"]):
        raise ValueError(
            f"embed_dim {full['embed_dim']} differs from z_channels {full['z_channels']}; "
            "a KL first stage needs both equal"
        )
    return AutoencoderKL(**_shared_arguments(full), mid_block_add_attention=full["mid_attention"])


def _shared_arguments(full: Mapping[str, Any]) -> dict[str, Any]:
    levels = len(full["ch_mult"])
    return {
        "in_channels": full["in_channels"],
        "out_channels": full["out_ch"],
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": tuple(full["ch"] * multiple for multiple in full["ch_mult"]),
        "layers_per_block": full["num_res_blocks"],
        "latent_channels": full["z_channels"],
        "norm_num_groups": full["norm_groups"],
    }


def _nearest(vectors: Tensor, codes: Tensor, half_norms: Tensor) -> Tensor:
    """Index of the nearest of codes (K, C), with |e|² / 2 in `half_norms`, for each of some vectors (n, C)."""
    distances = torch.addmm(half_norms, vectors, codes.mT, alpha=-1)  # (n, K), less |z|² / 2
    best = distances.min(dim=1)
    if vectors.device.type == "mps" or type(vectors) is not Tensor:  # no float64 there; no values in a FakeTensor
        return best.indices
    largest = half_norms.max().sqrt() * 2**0.5
    bound = 4 * vectors.shape[1] * torch.finfo(torch.float32).eps  # of the rounding of a sum of C products, twice
    margin = bound * (largest * vectors.norm(dim=1) + largest.square())  # (n,)
    close = (distances <= (best.values + margin)[:, None]).sum(dim=1) > 1
    rows = close.nonzero()[:, 0]
    if len(rows):
        exact = torch.addmm(codes.double().square().sum(dim=1) / 2, vectors[rows].double(), codes.double().mT, alpha=-1)
        best.indices[rows] = exact.argmin(dim=1)
    return best.indices


class Quantised(NamedTuple):
    """Result of `FirstStage.quantise`."""

    latents: Tensor  # (B, C, h, w) nearest codes, with straight-through gradients
    loss: Tensor  # scalar: codebook loss + 0.25 commitment loss
    indices: Tensor  # (B, h, w) int64


class FirstStage(nn.Module):
    """E and D (`encode` and `decode`), with the same interface for VQ and KL.

    MIDMs uses unscaled latents. A latent diffusion model on a KL first stage was trained on latents times
    `scale_factor` (a number of its checkpoint; 1 for VQ). For such a model use `encode(..., scaled=True)` and
    `decode(..., scaled=True)`.

    Images whose sides are not multiples of `factor` are padded at the right and bottom border (`pad_to_multiple`).
    Pass the size of the image to `decode` to crop the padding.

    Attributes:
        model: diffusers' `VQModel` or `AutoencoderKL`; trained weights load into it.
        kind: "vq" or "kl".
        factor: side of an image over side of its latent.
        latent_channels: channels of a latent.
        scale_factor: see above.
        config: the complete config it was built from.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        full = complete_config(config, DEFAULTS, "first stage")
        builders = {"vq": build_vq, "kl": build_kl}
        if full["kind"] not in builders:
            raise ValueError(f"first stage: kind {full['kind']!r} is unknown; choose 'vq' or 'kl'")
        self.model: Any = builders[full["kind"]](full)
        self.config = full
        self.kind: str = full["kind"]
        self.factor: int = 2 ** (len(full["ch_mult"]) - 1)
        self.latent_channels: int = full["embed_dim"] or full["z_channels"]
        self.scale_factor = float(full["scale_factor"])

    def encode(
        self,
        images: Tensor,
        sample: bool = False,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        scaled: bool = False,
    ) -> Tensor:
        """E: images to latents.

        VQ: the latent before quantisation. KL: the mean of the posterior, or with `sample` mean + std·noise.

        Args:
            images: (B, 3, H, W) in [-1, 1]
            sample: draw from the posterior (KL only; a VQ latent is exact and ignores it).
            generator: source of the noise.
            noise: the noise itself (B, C, h, w), instead of a generator.
            scaled: multiply by `scale_factor`.

        Returns:
            (B, latent_channels, ceil(H / factor), ceil(W / factor))
        """
        images = pad_to_multiple(images, self.factor)  # (B, 3, H', W')
        if self.kind == "vq":
            latents = self.model.encode(images).latents  # (B, C, h, w)
        else:
            posterior = self.model.encode(images).latent_dist
            latents = posterior.mode()  # (B, C, h, w)
            if sample:
                latents = latents + posterior.std * self._noise(latents, generator, noise)
        return latents * self.scale_factor if scaled else latents

    @staticmethod
    def _noise(like: Tensor, generator: torch.Generator | None, noise: Tensor | None) -> Tensor:
        if noise is not None:
            return noise
        if generator is None:
            raise ValueError("sampling a KL posterior needs a generator or the noise itself, got neither")
        return torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)

    def decode(
        self, latents: Tensor, quantise: bool = True, scaled: bool = False, size: tuple[int, int] | None = None
    ) -> Tensor:
        """D: latents to images.

        Args:
            latents: (B, latent_channels, h, w)
            quantise: VQ: replace every latent vector by its nearest code first, with straight-through gradients.
            scaled: divide by `scale_factor` first.
            size: (H, W) to crop to, if the image was padded.

        Returns:
            (B, 3, h·factor, w·factor), or cropped to `size`; nominally in [-1, 1], not clamped.
        """
        latents = latents / self.scale_factor if scaled else latents
        if self.kind == "vq":
            latents = self.nearest_codes(latents) if quantise else latents
            images = self.model.decode(latents, force_not_quantize=True).sample  # (B, 3, H, W)
        else:
            images = self.model.decode(latents).sample  # (B, 3, H, W)
        return images if size is None else images[..., : size[0], : size[1]]

    def nearest_codes(self, latents: Tensor, rows: int = 512) -> Tensor:
        """Replace latents (B, C, h, w) by their nearest codes (VQ only), with straight-through gradients.

        Distances are computed for `rows` latent vectors at a time, so memory is rows x codes. They are float32. If two
        codes are equally near within rounding, float64 decides, so that the result does not depend on the batch size.
        """
        codes = self.model.quantize.embedding.weight.detach().float()  # (K, C)
        flat = latents.detach().movedim(1, -1).flatten(0, 2).float()  # (N, C)
        half_norms = codes.square().sum(dim=1) / 2  # |z - e|² / 2 = |z|² / 2 - z e + |e|² / 2
        indices = torch.cat([_nearest(part, codes, half_norms) for part in flat.split(rows)])
        nearest = self.model.quantize.embedding.weight.detach()[indices]
        nearest = nearest.unflatten(0, (len(latents), *latents.shape[2:])).movedim(-1, 1)
        return latents + (nearest - latents).detach()  # (B, C, h, w)

    def quantise(self, latents: Tensor) -> Quantised:
        """Nearest codes of (B, C, h, w), with the losses that train them (VQ only)."""
        if self.kind != "vq":
            raise ValueError("a KL first stage has no codes to quantise to")
        codes, loss, (_, _, indices) = self.model.quantize(latents)
        batch, _, height, width = latents.shape
        return Quantised(codes, loss, indices.reshape(batch, height, width))

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the posterior, each (B, C, h, w) (KL only)."""
        if self.kind != "kl":
            raise ValueError("a VQ first stage has no posterior")
        posterior = self.model.encode(pad_to_multiple(images, self.factor)).latent_dist
        return posterior.mean, posterior.std

    @torch.no_grad()
    def standardise(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Whiten the latent channels: mean 0, standard deviation 1 and no correlation over `latents`.

        This is LDM's `scale_by_std` for all channels jointly, without a later factor. Mean and whitening matrix are
        folded into the 1x1 convolutions before and after the latent, so reconstructions do not change. The matrix is
        symmetric (ZCA), which changes each channel as little as possible. The codes of a VQ first stage move with the
        latents. Which code is nearest to a latent can change if the whitening stretches the channels differently. The
        posterior's standard deviation of a KL first stage, used only in its training, is exact only for uncorrelated
        channels.

        Args:
            latents: (B, C, h, w) of training images, from `encode`.

        Returns:
            Mean (C,), and whitening matrix W (C, C): new latents are W (old - mean).

        Raises:
            ValueError: a channel is constant, or two channels are copies of one another (|correlation| > 0.99):
                whitening would hide the collapse and amplify rounding.
        """
        vectors = latents.movedim(1, -1).flatten(0, 2).double()  # (B·h·w, C)
        mean, covariance = vectors.mean(dim=0), torch.cov(vectors.mT).reshape(latents.shape[1], latents.shape[1])
        std = torch.diag(covariance).sqrt()
        if not (std > 0).all():
            raise ValueError(f"latents of deviation {std.tolist()}: a channel with deviation 0 cannot be standardised")
        correlation = covariance / torch.outer(std, std) - torch.eye(len(std), dtype=std.dtype, device=std.device)
        if correlation.abs().max() > MAX_CORRELATION:
            raise ValueError(
                f"latents of {len(std)} channels with a correlation of {correlation.abs().max():.4f} between two, "
                f"expected at most {MAX_CORRELATION}: the first stage has collapsed to fewer channels; train it anew "
                "with decorrelation_weight and anchor_weight (docs/training.md)"
            )
        values, directions = torch.linalg.eigh(covariance)
        whitening = (directions / values.sqrt()) @ directions.mT  # (C, C), symmetric
        self._fold(mean, whitening)
        return mean.to(latents.dtype), whitening.to(latents.dtype)

    def _fold(self, mean: Tensor, whitening: Tensor) -> None:
        """Change the 1x1 convolutions around the latent so that the new latent is `whitening` (latent - mean)."""
        before, after, channels = self.model.quant_conv, self.model.post_quant_conv, len(mean)
        weight, bias = before.weight[:channels].flatten(1).double(), before.bias[:channels].double()
        before.weight[:channels] = (whitening @ weight).view_as(before.weight[:channels])
        before.bias[:channels] = whitening @ (bias - mean)
        if self.kind == "kl":  # the other rows are the logarithm of the variance
            before.bias[channels:] += 2 * torch.diag(whitening).log()
        else:
            codes = self.model.quantize.embedding.weight  # (codes, C)
            codes.copy_((codes.double() - mean) @ whitening.mT)
        weight = after.weight.flatten(1).double()
        after.bias += weight @ mean
        after.weight.copy_((weight @ torch.linalg.inv(whitening)).view_as(after.weight))
