"""How the benchmarks measure: interleaved rounds, medians, and the peak memory of a fresh process."""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

Run = Callable[[], object]


Row = dict[str, Any]  # one line of a benchmark, see `row`


def row(
    name: str,
    size: str,
    device: str,
    dtype: str,
    pass_name: str,
    times: Sequence[float] | None,
    peak_mb: float | None,
    reference: Sequence[float] | None,
) -> Row:
    """Median time, peak memory and speed-up over the reference; null if unknown."""
    return {
        "name": name,
        "size": size,
        "device": device,
        "dtype": dtype,
        "pass": pass_name,
        "median_ms": None if times is None else round(statistics.median(times), 3),
        "peak_mb": None if peak_mb is None else round(peak_mb, 1),
        "ratio": None if times is None or reference is None else round(ratio_of_rounds(reference, times), 3),
    }


def time_rounds(variants: dict[str, Run], rounds: int, device: str) -> dict[str, list[float]]:
    """Milliseconds of every variant in every round.

    Variants take turns, so that a change of the machine's speed affects all of them. On the CPU, times are processor
    time, summed over threads. On CUDA, times are device time between two events.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        run()
    for _ in range(rounds):
        for name, run in variants.items():
            times[name].append(time_once(run, device))
    return times


def ratio_of_rounds(reference: Sequence[float], times: Sequence[float]) -> float:
    """Median over the rounds of reference time / time."""
    return statistics.median(a / b for a, b in zip(reference, times, strict=True))


def peak_mb(build: Callable[..., Run], *arguments: Any, device: str) -> float:
    """Largest memory above its inputs, in MB, that one call of `build(*arguments)()` needs.

    On the CPU a fresh process is started and the high-water mark of its resident memory read, so memory held by
    the allocator of this process does not count. `build` must be importable.
    """
    if device != "cpu":
        return _cuda_peak(build(*arguments))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_resident_peak, (build, arguments))


def time_once(run: Run, device: str) -> float:
    """Milliseconds of one call, measured as `time_rounds` does."""
    if device == "cpu":
        start = time.process_time()
        run()
        return 1e3 * (time.process_time() - start)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


def _cuda_peak(run: Run) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _resident_peak(build: Callable[..., Run], arguments: tuple[Any, ...]) -> float:
    torch.set_num_threads(1)
    run = build(*arguments)
    torch.rand(64, 64) @ torch.rand(64, 64)  # start-up memory of the matrix library
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # reset the high-water mark to the current size
    before = _status_mb("VmRSS")
    run()
    return _status_mb("VmHWM") - before


def _status_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}: memory is measured on Linux only; measure times alone")
