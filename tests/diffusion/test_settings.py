"""Presets, which steps re-warp, the times of the chains, and what is refused."""

import pytest

from midms.diffusion.schedule import linear_schedule
from midms.diffusion.settings import InterleaveSettings, loop_times, refine_times

PAPER, RELEASED = InterleaveSettings.paper(), InterleaveSettings.released()
SCHEDULE = linear_schedule()


def test_released_times() -> None:
    tau = loop_times(SCHEDULE, RELEASED)
    assert tau.times == [249, 187, 125, 63] and tau.start_time == 311
    tau = refine_times(SCHEDULE, RELEASED)
    assert tau.times == list(range(96, 0, -5)) and tau.start_time == 101


def test_paper_times() -> None:
    tau = loop_times(SCHEDULE, PAPER)
    assert len(tau.times) == 50 and tau.times[-1] == 1 and tau.start_time == tau.times[0] == 246
    assert tau.start == SCHEDULE.alphas_cumprod[246]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (RELEASED, [4, 3]),
        (RELEASED.replace(num_interleaved_steps=2), [2]),  # the release re-warps before the last call here
        (RELEASED.replace(num_interleaved_steps=15), [15, 14]),
        (PAPER.replace(num_interleaved_steps=5), [5, 4, 3]),
        (PAPER.replace(num_interleaved_steps=5, skip_last_warp=False), [5, 4, 3, 2]),
        (PAPER.replace(num_interleaved_steps=7, rewarp_interval=2), [7, 5, 3]),
        (PAPER.replace(num_interleaved_steps=6, rewarp_interval=2), [6, 4]),
        (PAPER.replace(rewarp="none"), []),
        (PAPER.replace(num_interleaved_steps=1), []),
    ],
)
def test_steps_that_rewarp(settings: InterleaveSettings, expected: list[int]) -> None:
    assert settings.rewarped_steps() == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_interleaved_steps": 200}, "num_interleaved_steps: got 200, expected 0 to 199"),
        ({"refine_steps": -1}, "refine_steps: got -1, expected 0 to 199"),
        ({"solver": "euler"}, "solver: got 'euler', expected one of ddim, dpm1, dpm2"),
        ({"mask_form": "soft"}, "mask_form: got 'soft', expected one of paper, released, none"),
        ({"rewarp_interval": 0}, "rewarp_interval: got 0, expected 1"),
        ({"threshold": -0.1}, "threshold"),
        ({"threshold": float("nan")}, "threshold: got nan"),
        ({"refine_eta": 1.5}, "refine_eta: got 1.5, expected a number from 0"),
        ({"refine_eta": -0.1}, "refine_eta: got -0.1"),
        ({"refine_eta": float("nan")}, "refine_eta: got nan"),
    ],
)
def test_impossible_settings_are_refused_where_they_are_made(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PAPER.replace(**change)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((), (200, 50)), ((None, 7), (200, 7)), ((20,), (20, 5)), ((3,), (3, 1)), ((20, 0), (20, 0)), ((20, 6), (20, 6))],
)
def test_calls_follow_the_steps(arguments: tuple[int | None, ...], expected: tuple[int, int]) -> None:
    changed = PAPER.with_steps(*arguments)
    assert (changed.num_inference_steps, changed.num_interleaved_steps) == expected
    assert changed.replace(num_inference_steps=200, num_interleaved_steps=50) == PAPER
