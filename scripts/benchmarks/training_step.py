"""The two training steps that `scripts/benchmark.py training` compares, and the memory saved by autograd per part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.networks import Pairs, random_model, random_pairs
from benchmarks.parts import watching
from benchmarks.released_sampling import dense_rematch, plain_attention
from benchmarks.released_training import plain_iteration
from midms.diffusion.settings import InterleaveSettings
from midms.losses.objective import ReleasedLossWeights, released_objective
from midms.losses.perceptual import FeatureNetwork, VGG19Features
from midms.models.midms import MIDMs
from midms.models.numerics import fused_attention, set_dtype_and_memory_format
from midms.training.memory import SavedTensors
from midms.training.objectives import ReleasedTrainingObjective

WARMUP, NUMBER, INDEX = 0, 1, 1  # an iteration after the warm-up; the call whose time the diffusion term takes
Wrap = Callable[[str, Callable[..., Any]], Callable[..., Any]]


class Step:
    """One mode's networks and loss.

    Args:
        mode: "reference", "ours" or "recomputed".
        config, size, batch, device: see `networks`.
        dtype: "bfloat16" for our modes as `trainer.precision: bf16-mixed` computes. The reference is float32.
    """

    def __init__(self, mode: str, config: str, size: int, batch: int, device: str, dtype: str = "float32") -> None:
        self.plain = mode == "reference"
        self.autocast = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16" and not self.plain)
        self.model: MIDMs = random_model(config, device)
        self.model.encoders.train()
        self.features: nn.Module = VGG19Features(weights="random").to(device)
        self.pairs: Pairs = random_pairs(self.model, size, batch)
        self.settings = InterleaveSettings.released().replace(refine_steps=0, clamp_cosines=self.plain)
        if self.plain:
            plain_attention(self.model)
        else:
            fused_attention(self.model)
            set_dtype_and_memory_format(self.model, torch.float32, channels_last=True)
            self.features.to(memory_format=torch.channels_last)
        if mode == "recomputed":
            self.model.denoiser.unet.enable_gradient_checkpointing()

    def loss(self, wrap: Wrap = lambda _, function: function) -> Tensor:
        """The weighted sum of the released objective; `wrap` is applied to features and dense matching."""
        features: FeatureNetwork = wrap("features", self.features)
        weights = ReleasedLossWeights(warp=0.0)
        if not self.plain:
            released = ReleasedTrainingObjective(self.model, self.settings, features, weights, lambda _: INDEX)
            with self.autocast:
                return released(self.pairs._asdict(), noise, NUMBER, WARMUP)["loss"]
        shape, device = self._latent_shape(), self.pairs.source.device
        block = wrap("matching", dense_rematch)
        iteration = plain_iteration(
            self.model, self.pairs, self.settings, lambda name: noise(name, shape).to(device), INDEX, block
        )
        return released_objective(
            iteration, self.pairs.source, self.pairs.exemplar, features, NUMBER, WARMUP, weights
        ).total

    def _latent_shape(self) -> tuple[int, ...]:
        stage, images = self.model.first_stage, self.pairs.source
        return (len(images), stage.latent_channels, *(side // stage.factor for side in images.shape[-2:]))


def noise(name: str, shape: Any) -> Tensor:
    """Standard normal numbers that depend on the name and shape alone."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(sum(name.encode())))


def build(mode: str, config: str, size: int, batch: int, device: str, dtype: str = "float32") -> Callable[[], None]:
    """A whole step of AdamW as a function without arguments."""
    step = Step(mode, config, size, batch, device, dtype)
    weights = [*step.model.encoders.parameters(), *step.model.denoiser.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=3e-6, weight_decay=0.05, fused=not step.plain, foreach=False)

    def run() -> None:
        optimizer.zero_grad()
        step.loss().backward()
        optimizer.step()

    return run


def saved_megabytes(
    mode: str, config: str, size: int, batch: int, device: str, dtype: str = "float32"
) -> dict[str, float]:
    """Memory saved by autograd for the backward pass, in MB: per part of the forward pass, and in total."""
    step = Step(mode, config, size, batch, device, dtype)
    saved, bytes_by_part = SavedTensors(nn.ModuleList([step.model, step.features])), Counter[str]()

    def wrap(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            before = saved.bytes
            result = function(*arguments, **options)
            bytes_by_part[part] += saved.bytes - before
            return result

        return counted

    with saved.counting(), watching(step.model, wrap):
        step.loss(wrap)
    bytes_by_part["rest"] = saved.bytes - bytes_by_part.total()
    return {part: bytes_by_part[part] / 2**20 for part in bytes_by_part} | {"all": saved.bytes / 2**20}
