"""Noise schedule of latent diffusion, its accelerated time subsequences, and noise drawn per sample.

`alpha_bar` (the paper's alpha_t of Eq. 1) is the share of signal variance at a time: x_t = sqrt(alpha_bar) x_0 +
sqrt(1 - alpha_bar) eps. Times are 0 to num_train_timesteps - 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, NamedTuple, get_args

import torch
from annotated_types import Interval
from torch import Tensor

#: beta of a step.
NoiseRate = Annotated[float, Interval(gt=0, lt=1)]
TimestepRule = Literal["paper", "released", "trailing"]


class Schedule(NamedTuple):
    """Tables of the forward process, float32, built once."""

    betas: Tensor  # (num_train_timesteps,)
    alphas_cumprod: Tensor  # (num_train_timesteps,): alpha_bar at each time

    @property
    def num_train_timesteps(self) -> int:
        return len(self.betas)

    def to(self, device: torch.device | str) -> Schedule:
        return Schedule(self.betas.to(device), self.alphas_cumprod.to(device))


class DDIMTables(NamedTuple):
    """Values of a DDIM subsequence in ascending time order, each (steps,)."""

    timesteps: Tensor  # int64
    alphas: Tensor  # alpha_bar at each time
    alphas_prev: Tensor  # alpha_bar one step cleaner; at the first entry alpha_bar of time 0
    sigmas: Tensor  # standard deviation of the noise drawn in a step


def linear_schedule(
    num_train_timesteps: Annotated[int, Interval(ge=1, le=100_000)] = 1000,
    start: NoiseRate = 0.0015,
    end: NoiseRate = 0.0195,
) -> Schedule:
    """LDM's "linear" schedule: square roots of beta evenly spaced (computed in float64, stored in float32).

    The defaults are those of the VQ models (CelebA-HQ, DeepFashion). For churches (KL) `end` is 0.0155.
    """
    if not 0.0 < start <= end < 1.0:
        raise ValueError(f"linear_schedule: start {start} and end {end}, expected 0 < start <= end < 1")
    betas = torch.linspace(start**0.5, end**0.5, num_train_timesteps, dtype=torch.float64).square()
    return Schedule(betas.float(), torch.cumprod(1.0 - betas, dim=0).float())


def ddim_timesteps(num_train_timesteps: int, num_inference_steps: int, rule: TimestepRule = "paper") -> list[int]:
    """Ascending subsequence tau_1 < tau_2 < ... of the training times.

    Args:
        num_train_timesteps: length of the training schedule.
        num_inference_steps: T.
        rule: "paper" gives exactly T times, floor(i * num_train_timesteps / T) + 1. "released" gives LDM's
            range(0, num_train_timesteps, num_train_timesteps // T) + 1, which for T = 16 has 17 entries. Both agree
            where T divides num_train_timesteps (T = 50, 100, 200). Both start at time 1, where hardly any noise is left
            to remove. "trailing" gives the ends of T equal intervals (Lin et al. 2024), round((i + 1) *
            num_train_timesteps / T) - 1, so that every call of a short loop has noise to remove.
    Raises:
        ValueError: T outside [1, num_train_timesteps - 1], or an unknown rule.
    """
    if not 1 <= num_inference_steps < num_train_timesteps:
        raise ValueError(
            f"ddim_timesteps: num_inference_steps is {num_inference_steps}, expected 1 to {num_train_timesteps - 1}"
        )
    if rule == "paper":
        return [index * num_train_timesteps // num_inference_steps + 1 for index in range(num_inference_steps)]
    if rule == "released":
        times = [time + 1 for time in range(0, num_train_timesteps, num_train_timesteps // num_inference_steps)]
        return [time for time in times if time < num_train_timesteps]
    if rule == "trailing":
        return [
            round((index + 1) * num_train_timesteps / num_inference_steps) - 1 for index in range(num_inference_steps)
        ]
    raise ValueError(f"ddim_timesteps: rule is {rule!r}, expected one of {', '.join(get_args(TimestepRule))}")


def ddim_tables(schedule: Schedule, timesteps: Sequence[int], eta: float = 0.0) -> DDIMTables:
    """Tables of DDIM (Song et al. 2021, Eq. 12 and 16) for ascending `timesteps`."""
    times = torch.tensor(list(timesteps), device=schedule.alphas_cumprod.device)
    alphas = schedule.alphas_cumprod[times]
    alphas_prev = torch.cat([schedule.alphas_cumprod[:1], alphas[:-1]])
    return DDIMTables(times, alphas, alphas_prev, ddim_sigma(alphas, alphas_prev, eta))


def ddim_sigma(alpha_bar: Tensor, alpha_bar_prev: Tensor, eta: float) -> Tensor:
    """Noise of one DDIM step: eta times the standard deviation of the posterior. 0 is deterministic, 1 is ancestral.

    The level `alpha_bar` and that of the next cleaner step, `alpha_bar_prev`, are in (0, 1). They and the result have
    one shape.
    """
    return eta * ((1.0 - alpha_bar_prev) / (1.0 - alpha_bar) * (1.0 - alpha_bar / alpha_bar_prev)).sqrt()


def add_noise(x0: Tensor, noise: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """Forward process (Eq. 1): sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) noise.

    `x0` and `noise` have one shape, such as (B, c, h, w). `alpha_bar` in (0, 1] is broadcast to it.
    """
    alpha_bar = torch.as_tensor(alpha_bar, dtype=x0.dtype, device=x0.device)
    return alpha_bar.sqrt() * x0 + (1.0 - alpha_bar).sqrt() * noise


def sample_generators(seeds: Iterable[int]) -> list[torch.Generator]:
    """One generator per sample, on the CPU, so that a seed's noise depends neither on the batch nor on the device."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def sample_noise(
    shape: Sequence[int], generators: Sequence[torch.Generator], dtype: torch.dtype | None = None
) -> Tensor:
    """Standard normal noise in which sample i depends only on generator i, not on the rest of the batch.

    Args:
        shape: (B, ...).
        generators: B generators, each used for one draw; the noise is on their device.
    """
    if len(generators) != shape[0]:
        raise ValueError(
            f"sample_noise: {len(generators)} generators for a batch of {shape[0]}, expected one per sample"
        )
    draws = [torch.randn(tuple(shape[1:]), generator=one, device=one.device, dtype=dtype) for one in generators]
    return torch.stack(draws)
