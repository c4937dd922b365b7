"""Matching interleaved with denoising: the paper's Algorithm 1, and the refinement that follows it.

Legend (code: paper): warp: R_{X<-Y}; latent: r^n; prediction: r~^n; rewarp: R_{r~^n<-Y}; mask: M_{r~^n<-Y};
alpha_bars: alpha_{tau_n}; denoiser: eps_theta. Latents are (B, c, h, w).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from midms.diffusion.schedule import Schedule, add_noise
from midms.diffusion.settings import InterleaveSettings, loop_times, refine_times
from midms.diffusion.solvers import Previous, ddim_step, predict_x0, solver_step

Denoiser = Callable[[Tensor, Tensor], Tensor]  # latent (B, c, h, w), times (B,) int64 -> eps (B, c, h, w)


class Rewarp(NamedTuple):
    """Result of a re-warp: the exemplar matched with a prediction and warped (lines 13 to 16 of Algorithm 1)."""

    warp: Tensor  # (B, c, h, w)
    mask: Tensor  # (B, 1, h, w): 1 where the warp is trusted, 0 where the prediction stays
    cycles: tuple[Tensor, ...] = ()  # the warp warped back, one per exemplar (Eq. 13); only in training


class StepRecord(NamedTuple):
    """Step n of the loop: its U-Net call and its re-warp."""

    n: int
    latent: Tensor  # r^n, the input of the call
    epsilon: Tensor  # its output
    prediction: Tensor  # r~^n, before re-warping
    rewarp: Rewarp | None  # None where the step does not re-warp


class Interleaved(NamedTuple):
    """Result of the loop."""

    latent: Tensor  # r^0, to be decoded
    steps: list[StepRecord]  # n = N..1

    @property
    def predictions(self) -> list[Tensor]:
        """The x0 predictions of all steps, before re-warping."""
        return [step.prediction for step in self.steps]

    @property
    def rewarps(self) -> list[Rewarp]:
        """The re-warps of the steps that have one."""
        return [step.rewarp for step in self.steps if step.rewarp is not None]

    @property
    def cycles(self) -> list[Tensor]:
        """The cyclic warps of Eq. 13, of every re-warp and exemplar, if `rematch` returned them."""
        return [cycle for rewarp in self.rewarps for cycle in rewarp.cycles]


def interleave(
    denoiser: Denoiser,
    warp: Tensor,
    rematch: Callable[[Tensor], Rewarp],
    schedule: Schedule,
    settings: InterleaveSettings,
    noise: Tensor,
    callback: Callable[[StepRecord], None] | None = None,
) -> Interleaved:
    """Algorithm 1 from line 10 to 19 (Eq. 7 to 11), differentiable from end to end.

    Args:
        denoiser: eps_theta.
        warp: initially warped exemplar R, (B, c, h, w).
        rematch: matches a prediction (B, c, h, w) with the exemplar and warps the exemplar's own latent again.
        schedule: on the device of `warp`.
        settings: see `InterleaveSettings`; with num_interleaved_steps = 0 the result is `warp`.
        noise: standard normal, (B, c, h, w).
        callback: called once per step.
    Returns:
        `Interleaved`; its `latent` is r^0.
    """
    if noise.shape != warp.shape:
        raise ValueError(f"interleave: noise has shape {tuple(noise.shape)}, expected {tuple(warp.shape)} as the warp")
    if settings.num_interleaved_steps == 0:
        return Interleaved(warp, [])
    tau, rewarped = loop_times(schedule, settings), settings.rewarped_steps()
    steps: list[StepRecord] = []
    previous = None
    latent = add_noise(warp, noise, tau.start)  # line 10
    for i, n in enumerate(range(settings.num_interleaved_steps, 0, -1)):  # line 11
        epsilon = denoiser(latent, _times(latent, tau.times[i])).to(latent.dtype)
        prediction = x0 = predict_x0(latent, epsilon, tau.alpha_bars[i])  # line 12
        rewarp = rematch(prediction) if n in rewarped else None  # lines 13 to 16
        if rewarp is not None:
            x0 = rewarp.mask * rewarp.warp + (1.0 - rewarp.mask) * prediction
        steps.append(StepRecord(n, latent, epsilon, prediction, rewarp))
        if callback is not None:
            callback(steps[-1])
        if n > 1:  # line 17
            level, following = tau.alpha_bars[i], tau.alpha_bars[i + 1]
            trend = previous if _extrapolates(steps) else None
            latent = solver_step(settings.solver, latent, x0, epsilon, level, following, trend)
            previous = Previous(x0, level)
    return Interleaved(prediction, steps)  # line 19: f_theta(r^1)


def _extrapolates(steps: Sequence[StepRecord]) -> bool:
    """Whether a step of second order may use the predictions of the last two calls.

    A re-warp of only one of them makes a jump between them, which is no trend. The step into the last call has no
    second order either: at times of the rule "paper" it is so long that an extrapolation overshoots
    (docs/benchmarks/sampling.md).
    """
    if len(steps) < 2:
        return False
    before, last = steps[-2:]
    return (before.rewarp is None) == (last.rewarp is None) and last.n > 2


def predict_once(
    denoiser: Denoiser, latent: Tensor, schedule: Schedule, settings: InterleaveSettings, noise: Tensor, call: int
) -> Tensor:
    """Add noise to a clean latent and predict it with one call of the loop, for the released diffusion term.

    As in the released code, the latent has the noise level of the previous call (the loop's start for the first call),
    but the denoiser gets the time of the call itself.

    Args:
        denoiser: eps_theta.
        latent: (B, c, h, w).
        schedule: on the device of `latent`.
        settings: of the loop; `num_interleaved_steps` must be greater than `call`.
        noise: standard normal, (B, c, h, w).
        call: of the loop, from 0 for n = N.
    Returns:
        The x0 prediction, (B, c, h, w).
    """
    level, time, noised = _noised(latent, schedule, settings, noise, call)
    epsilon = denoiser(noised, _times(noised, time)).to(noised.dtype)
    return predict_x0(noised, epsilon, level)


class JoinedPrediction:
    """A denoiser for one `interleave` that makes the prediction of `predict_once` within the call of the same time.

    One call with more samples costs less than two: the U-Net's weights are read once, and their gradient is written
    once.

    Args:
        denoiser, latent, schedule, settings, noise, call: as for `predict_once`. The loop must use the same schedule
            and settings.
    Attributes:
        prediction: the x0 prediction, (B, c, h, w), once the loop has made the call.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        latent: Tensor,
        schedule: Schedule,
        settings: InterleaveSettings,
        noise: Tensor,
        call: int,
    ) -> None:
        self.denoiser, self.call, self.calls = denoiser, call, 0
        self.level, self.time, self.noised = _noised(latent, schedule, settings, noise, call)
        self.prediction: Tensor

    def __call__(self, latent: Tensor, times: Tensor) -> Tensor:
        """eps of the loop's `latent` alone, (B', c, h, w)."""
        number, self.calls = self.calls, self.calls + 1
        if number != self.call:
            return self.denoiser(latent, times)
        joined = torch.cat([latent, self.noised.to(latent.dtype)])  # (B' + B, c, h, w)
        epsilon = self.denoiser(joined, torch.cat([times, _times(self.noised, self.time)]))
        self.prediction = predict_x0(self.noised, epsilon[len(latent) :].to(self.noised.dtype), self.level)
        return epsilon[: len(latent)]


def _noised(
    latent: Tensor, schedule: Schedule, settings: InterleaveSettings, noise: Tensor, call: int
) -> tuple[Tensor, int, Tensor]:
    """Level and time of a call of the loop, and `latent` at the noise level of the call before (`predict_once`)."""
    tau = loop_times(schedule, settings)
    noised = add_noise(latent, noise, tau.start if call == 0 else tau.alpha_bars[call - 1])
    return tau.alpha_bars[call], tau.times[call], noised


def refine(
    denoiser: Denoiser,
    latent: Tensor,
    schedule: Schedule,
    settings: InterleaveSettings,
    noise: Tensor,
    step_noises: Sequence[Tensor] | Tensor,
) -> Tensor:
    """Add some noise back and denoise again without matching (paper's appendix, "Feature Refinement Techniques").

    Args:
        denoiser: eps_theta of the LDM named by `settings.refine_model`; not checked here.
        latent: r^0, (B, c, h, w).
        schedule: on the device of `latent`.
        settings: `refine_*`, `noise_level` and `timesteps` are used.
        noise: standard normal of the start, (B, c, h, w).
        step_noises: standard normal of each step but the last, (refine_steps - 1, B, c, h, w) or a list;
            not used for refine_eta = 0.
    Returns:
        The last x0 prediction, (B, c, h, w); `latent` itself when refine_steps = 0.
    """
    if settings.refine_steps == 0:
        return latent
    if settings.refine_eta > 0.0 and len(step_noises) < settings.refine_steps - 1:
        raise ValueError(
            f"refine: {len(step_noises)} step noises, expected at least {settings.refine_steps - 1} "
            f"for refine_steps = {settings.refine_steps}"
        )
    tau = refine_times(schedule, settings)
    x = add_noise(latent, noise, tau.start)
    for index, time in enumerate(tau.times):
        epsilon = denoiser(x, _times(x, time)).to(x.dtype)
        prediction = predict_x0(x, epsilon, tau.alpha_bars[index])
        if index + 1 < len(tau.times):
            step_noise = step_noises[index] if settings.refine_eta > 0.0 else None
            x = ddim_step(
                prediction, epsilon, tau.alpha_bars[index], tau.alpha_bars[index + 1], settings.refine_eta, step_noise
            )
    return prediction


def _times(latent: Tensor, time: int) -> Tensor:
    """`time` for every sample, (B,)."""
    return torch.full((len(latent),), time, dtype=torch.long, device=latent.device)
