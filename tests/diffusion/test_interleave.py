"""Algorithm 1: each line with stand-in networks, its switches, gradients, and the size promised for its code."""

import ast
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from midms.diffusion import interleave as module
from midms.diffusion.interleave import JoinedPrediction, Rewarp, StepRecord, interleave, predict_once, refine
from midms.diffusion.schedule import add_noise, linear_schedule
from midms.diffusion.settings import InterleaveSettings, loop_times
from midms.diffusion.solvers import predict_x0

SCHEDULE = linear_schedule()
SHORT = InterleaveSettings.paper().replace(num_inference_steps=20, num_interleaved_steps=5, refine_steps=3)


def draw(seed: int) -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(x: Tensor, t: Tensor) -> Tensor:
    return 0.5 * torch.tanh(x) + 0.001 * t[:, None, None, None] * torch.cos(x)


def keep(prediction: Tensor) -> Rewarp:
    """A re-warp that changes nothing."""
    return Rewarp(prediction, torch.ones_like(prediction[:, :1]))


def test_follows_the_algorithm_line_by_line() -> None:
    warp, noise, other = draw(0), draw(1), draw(2)
    mask = (draw(3)[:, :1] > 0).double()
    tau = loop_times(SCHEDULE, SHORT)
    r = add_noise(warp, noise, tau.start)
    for index in range(5):
        eps = network(r, torch.full((2,), tau.times[index]))
        prediction = predict_x0(r, eps, tau.alpha_bars[index])
        if index < 3:  # n = 5, 4, 3; the last warp, n = 2, is skipped
            prediction = mask * other + (1 - mask) * prediction
        if index < 4:
            alpha = tau.alpha_bars[index + 1]
            r = alpha.sqrt() * prediction + (1 - alpha).sqrt() * eps
    result = interleave(network, warp, lambda _: Rewarp(other, mask), SCHEDULE, SHORT, noise)
    assert torch.allclose(result.latent, prediction, atol=1e-12)
    assert len(result.steps) == len(result.predictions) == 5 and len(result.rewarps) == 3


def test_callback_sees_every_step_and_changes_nothing() -> None:
    seen: list[StepRecord] = []
    unet_times: list[int] = []

    def spying(x: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (2,) and t.dtype == torch.long
        unet_times.append(int(t[0]))
        return network(x, t)

    result = interleave(spying, draw(0), keep, SCHEDULE, SHORT, draw(1), seen.append)
    assert [step.n for step in seen] == [5, 4, 3, 2, 1]
    assert [step.rewarp is not None for step in seen] == [True, True, True, False, False]
    assert unet_times == loop_times(SCHEDULE, SHORT).times
    assert torch.equal(result.latent, interleave(network, draw(0), keep, SCHEDULE, SHORT, draw(1)).latent)


def test_switches() -> None:
    plain = interleave(network, draw(0), keep, SCHEDULE, SHORT.replace(rewarp="none"), draw(1))
    assert not plain.rewarps
    assert torch.equal(interleave(network, draw(0), keep, SCHEDULE, SHORT, draw(1)).latent, plain.latent)
    nothing = interleave(network, draw(0), keep, SCHEDULE, SHORT.replace(num_interleaved_steps=0), draw(1))
    assert torch.equal(nothing.latent, draw(0)) and not nothing.steps
    first = interleave(network, draw(0), keep, SCHEDULE, SHORT.replace(rewarp="none", solver="dpm1"), draw(1))
    second = interleave(network, draw(0), keep, SCHEDULE, SHORT.replace(rewarp="none", solver="dpm2"), draw(1))
    assert torch.allclose(first.latent, plain.latent, atol=1e-4)  # float32 tables
    assert not torch.allclose(second.latent, plain.latent, atol=1e-4)


def test_second_order_extrapolates_only_between_predictions_of_one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    extrapolated: list[bool] = []
    plain_step = module.solver_step

    def spying(*given: Any) -> Tensor:
        extrapolated.append(given[-1] is not None)
        return plain_step(*given)

    monkeypatch.setattr(module, "solver_step", spying)
    second = SHORT.replace(solver="dpm2")
    for settings, expected in (
        (second, [False, True, True, False]),  # n = 5, 4 and 3 re-warp; n = 2 does not
        (second.replace(rewarp_interval=2), [False, False, False, False]),
        (second.replace(rewarp="none"), [False, True, True, False]),  # never into the last call
        (second.replace(rewarp="first_two"), [False, True, False, False]),
    ):
        extrapolated.clear()
        interleave(network, draw(0), keep, SCHEDULE, settings, draw(1))
        assert extrapolated == expected


def test_gradients_reach_warp_noise_network_and_rematch_through_the_whole_chain() -> None:
    warp, noise, other = (draw(seed).requires_grad_() for seed in range(3))
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)

    def last(*tensors: Tensor) -> Tensor:
        warp, noise, other, scale = tensors
        half = torch.full_like(warp[:, :1], 0.5)
        return interleave(
            lambda x, t: scale * network(x, t), warp, lambda p: Rewarp(p * other, half), SCHEDULE, SHORT, noise
        ).latent

    assert torch.autograd.gradcheck(last, (warp, noise, other, scale), fast_mode=True)


def test_cycles_are_collected_where_given() -> None:
    result = interleave(
        network, draw(0), lambda p: Rewarp(p, torch.ones_like(p[:, :1]), (p + 1,)), SCHEDULE, SHORT, draw(1)
    )
    assert [torch.equal(c, p + 1) for c, p in zip(result.cycles, result.predictions, strict=False)] == [True] * 3


def test_a_half_precision_network_does_not_lower_the_precision_of_the_latents() -> None:
    result = interleave(lambda x, t: network(x, t).bfloat16(), draw(0).float(), keep, SCHEDULE, SHORT, draw(1).float())
    assert result.latent.dtype == torch.float32


def test_refinement_of_a_perfect_network_returns_its_image() -> None:
    """When eps points from a fixed picture, any amount of noise is removed exactly, ancestral noise included."""
    target = draw(0)

    def perfect(x: Tensor, t: Tensor) -> Tensor:
        alpha = SCHEDULE.alphas_cumprod[t][:, None, None, None]
        return (x - alpha.sqrt() * target) / (1 - alpha).sqrt()

    refined = refine(perfect, draw(1), SCHEDULE, SHORT, draw(2), [draw(3), draw(4)])
    assert torch.allclose(refined, target, atol=1e-6)
    still = refine(perfect, draw(1), SCHEDULE, SHORT.replace(refine_steps=0), draw(2), [])
    assert torch.equal(still, draw(1))
    assert torch.allclose(
        refine(perfect, draw(1), SCHEDULE, SHORT.replace(refine_eta=0.0), draw(2), []), target, atol=1e-6
    )


@pytest.mark.parametrize("call", [0, 2])
def test_one_call_is_told_its_time_and_given_the_noise_of_the_call_before(call: int) -> None:
    """The released diffusion term: a perfect network returns the latent only where both belong together."""
    target, noise, told = draw(0), draw(1), []
    released = InterleaveSettings.released()
    tau = loop_times(SCHEDULE, released)
    level = tau.start if call == 0 else tau.alpha_bars[call - 1]

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        told.append(t.tolist())
        torch.testing.assert_close(x, add_noise(target, noise, level))
        return noise

    prediction = predict_once(denoiser, target, SCHEDULE, released, noise, call)
    assert told == [[tau.times[call]] * 2]
    own = tau.alpha_bars[call]
    torch.testing.assert_close(own.sqrt() * prediction + (1 - own).sqrt() * noise, add_noise(target, noise, level))
    assert not torch.allclose(prediction, target, atol=1e-3), "one level lies between them"


@pytest.mark.parametrize("call", [0, 2])
def test_a_joined_prediction_is_that_of_a_call_of_its_own_and_does_not_change_the_loop(call: int) -> None:
    released, sizes = InterleaveSettings.released(), []

    def counting(x: Tensor, t: Tensor) -> Tensor:
        sizes.append(len(x))
        return network(x, t)

    joined = JoinedPrediction(counting, draw(4)[:1], SCHEDULE, released, draw(5)[:1], call)
    loop = interleave(joined, draw(0), keep, SCHEDULE, released, draw(1))
    alone = interleave(network, draw(0), keep, SCHEDULE, released, draw(1))
    assert sizes == [3 if number == call else 2 for number in range(released.num_interleaved_steps)]
    assert torch.equal(loop.latent, alone.latent)
    expected = predict_once(network, draw(4)[:1], SCHEDULE, released, draw(5)[:1], call)
    assert torch.equal(joined.prediction, expected)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"noise has shape \(1, 3, 4, 4\), expected \(2, 3, 4, 4\) as the warp"):
        interleave(network, draw(0), keep, SCHEDULE, SHORT, draw(1)[:1])
    with pytest.raises(ValueError, match="1 step noises, expected at least 2 for refine_steps = 3"):
        refine(network, draw(0), SCHEDULE, SHORT, draw(1), [draw(2)])


def test_the_loop_stays_short_and_flat() -> None:
    tree = ast.parse(inspect.getsource(module))
    (loop,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "interleave")
    assert loop.end_lineno is not None and loop.end_lineno - loop.lineno + 1 <= 60

    def depth(node: ast.AST) -> int:
        inner = max((depth(child) for child in ast.iter_child_nodes(node)), default=0)
        return inner + isinstance(node, ast.For | ast.If | ast.While | ast.With | ast.Try)

    assert depth(loop) <= 3
