"""One step of the reverse process: DDIM (paper Eq. 3, 4) and DPM-Solver++ in x0 form.

The interleaved loop changes the x0 prediction between a network call and the following step (Eq. 11). The paper's DDIM
keeps the network's eps for the direction of the step, so the change is made in full. DPM-Solver++ (Lu et al. 2022) uses
only the x0 prediction and moves the latent from where it is. Seen from DDIM, "dpm1" makes the share 1 - exp(-h) of the
change, where h is the step in half log-SNR: it averages the prediction and its re-warp. Without re-warping both are
equal. docs/benchmarks/sampling.md measures the difference.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from midms.diffusion.schedule import ddim_sigma

Solver = Literal["ddim", "dpm1", "dpm2"]
SOLVERS: tuple[Solver, ...] = ("ddim", "dpm1", "dpm2")


class Previous(NamedTuple):
    """The x0 prediction and noise level of the previous step, for a multistep solver."""

    x0: Tensor
    alpha_bar: Tensor


def predict_x0(x: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """f_theta of Eq. 3: (x - sqrt(1 - alpha_bar) eps) / sqrt(alpha_bar), all (B, c, h, w); the level is broadcast."""
    return (x - (1.0 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()


def ddim_step(
    x0: Tensor, eps: Tensor, alpha_bar: Tensor, alpha_bar_prev: Tensor, eta: float = 0.0, noise: Tensor | None = None
) -> Tensor:
    """Eq. 4 (with eta > 0: Song et al. 2021, Eq. 12): from an x0 prediction to the latent of the next cleaner level.

    Args:
        x0: prediction, possibly re-warped, (B, c, h, w).
        eps: the network's noise prediction at `alpha_bar`, (B, c, h, w).
        alpha_bar: level of the network call; used only for eta > 0.
        alpha_bar_prev: level of the result.
        eta: 0 deterministic, 1 ancestral.
        noise: standard normal of x0's shape, needed for eta > 0.
    """
    if eta == 0.0:
        return alpha_bar_prev.sqrt() * x0 + (1.0 - alpha_bar_prev).sqrt() * eps
    if noise is None:
        raise ValueError(f"ddim_step: eta is {eta}, so the step draws noise: pass `noise` of shape {tuple(x0.shape)}")
    sigma = ddim_sigma(alpha_bar, alpha_bar_prev, eta)
    return alpha_bar_prev.sqrt() * x0 + (1.0 - alpha_bar_prev - sigma**2).sqrt() * eps + sigma * noise


def dpm_solver_step(
    x: Tensor, x0: Tensor, alpha_bar: Tensor, alpha_bar_prev: Tensor, previous: Previous | None = None
) -> Tensor:
    """DPM-Solver++ in data-prediction form (Lu et al. 2022): first order, or multistep second order ("2M").

    Args:
        x: latent at `alpha_bar`, (B, c, h, w).
        x0: prediction at `alpha_bar`, possibly re-warped, (B, c, h, w).
        alpha_bar: level of x.
        alpha_bar_prev: level of the result.
        previous: the previous step, for second order; None: first order.
    """
    log_snr = _half_log_snr(alpha_bar)
    step = _half_log_snr(alpha_bar_prev) - log_snr  # h > 0
    direction = x0
    if previous is not None:
        ratio = (log_snr - _half_log_snr(previous.alpha_bar)) / step  # r = h_last / h
        direction = x0 + (x0 - previous.x0) / (2.0 * ratio)
    shrink = ((1.0 - alpha_bar_prev) / (1.0 - alpha_bar)).sqrt()
    return shrink * x - alpha_bar_prev.sqrt() * torch.expm1(-step) * direction


def solver_step(
    solver: Solver,
    x: Tensor,
    x0: Tensor,
    eps: Tensor,
    alpha_bar: Tensor,
    alpha_bar_prev: Tensor,
    previous: Previous | None = None,
) -> Tensor:
    """One deterministic step by name: "ddim", "dpm1" or "dpm2" (first order without `previous`).

    Latents and the result are (B, c, h, w); see `ddim_step` and `dpm_solver_step`.

    Raises:
        ValueError: another name.
    """
    if solver == "ddim":
        return ddim_step(x0, eps, alpha_bar, alpha_bar_prev)
    if solver in ("dpm1", "dpm2"):
        return dpm_solver_step(x, x0, alpha_bar, alpha_bar_prev, previous if solver == "dpm2" else None)
    raise ValueError(f"solver_step: solver is {solver!r}, expected one of {', '.join(SOLVERS)}")


def _half_log_snr(alpha_bar: Tensor) -> Tensor:
    """lambda = log(alpha / sigma) with alpha² = alpha_bar, sigma² = 1 - alpha_bar."""
    return 0.5 * (alpha_bar.log() - (1.0 - alpha_bar).log())
