"""Metrics of text-driven edits: agreement with the prompt, and preservation of structure and background.

    clip         cosine of CLIP's image embedding of the edit and its text embedding of the target prompt
    structure    mean squared difference of the two self-similarity matrices of DINO ViT keys (Tumanyan et al. 2022)
    background   LPIPS of source and edit with the object blacked out in both

OIG is guided by CLIP ViT-B/32: report the clip metric with another variant too. Images are (B, 3, H, W) in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midms.io.hub import hub_options

CLIP_NAME = "openai/clip-vit-large-patch14"
DINO_NAME = "facebook/dino-vitb8"
DINO_SIZE = 224
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_DINO_MEAN, _DINO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def read_prompts(file: Path) -> dict[str, str]:
    """Target prompts of edits: a JSON object, name of an image without extension -> prompt.

    Raises:
        ValueError: no such file, or not of this form.
    """
    from midms.io.schemas import read_checked  # noqa: PLC0415 - pydantic takes a tenth of a second

    prompts: dict[str, str] = read_checked(dict[str, str], file, "a JSON object, image name -> prompt")
    return prompts


class ClipNetwork(NamedTuple):
    """A CLIP model with its tokenizer."""

    model: Any
    tokenizer: Any


def _load(kind: str, reader: Any, name: str, **options: Any) -> Any:
    """Read a network of transformers from a folder or the hub's cache.

    Raises:
        FileNotFoundError: it is in neither; the message names the remedy.
    """
    try:
        return reader.from_pretrained(name, **hub_options(name), **options)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{kind}: cannot load {name}: {' '.join(str(error).split())[:200]}; give the path of a folder in "
            f"transformers format, or fetch it first with `hf download {name}`"
        ) from None


def load_clip(name: str = CLIP_NAME) -> ClipNetwork:
    """CLIP from a folder or a name on the hub.

    Raises:
        FileNotFoundError: absent. ImportError: transformers is not installed.
    """
    from transformers import CLIPModel, CLIPTokenizer  # noqa: PLC0415 - seconds to import

    model = _load("CLIP", CLIPModel, name).eval().requires_grad_(False)
    return ClipNetwork(model, _load("CLIP", CLIPTokenizer, name))


def load_dino(name: str = DINO_NAME) -> Any:
    """A DINO ViT from a folder or a name on the hub.

    Raises:
        FileNotFoundError: absent. ImportError: transformers is not installed.
    """
    from transformers import ViTModel  # noqa: PLC0415 - seconds to import

    return _load("DINO", ViTModel, name, add_pooling_layer=False).eval().requires_grad_(False)


def _normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    return (images - images.new_tensor(mean).view(1, 3, 1, 1)) / images.new_tensor(std).view(1, 3, 1, 1)


def _check_images(name: str, images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(f"{name}: expected floats (B, 3, H, W) in 0..1, got {tuple(images.shape)} {images.dtype}")


def _check_pair(source: Tensor, edited: Tensor) -> None:
    _check_images("source", source)
    _check_images("edited", edited)
    if source.shape != edited.shape:
        raise ValueError(f"edited: expected the source's shape {tuple(source.shape)}, got {tuple(edited.shape)}")


@torch.no_grad()
def clip_similarity(clip: ClipNetwork, images: Tensor, prompts: Sequence[str]) -> Tensor:
    """Cosine of each image with its prompt, in -1..1 (not clamped at 0): (B, 3, H, W), B prompts -> (B,).

    Images are resampled (bicubic, antialiased) so that the shorter side is CLIP's input size, and centre-cropped.

    Raises:
        ValueError: wrong shape, or another number of prompts.
    """
    _check_images("images", images)
    if len(prompts) != len(images):
        raise ValueError(f"prompts: expected one per image ({len(images)}), got {len(prompts)}")
    model, size = clip.model, clip.model.config.vision_config.image_size
    height, width = images.shape[2:]
    short = min(height, width)
    resized = _resize(images, (size * height // short, size * width // short))
    top, left = round((resized.shape[2] - size) / 2), round((resized.shape[3] - size) / 2)
    pixels = _normalise(resized[:, :, top : top + size, left : left + size], _CLIP_MEAN, _CLIP_STD)
    length = model.config.text_config.max_position_embeddings
    tokens = clip.tokenizer(
        list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    image = _embedding(model.get_image_features(pixel_values=pixels.to(model.device, model.dtype)))  # (B, D)
    text = _embedding(model.get_text_features(input_ids=tokens.input_ids.to(model.device)))  # (B, D)
    return F.cosine_similarity(image.double(), text.double(), dim=-1)


def _embedding(output: Any) -> Tensor:
    """transformers 5 wraps the embedding in an output object; transformers 4 returns it."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)


def _last_key_projection(vit: nn.Module) -> nn.Module:
    """The key projection of the last attention block: `key` in transformers 4, `k_proj` in 5."""
    keys = [module for name, module in vit.named_modules() if name.rpartition(".")[2] in ("key", "k_proj")]
    if not keys:
        raise ValueError(f"{type(vit).__name__}: found no key projection; expected a transformers ViTModel")
    return keys[-1]


@torch.no_grad()
def dino_keys(vit: nn.Module, images: Tensor, size: int = DINO_SIZE) -> Tensor:
    """Keys of the last block, heads concatenated, class token included: (B, 3, H, W) -> (B, 1 + tokens, D).

    Images are resampled to size x size (square images keep their proportions).
    """
    _check_images("images", images)
    seen: list[Tensor] = []
    handle = _last_key_projection(vit).register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        pixels = _normalise(_resize(images, (size, size)), _DINO_MEAN, _DINO_STD)
        weight = next(vit.parameters())
        vit(pixel_values=pixels.to(weight), interpolate_pos_encoding=True)
    finally:
        handle.remove()
    return seen[0]


def self_similarity(keys: Tensor) -> Tensor:
    """Cosine of every pair of tokens: (B, T, D) -> (B, T, T)."""
    unit = F.normalize(keys.double(), dim=-1)
    return unit @ unit.transpose(1, 2)


def structure_distance(vit: nn.Module, source: Tensor, edited: Tensor, size: int = DINO_SIZE) -> Tensor:
    """Mean squared difference of the self-similarities of source and edit: (B, 3, H, W) twice -> (B,).

    Raises:
        ValueError: wrong or different shapes.
    """
    _check_pair(source, edited)
    first, second = (self_similarity(dino_keys(vit, images, size)) for images in (source, edited))
    return (first - second).square().mean(dim=(1, 2))


@torch.no_grad()
def background_lpips(lpips: nn.Module, source: Tensor, edited: Tensor, mask: Tensor) -> Tensor:
    """LPIPS of the backgrounds: the object is black in both images; (B, 3, H, W) twice -> (B,).

    Args:
        lpips: LPIPS on images in -1..1, for example `midms.metrics.diversity.LPIPS`.
        mask: 1 on the object, 0 on the background, (B, 1, H, W).
    Raises:
        ValueError: wrong or different shapes, or a mask beyond 0..1 or without background.
    """
    _check_pair(source, edited)
    expected = (len(source), 1, *source.shape[2:])
    if tuple(mask.shape) != expected:
        raise ValueError(f"mask: expected {expected}, got {tuple(mask.shape)}")
    mask = mask.to(source)
    if mask.min() < 0 or mask.max() > 1:
        raise ValueError(f"mask: expected values in 0..1, got {float(mask.min()):.4g}..{float(mask.max()):.4g}")
    if (mask.flatten(1).amin(1) == 1).any():
        raise ValueError("mask: one covers the whole image, so there is no background to compare")
    first, second = (images * (1 - mask) * 2 - 1 for images in (source, edited))
    return lpips(first, second).flatten(1).mean(1)
