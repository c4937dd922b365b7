"""Learning-rate schedules, random numbers keyed by the step, and an exponential moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(optimizer: Optimizer, warmup_steps: int, total_steps: int | None, floor: float = 0.0) -> LambdaLR:
    """Linear warm-up, then a half cosine down to `floor` times the rate. `total_steps` None: constant after warm-up."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if not total_steps:
            return 1.0
        progress = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def multi_step(optimizer: Optimizer, milestones: Sequence[int], gamma: float) -> LambdaLR:
    """Multiply the learning rate by `gamma` at each milestone (a step). The paper uses gamma = 0.3."""
    ordered = sorted(milestones)
    return LambdaLR(optimizer, lambda step: gamma ** sum(step >= milestone for milestone in ordered))


def step_generator(seed: int, step: int, place: int = 0) -> torch.Generator:
    """Generator of one sample of a step, seeded by (seed, step, place), so that a resumed run draws the same numbers.

    The generator is on the CPU, so that its numbers do not depend on the device.
    """
    mixed = (seed * 1_000_003 + step) * 65_537 + place
    return torch.Generator().manual_seed(mixed % (2**63 - 1))


def sample_generators(
    seed: int, step: int, places: Sequence[int], rank: int = 0, ranks: int = 1
) -> list[torch.Generator]:
    """A generator for each sample at `places` of a rank's batch.

    Samples are dealt to the ranks in turn, so a sample's place in the whole step is place * ranks + rank. Its random
    numbers thus do not depend on the number of ranks.
    """
    return [step_generator(seed, step, place * ranks + rank) for place in places]


def adamw(
    weights: Any, learning_rate: float, weight_decay: float, fused: bool | None, device: torch.device
) -> torch.optim.AdamW:
    """AdamW with the default betas. `fused` None: the fused kernel on CUDA and the CPU, the plain form elsewhere."""
    if fused is None:
        fused = device.type in ("cuda", "cpu")
    return torch.optim.AdamW(weights, learning_rate, weight_decay=weight_decay, fused=fused)


def configure_unet(unet: Any, gradient_checkpointing: bool, backend: str | None) -> None:
    """Enable gradient checkpointing and `torch.compile` on diffusers' U-Net, in place. The weight names stay the same.

    Args:
        gradient_checkpointing: recompute each block's activations in the backward pass.
        backend: of `torch.compile`. None: not compiled.
    Raises:
        ValueError: no such backend.
    """
    if gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    if backend is None:
        return
    known = torch.compiler.list_backends(exclude_tags=())
    if backend not in known:
        raise ValueError(f"compile: got {backend!r}, expected one of {', '.join(known)}, or null for none")
    unet.compile(backend=backend)


class WeightAverage(nn.Module):
    """Exponential moving average of a module's parameters, ramped up as (1 + n) / (10 + n) like LDM's.

    The averages are buffers named after the parameters with dots replaced, so they travel with the state dict.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = decay
        self.updates: Tensor
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        for name, parameter in module.named_parameters():
            self.register_buffer(self._key(name), parameter.detach().clone())

    @staticmethod
    def _key(name: str) -> str:
        return name.replace(".", "/")

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the averages towards the module's present weights."""
        self.updates += 1
        count = int(self.updates)
        weight = 1 - min(self.decay, (1 + count) / (10 + count))
        for name, parameter in module.named_parameters():
            getattr(self, self._key(name)).lerp_(parameter, weight)

    def weights(self) -> dict[str, Tensor]:
        """Parameter name -> average."""
        return {name.replace("/", "."): value for name, value in self.named_buffers() if name != "updates"}

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Copy the averages into a module with the same parameters."""
        for name, parameter in module.named_parameters():
            parameter.copy_(getattr(self, self._key(name)))


@contextmanager
def averaged(module: nn.Module, average: WeightAverage | None) -> Iterator[None]:
    """Use the averaged weights of a module inside the block. `average` None: its present weights."""
    if average is None:
        yield
        return
    kept = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    average.copy_to(module)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(kept[name])
