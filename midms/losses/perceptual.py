"""Feature networks phi_l for the perceptual, source and style losses and for the metrics.

A feature network is any module whose `forward` takes images (B, 3, H, W) in [-1, 1] and returns a dict
of feature maps {name: (B, C_l, H_l, W_l)}. Its parameters are frozen; gradients pass through to the images.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from midms.io.weights import load_state, read_state
from midms.schema import Text

RELU_2 = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")

_CONVS_PER_STAGE = (2, 2, 4, 4, 4)
_STAGE_WIDTH = (64, 128, 256, 512, 512)
_TORCHVISION_FILE = "vgg19-dcbb9e9d.pth"
_TORCHVISION_URL = f"https://download.pytorch.org/models/{_TORCHVISION_FILE}"
_CAFFE_FILE = "vgg19_conv.pth"
_CAFFE_SOURCE = "the README of https://github.com/microsoft/CoCosNet"
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_BGR_MEAN = (0.40760392, 0.45795686, 0.48501961)

VGGWeights = Literal["torchvision", "caffe", "random"]


class FeatureNetwork(Protocol):
    """Images (B, 3, H, W) in [-1, 1] -> feature maps by layer name."""

    def __call__(self, images: Tensor) -> dict[str, Tensor]: ...


def torch_checkpoint_folder() -> Path:
    """Where torch keeps downloaded networks: `$TORCH_HOME/hub/checkpoints`, by default below `~/.cache/torch`."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub" / "checkpoints"


def _per_channel(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, 3, 1, 1)


def caffe_preprocess(images: Tensor) -> Tensor:
    """RGB images in [-1, 1] -> what Caffe's VGG expects: BGR minus the mean colour, times 255, (B, 3, H, W)."""
    bgr = ((images + 1) / 2).flip(1)  # (B, 3, H, W)
    return (bgr - _per_channel(_CAFFE_BGR_MEAN, images)) * 255


def imagenet_preprocess(images: Tensor) -> Tensor:
    """RGB images in [-1, 1] -> torchvision's normalised input, (B, 3, H, W)."""
    rgb = (images + 1) / 2  # (B, 3, H, W)
    return (rgb - _per_channel(_IMAGENET_MEAN, images)) / _per_channel(_IMAGENET_STD, images)


def vgg19_file(weights: Literal["torchvision", "caffe"], path: str | Path | None = None) -> Path:
    """The file with VGG-19's weights: `path`, or its usual place in torch's cache.

    Raises:
        FileNotFoundError: absent; the message says which file, from where, and where to put it.
    """
    name = _TORCHVISION_FILE if weights == "torchvision" else _CAFFE_FILE
    origin = _TORCHVISION_URL if weights == "torchvision" else _CAFFE_SOURCE
    file = Path(path) if path is not None else torch_checkpoint_folder() / name
    if not file.is_file():
        raise FileNotFoundError(
            f"VGG-19 weights ({weights}): no file {file}; get {name} from {origin} and put it there, or give its path"
        )
    return file


def _torchvision_names() -> dict[str, str]:
    """`features.N` of torchvision's VGG-19 -> convX_Y."""
    names, position = {}, 0
    for stage, count in enumerate(_CONVS_PER_STAGE, start=1):
        for conv in range(1, count + 1):
            names[f"features.{position}"] = f"conv{stage}_{conv}"
            position += 2  # a convolution and its ReLU
        position += 1  # the pooling
    return names


class VGG19Features(nn.Module):
    """VGG-19 with max pooling, feature maps after a ReLU, named "relu1_2" ... "relu5_2".

    The activations of the two sets of weights have different scales: inputs of Caffe's network are in +-128, those of
    torchvision's in +-2. The paper's and the released loss weights were chosen for "caffe".

    Args:
        weights: "torchvision" (RGB, ImageNet mean and deviation), "caffe" (CoCosNet's `vgg19_conv.pth`: BGR,
            mean colour, times 255; used by the released code) or "random" (tests; weights as initialised).
        path: the file with the weights; by default the one in torch's cache.
        layers: maps to return; layers after the last of them are not computed.
    Raises:
        FileNotFoundError: the file is absent. ValueError: it is not such a file, or a layer is unknown.
    """

    def __init__(
        self,
        weights: VGGWeights = "torchvision",
        path: Text | Path | None = None,
        layers: Sequence[Text] = RELU_2,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.layers = tuple(layers)
        channels = 3
        for stage, (count, width) in enumerate(zip(_CONVS_PER_STAGE, _STAGE_WIDTH, strict=True), start=1):
            for conv in range(1, count + 1):
                self.add_module(f"conv{stage}_{conv}", nn.Conv2d(channels, width, 3, padding=1))
                channels = width
        known = {f"relu{name[4:]}" for name, _ in self.named_children()}
        unknown = sorted(set(self.layers) - known)
        if unknown or not self.layers:
            raise ValueError(f"VGG19Features: unknown layers {unknown}; expected some of {sorted(known)}")
        if weights != "random":
            self._load(vgg19_file(weights, path))
        self.requires_grad_(False)

    def _load(self, file: Path) -> None:
        state = read_state(file, "VGG-19")
        if self.weights == "torchvision":
            names = _torchvision_names()
            split = {key: key.rpartition(".") for key in state}
            state = {f"{names[s[0]]}.{s[2]}": state[key] for key, s in split.items() if s[0] in names}
        load_state(self, state, file, f"VGG-19 ({self.weights})")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) in [-1, 1] -> {layer: (B, C, H / 2^k, W / 2^k)}."""
        x = caffe_preprocess(images) if self.weights == "caffe" else imagenet_preprocess(images)  # (B, 3, H, W)
        maps: dict[str, Tensor] = {}
        for name, conv in self.named_children():
            stage, _, index = name[4:].partition("_")
            if index == "1" and stage != "1":
                x = F.max_pool2d(x, 2)  # (B, C, H/2, W/2)
            x = F.relu(conv(x))  # (B, C', H/2, W/2)
            if f"relu{stage}_{index}" in self.layers:
                maps[f"relu{stage}_{index}"] = x
            if len(maps) == len(self.layers):
                break
        return maps


class FirstStageFeatures(nn.Module):
    """The encoder of a frozen first stage as feature network: maps "down0", "down1", ..., "mid".

    The demo uses this network instead of VGG-19, because it needs no further file. "downK" is the output of the
    encoder's K-th resolution block (after its downsampling), "mid" that of the middle block.

    Args:
        first_stage: a diffusers `VQModel` or `AutoencoderKL`; it is shared, not copied, and frozen.
    """

    def __init__(self, first_stage: Any) -> None:
        super().__init__()
        self.encoder = first_stage.encoder.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> FirstStageFeatures:
        """Stay in evaluation mode: the first stage is never trained here."""
        del mode
        return super().train(False)

    @property
    def layers(self) -> tuple[str, ...]:
        return (*(f"down{k}" for k in range(len(self.encoder.down_blocks))), "mid")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) in [-1, 1] -> {layer: (B, C, h, w)}."""
        x = self.encoder.conv_in(images)  # (B, C0, H, W)
        maps = {}
        for k, block in enumerate(self.encoder.down_blocks):
            x = block(x)  # (B, Ck, H / 2^(k+1), W / 2^(k+1)), the last without halving
            maps[f"down{k}"] = x
        maps["mid"] = self.encoder.mid_block(x)  # (B, C, h, w)
        return maps
