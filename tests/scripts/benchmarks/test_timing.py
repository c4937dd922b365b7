"""How the benchmarks measure: turns, medians of ratios, rows, and the high-water mark of a process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import timing


def count_up(clock: list[float], cost: float) -> Callable[[], None]:
    """A function that moves a stopped clock on by `cost` seconds."""

    def run() -> None:
        clock[0] += cost

    return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of a processor clock that stands still between the functions above."""
    seconds = [0.0]
    monkeypatch.setattr(timing.time, "process_time", lambda: seconds[0])
    return seconds


def test_a_call_is_measured_in_milliseconds(clock: list[float]) -> None:
    assert timing.time_once(count_up(clock, 0.25), "cpu") == 250.0


def test_variants_take_turns_after_one_call_that_does_not_count(clock: list[float]) -> None:
    order: list[str] = []

    def variant(name: str, cost: float) -> Callable[[], None]:
        step = count_up(clock, cost)
        return lambda: (order.append(name), step())[1]

    times = timing.time_rounds({"fast": variant("fast", 0.5), "slow": variant("slow", 2.0)}, 3, "cpu")
    assert order == ["fast", "slow"] * 4
    assert times == {"fast": [500.0] * 3, "slow": [2000.0] * 3}


def test_a_machine_that_slows_down_changes_times_but_no_ratio() -> None:
    slowing = [1.0, 2.0, 4.0]
    assert timing.ratio_of_rounds([6 * s for s in slowing], [2 * s for s in slowing]) == 3.0


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=9), st.floats(0.1, 10))
def test_a_ratio_is_that_of_every_round_if_they_agree(times: list[float], factor: float) -> None:
    assert timing.ratio_of_rounds([factor * t for t in times], times) == pytest.approx(factor)


def test_the_ratio_is_the_median_over_rounds_not_of_medians() -> None:
    assert timing.ratio_of_rounds([1.0, 8.0, 9.0], [1.0, 4.0, 1.0]) == 2.0
    with pytest.raises(ValueError, match="argument"):
        timing.ratio_of_rounds([1.0, 2.0], [1.0])


def test_a_row_holds_the_median_and_null_for_what_is_unknown() -> None:
    row = timing.row("dense", "8x8", "cpu", "float32", "forward", [3.0, 1.0, 2.0], 12.34, [6.0, 2.0, 4.0])
    assert (row["median_ms"], row["peak_mb"], row["ratio"]) == (2.0, 12.3, 2.0)
    unknown = timing.row("dense", "8x8", "cpu", "float32", "forward", None, None, [6.0])
    assert unknown["median_ms"] is unknown["peak_mb"] is unknown["ratio"] is None
    alone = timing.row("dense", "8x8", "cpu", "float32", "forward", [3.0], None, None)
    assert alone["median_ms"] == 3.0 and alone["ratio"] is None


def build_buffer(megabytes: int) -> Callable[[], object]:
    """A function that fills a tensor of so many MB, for the process that measures memory."""
    return lambda: torch.full((megabytes, 2**18), 1.0).sum()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux only")
def test_the_peak_is_what_the_call_needs_above_its_inputs() -> None:
    assert timing.peak_mb(build_buffer, 64, device="cpu") == pytest.approx(64, abs=16)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured on Linux only")
def test_a_field_that_the_system_lacks_is_named() -> None:
    assert timing._status_mb("VmRSS") > 10
    with pytest.raises(RuntimeError, match="has no VmNothing: memory is measured on Linux only; measure times alone"):
        timing._status_mb("VmNothing")
