"""Noise levels and the closed-form steps between them.

Legend:
    a(t)   cumulative product of alphas at training time t; a(t < 0) := a(0)
    N      number of sampling steps
    r      stride, floor(T / N) with T training steps
    t_k    time of sampling step k, t_0 > ... > t_{N-1}
    e      noise predicted at (x, t)

Coefficients are computed in the dtype of the schedule: float32, as in the DDIM sampler of diffusers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

from torch import Tensor

InversionKind = Literal["coherent", "released", "diffusers"]
INVERSION_KINDS: tuple[InversionKind, ...] = ("coherent", "released", "diffusers")


class Schedule(NamedTuple):
    """Sampling times over a table of noise levels."""

    alphas: Tensor  # a(0..T-1), (T,)
    timesteps: tuple[int, ...]  # t_0 > ... > t_{N-1}
    stride: int  # r

    @property
    def num_steps(self) -> int:
        return len(self.timesteps)

    def alpha(self, t: int) -> Tensor:
        """a(t) as a scalar tensor; times below 0 mean a(0)."""
        return self.alphas[max(t, 0)]

    @property
    def alpha_top(self) -> Tensor:
        """a_T = a(t_0), the level at which sampling starts."""
        return self.alpha(self.timesteps[0])


class InversionStep(NamedTuple):
    """One inversion step: predict noise at time `t`, then go from level `alpha_from` to level `alpha_to`."""

    t: int
    alpha_from: Tensor
    alpha_to: Tensor


def make_schedule(alphas: Tensor, num_steps: int, offset: int = 1) -> Schedule:
    """ "Leading" spacing: t_k = offset + r (N - 1 - k), r = floor(T / N).

    Args:
        alphas: cumulative products, (T,).
        num_steps: N, at least 2.
        offset: `steps_offset` of the scheduler (1 for Stable Diffusion).
    Raises:
        ValueError: N is below 2 or too large for the table.
    """
    total = len(alphas)
    if num_steps < 2:
        raise ValueError(f"num_inference_steps must be at least 2, got {num_steps}")
    stride = total // num_steps
    if stride < 1 or offset + stride * (num_steps - 1) >= total:
        raise ValueError(
            f"num_inference_steps={num_steps} does not fit {total} training steps; use at most {total - 1}"
        )
    return Schedule(alphas, tuple(offset + stride * (num_steps - 1 - k) for k in range(num_steps)), stride)


def predict_x0(x: Tensor, e: Tensor, alpha: Tensor) -> Tensor:
    """x0hat = (x - sqrt(1-a) e) / sqrt(a): the clean latent implied by `e`; any shape."""
    return (x - (1 - alpha) ** 0.5 * e) / alpha**0.5


def predict_x_top(x: Tensor, e: Tensor, alpha: Tensor, alpha_top: Tensor) -> Tensor:
    """xThat = sqrt(a_T/a) x + (sqrt(1-a_T) - sqrt(a_T(1-a)/a)) e: one jump from level `alpha` to the top; any shape."""
    scale = (alpha_top / alpha) ** 0.5
    shift = (1 - alpha_top) ** 0.5 - (alpha_top * (1 - alpha) / alpha) ** 0.5
    return scale * x + shift * e


def move(x: Tensor, e: Tensor, alpha_from: Tensor, alpha_to: Tensor) -> Tensor:
    """Deterministic DDIM step (eta = 0) between two levels, in either direction; any shape.

    x' = sqrt(a') x0hat(x, e, a) + sqrt(1-a') e
    """
    return alpha_to**0.5 * predict_x0(x, e, alpha_from) + (1 - alpha_to) ** 0.5 * e


def ddim_step(x: Tensor, e: Tensor, t: int, schedule: Schedule) -> Tensor:
    """One sampling step from t down to t - r; x and e of any one shape."""
    return move(x, e, schedule.alpha(t), schedule.alpha(t - schedule.stride))


def inverse_step(x: Tensor, e: Tensor, t: int, schedule: Schedule, clamp_last: bool = True) -> Tensor:
    """The inverse step of the released code: from level t - 1 up to level t + r - 1 (both indices shifted by -1).

    Args:
        x, e: latent and noise prediction, of one shape.
        clamp_last: use the last entry for a time beyond the table. False is the released behaviour: if t + r exceeds
            the number of training steps, the step goes to a(0), that is, it removes all noise.
    """
    step = _shifted_move(t, schedule, clamp_last)
    return move(x, e, step.alpha_from, step.alpha_to)


def _shifted_move(t: int, schedule: Schedule, clamp_last: bool) -> InversionStep:
    total, upper = len(schedule.alphas), t + schedule.stride
    if upper > total and not clamp_last:
        alpha_to = schedule.alpha(0)
    else:
        alpha_to = schedule.alpha(min(upper - 1, total - 1))
    return InversionStep(t, schedule.alpha(t - 1), alpha_to)


def inversion_plan(schedule: Schedule, kind: InversionKind = "coherent") -> list[InversionStep]:
    """The steps that invert a clean latent up to (about) the level t_0.

    Args:
        kind: "coherent": max(N - 2, 1) even steps from level 0 exactly to t_0, with the noise at the upper level.
            "released": the N - 2 shifted steps of the released code at t_{N-2} ... t_1. They treat the clean latent as
            one stride above 0 and end one level below t_0.
            "diffusers": the N steps of `DDIMInverseScheduler`, which are those of the sampler in reverse.
    """
    ascending = schedule.timesteps[::-1]
    if kind == "released":
        return [_shifted_move(t, schedule, clamp_last=False) for t in ascending[1:-1]]
    if kind == "diffusers":
        return [InversionStep(t, schedule.alpha(t - schedule.stride), schedule.alpha(t)) for t in ascending]
    if kind != "coherent":
        raise ValueError(f"inversion must be one of {', '.join(INVERSION_KINDS)}, got {kind!r}")
    count, top = max(schedule.num_steps - 2, 1), schedule.timesteps[0]
    levels = [round(top * i / count) for i in range(count + 1)]
    return [InversionStep(high, schedule.alpha(low), schedule.alpha(high)) for low, high in pairwise(levels)]
