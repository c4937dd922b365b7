"""Adapters from pretrained networks to the functions that the loops call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from midms.config import ConfigError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
#: What a U-Net may have been trained to predict.
PREDICTION_TYPES = ("epsilon", "v_prediction")


class NoisePredictor:
    """e(x, t, text) from a conditional U-Net that predicts epsilon or v.

    The network computes in its own dtype. Latents keep theirs (at least float32).

    Raises:
        ValueError: the network was trained to predict neither.
    """

    def __init__(self, unet: nn.Module, alphas: Tensor, prediction_type: str = "epsilon") -> None:
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(f"scheduler.prediction_type must be 'epsilon' or 'v_prediction', got {prediction_type!r}")
        self.unet, self.alphas, self.is_velocity = unet, alphas, prediction_type == "v_prediction"
        self.dtype = next(unet.parameters()).dtype

    def __call__(self, x: Tensor, t: int, text: Tensor) -> Tensor:
        """x (M, C, H, W), text (M, L, D) -> noise (M, C, H, W); e = sqrt(a) v + sqrt(1-a) x for v-prediction."""
        states = text.to(self.dtype)
        output = self.unet(x.to(self.dtype), t, encoder_hidden_states=states, return_dict=False)[0].to(x.dtype)
        if not self.is_velocity:
            return output
        alpha = self.alphas[t]
        return alpha**0.5 * output + (1 - alpha) ** 0.5 * x


def decode_latents(vae: Any, z: Tensor) -> Tensor:
    """D(z / scale) / 2 + 0.5: latents (B, C, H, W) -> images (B, 3, H*f, W*f) in 0..1, not clamped."""
    image = vae.decode((z / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0]
    return image.to(z.dtype) / 2 + 0.5


def encode_images(vae: Any, image: Tensor, sample: bool, generator: torch.Generator | None) -> Tensor:
    """Images (B, 3, H, W) in -1..1 -> latents times the VAE's scale, (B, C, H/f, W/f): posterior's mean or a sample."""
    posterior = vae.encode(image.to(vae.dtype)).latent_dist
    z = posterior.mean.to(image.dtype)
    if sample:
        noise = torch.randn(z.shape, generator=generator, device=generator.device if generator else None)
        z = z + posterior.std.to(image.dtype) * noise.to(z)
    return z * vae.config.scaling_factor


def clip_preprocess(image: Tensor, size: int = 224, antialias: bool = True) -> Tensor:
    """CLIP's input from images in 0..1: bicubic to shorter side `size`, centre crop, normalised.

    (B, 3, H, W) -> (B, 3, size, size)
    """
    height, width = image.shape[-2:]
    if min(height, width) != size:
        short = min(height, width)
        target = (size * height // short, size * width // short)
        image = functional.interpolate(image, target, mode="bicubic", align_corners=False, antialias=antialias)
    top, left = round((image.shape[-2] - size) / 2), round((image.shape[-1] - size) / 2)
    image = image[..., top : top + size, left : left + size]
    mean, std = (image.new_tensor(v).view(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    return (image - mean) / std


def clip_image_embedding(clip_model: Any, image: Tensor, antialias: bool = True) -> Tensor:
    """I: CLIP's projected embedding of images (B, 3, H, W) in 0..1, not normalised, (B, D), in the images' dtype."""
    pixels = clip_preprocess(image, clip_model.config.vision_config.image_size, antialias)
    return _embedding(clip_model.get_image_features(pixel_values=pixels.to(clip_model.dtype))).to(image.dtype)


def clip_text_embedding(clip_model: Any, tokenizer: Any, texts: list[str]) -> Tensor:
    """T: CLIP's projected embedding of texts, not normalised, (B, D)."""
    length = clip_model.config.text_config.max_position_embeddings
    tokens = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return _embedding(clip_model.get_text_features(input_ids=tokens.input_ids.to(clip_model.device)))


def _embedding(output: Any) -> Tensor:
    """transformers 5 returns an output object whose `pooler_output` is the embedding; transformers 4 the embedding."""
    return output if isinstance(output, Tensor) else output.pooler_output


def check_safety(checker: Any, extractor: Any, images: Tensor) -> tuple[Tensor, list[bool]]:
    """Stable Diffusion's safety checker on images (B, 3, H, W) in 0..1: flagged images are made black."""
    arrays = images.permute(0, 2, 3, 1).float().cpu().numpy()  # (B, H, W, 3)
    pictures = [Image.fromarray((array * 255).round().astype("uint8")) for array in arrays]
    pixels = extractor(pictures, return_tensors="pt").pixel_values.to(images.device, checker.dtype)
    checked, flags = checker(images=arrays, clip_input=pixels)
    return torch.from_numpy(checked).permute(0, 3, 1, 2).to(images), [bool(flag) for flag in flags]


@contextmanager
def frozen(*modules: nn.Module | None) -> Iterator[None]:
    """Context with evaluation mode and no trainable parameters; the previous state is restored, also on exceptions."""
    present = [m for m in modules if m is not None]
    trainable = [p for m in present for p in m.parameters() if p.requires_grad]
    training = [s for m in present for s in m.modules() if s.training]
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        for module in training:
            module.training = False
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        for module in training:
            module.training = True


def check_model(unet: Any, vae: Any, scheduler: Any) -> None:
    """Refuse models that DDIM on a table of noise levels does not sample, or whose U-Net reads more than latents.

    Raises:
        ConfigError: a scheduler of flow matching or EDM, or an inpainting U-Net.
    """
    name, table = type(scheduler).__name__, scheduler.config
    prediction = table.get("prediction_type", "epsilon")
    has_betas = table.get("beta_schedule") or table.get("trained_betas") is not None
    if not has_betas or table.get("use_flow_sigmas"):
        raise ConfigError(
            f"{name}: no table of betas (flow matching and EDM have none); expected a model whose scheduler has a "
            "beta_schedule, such as Stable Diffusion 1.x or 2.x"
        )
    if prediction not in PREDICTION_TYPES:
        raise ConfigError(f"{name}: prediction_type is {prediction!r}, expected one of {', '.join(PREDICTION_TYPES)}")
    expected, found = vae.config.latent_channels, unet.config.in_channels
    if found != expected:
        raise ConfigError(
            f"the U-Net reads {found} channels, latents have {expected}: an inpainting or image-to-image model; "
            "expected a text-to-image model, such as Stable Diffusion 1.x or 2.x"
        )
