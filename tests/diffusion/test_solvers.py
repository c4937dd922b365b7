"""Single steps, and whole trajectories on a problem with a known solution."""

import itertools

import pytest
import torch
from torch import Tensor

from midms.diffusion.schedule import add_noise, linear_schedule
from midms.diffusion.solvers import Previous, Solver, ddim_step, dpm_solver_step, predict_x0, solver_step

SCHEDULE = linear_schedule()
A, B = SCHEDULE.alphas_cumprod[[240, 200]].double()


def draw(seed: int) -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_predict_x0_inverts_the_forward_process() -> None:
    x0, noise = draw(0), draw(1)
    assert torch.allclose(predict_x0(add_noise(x0, noise, A), noise, A), x0)


def test_ddim_step_stays_on_the_line_of_x0_and_eps() -> None:
    x0, noise = draw(0), draw(1)
    assert torch.allclose(ddim_step(x0, noise, A, B), add_noise(x0, noise, B))


def test_ancestral_step_keeps_the_noise_variance() -> None:
    zeros, ones = torch.zeros(1), torch.ones(1)
    direction, drawn = ddim_step(zeros, ones, A, B, 1.0, zeros), ddim_step(zeros, zeros, A, B, 1.0, ones)
    assert (direction.square() + drawn.square()).item() == pytest.approx((1.0 - B).item())
    with pytest.raises(ValueError, match=r"eta is 0.5, so the step draws noise: pass `noise` of shape \(1,\)"):
        ddim_step(zeros, ones, A, B, 0.5)


def test_first_order_dpm_solver_is_ddim_for_an_unchanged_prediction() -> None:
    x0, noise = draw(0), draw(1)
    x = add_noise(x0, noise, A)
    assert torch.allclose(dpm_solver_step(x, x0, A, B), ddim_step(x0, noise, A, B))


def test_first_order_dpm_solver_makes_a_share_of_a_change_that_ddim_makes_in_full() -> None:
    prediction, noise, rewarped = draw(0), draw(1), draw(2)
    step = 0.5 * ((B / (1 - B)).log() - (A / (1 - A)).log())
    share = 1 - torch.exp(-step)
    mixed = ddim_step(prediction + share * (rewarped - prediction), noise, A, B)
    assert 0.1 < share < 0.9
    assert torch.allclose(dpm_solver_step(add_noise(prediction, noise, A), rewarped, A, B), mixed)


def test_second_order_needs_a_change_of_the_prediction() -> None:
    x, x0 = draw(0), draw(1)
    previous = Previous(x0, SCHEDULE.alphas_cumprod[280].double())
    assert torch.allclose(dpm_solver_step(x, x0, A, B, previous), dpm_solver_step(x, x0, A, B))


def integrate(solver: Solver, steps: int) -> float:
    """Error of the probability flow for Gaussian data of standard deviation s, whose exact solution is a scaling."""
    s, half_log_snr = 0.5, torch.linspace(-2.5, 2.0, steps + 1, dtype=torch.float64)
    levels = torch.sigmoid(2 * half_log_snr)
    x = torch.ones(1, dtype=torch.float64)
    spread = (levels * s**2 + 1 - levels).sqrt()
    previous = None
    for level, following in itertools.pairwise(levels):
        eps = (1 - level).sqrt() * x / (level * s**2 + 1 - level)
        x0 = predict_x0(x, eps, level)
        x, previous = solver_step(solver, x, x0, eps, level, following, previous), Previous(x0, level)
    return abs(float(x - spread[-1] / spread[0]))


def test_orders_of_convergence() -> None:
    assert integrate("ddim", 20) == pytest.approx(integrate("dpm1", 20))
    assert integrate("dpm2", 20) < 0.3 * integrate("dpm1", 20)
    assert integrate("dpm1", 80) / integrate("dpm1", 40) == pytest.approx(0.5, abs=0.15)
    assert integrate("dpm2", 160) / integrate("dpm2", 80) < 0.35


def test_unknown_solver() -> None:
    with pytest.raises(ValueError, match="solver is 'euler', expected one of ddim, dpm1, dpm2"):
        solver_step("euler", draw(0), draw(1), draw(2), A, B)
