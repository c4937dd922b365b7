"""Schedules, time subsequences and noise that belongs to a sample."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from midms.diffusion.schedule import (
    add_noise,
    ddim_sigma,
    ddim_tables,
    ddim_timesteps,
    linear_schedule,
    sample_noise,
)


def test_linear_schedule_has_the_stated_ends_and_falls() -> None:
    schedule = linear_schedule()
    assert schedule.betas.dtype == schedule.alphas_cumprod.dtype == torch.float32
    assert schedule.betas[0].item() == pytest.approx(0.0015) and schedule.betas[-1].item() == pytest.approx(0.0195)
    assert (schedule.alphas_cumprod.diff() < 0).all() and schedule.num_train_timesteps == 1000


@given(st.integers(1, 999))
@settings(max_examples=60, deadline=None)
def test_paper_rule_gives_exactly_the_steps_asked_for(steps: int) -> None:
    times = ddim_timesteps(1000, steps, "paper")
    assert len(times) == steps == len(set(times)) and times == sorted(times)
    assert 0 <= times[0] and times[-1] < 1000


def test_rules_agree_where_the_steps_divide_and_only_there() -> None:
    for steps in (50, 100, 200):
        assert ddim_timesteps(1000, steps, "paper") == ddim_timesteps(1000, steps, "released")
    released = ddim_timesteps(1000, 16, "released")
    assert len(released) == 17 and released[:3] == [1, 63, 125] and released[-1] == 993
    assert len(ddim_timesteps(1000, 16, "paper")) == 16


def test_ancestral_sigma_is_the_posterior_standard_deviation() -> None:
    """eta = 1 over adjacent times is DDPM: beta (1 - alpha_bar_prev) / (1 - alpha_bar)."""
    schedule = linear_schedule()
    tables = ddim_tables(schedule, range(1000), eta=1.0)
    posterior = schedule.betas * (1 - tables.alphas_prev) / (1 - tables.alphas)
    assert torch.allclose(tables.sigmas[1:].square(), posterior[1:], rtol=2e-2, atol=1e-7)  # 1 - a/b cancels in float32
    assert ddim_sigma(tables.alphas, tables.alphas_prev, 0.0).abs().max() == 0.0


def test_noised_unit_variance_stays_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 100_000, generator=generator)
    assert add_noise(x0, noise, 0.3).std().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(add_noise(x0, noise, 1.0), x0)


def test_noise_of_a_seed_does_not_depend_on_the_batch() -> None:
    def generators(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    batch = sample_noise((3, 2, 4, 4), generators(1, 2, 3))
    assert torch.equal(batch[1:2], sample_noise((1, 2, 4, 4), generators(2)))
    used = generators(5)
    first, second = sample_noise((1, 4), used), sample_noise((1, 4), used)
    assert not torch.equal(first, second)
    with pytest.raises(ValueError, match="2 generators for a batch of 3, expected one per sample"):
        sample_noise((3, 4), generators(1, 2))


@given(st.integers(1, 999))
@settings(max_examples=60, deadline=None)
def test_trailing_times_are_the_ends_of_equal_intervals(steps: int) -> None:
    times = ddim_timesteps(1000, steps, "trailing")
    assert len(times) == steps == len(set(times)) and times == sorted(times) and times[-1] == 999
    assert all(abs(time + 1 - (index + 1) * 1000 / steps) <= 0.5 for index, time in enumerate(times))


@pytest.mark.parametrize("steps", [0, 1000])
def test_step_counts_out_of_range(steps: int) -> None:
    with pytest.raises(ValueError, match=f"num_inference_steps is {steps}, expected 1 to 999"):
        ddim_timesteps(1000, steps)


def test_unknown_rule_and_impossible_betas() -> None:
    with pytest.raises(ValueError, match="rule is 'even', expected one of paper, released, trailing"):
        ddim_timesteps(1000, 10, "even")
    with pytest.raises(ValueError, match="expected 0 < start <= end < 1"):
        linear_schedule(start=0.02, end=0.01)
