"""`scripts/benchmark.py growth`: time and memory of a translation against the side of the picture.

One row per side, with condition and exemplar of a drawn pair of faces both at that side, the weights' own schedule and
one call without warm-up. `seconds` has the processor time of each part. `peak_mb` is the memory of a call above that of
the loaded weights, in a fresh process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.parts import PartClock
    from benchmarks.timing import Row
    from midms.pipelines.midms import MIDMsPipeline

SUMMARY = "time by part, and memory, for growing pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--weights", default="demo", help="folder or shipped name, for faces (default: demo)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512], metavar="PIXELS",
                        help="sides of the picture (default: 64 128 256 512)")  # fmt: skip
    parser.add_argument("--no-memory", action="store_true", help="measure times only")


def run(options: argparse.Namespace) -> Iterator[Row]:
    """One row per side.

    Raises:
        ValueError: a side below 32, or another device than the CPU.
    """
    from benchmarks import timing

    if min(options.sizes) < 32:
        raise ValueError(f"--sizes: got {min(options.sizes)}, expected 32 or more")
    if options.device != "cpu":
        raise ValueError(f"--device: got {options.device}, expected cpu; processor time is measured")
    for size in options.sizes:
        pipe, call = prepared(options.weights, size)
        clock = parts_of(pipe, call)
        peak = None if options.no_memory else timing.peak_mb(build, options.weights, size, device="cpu")
        dtype = pipe.computation.dtype
        row = timing.row("translate", f"{size}x{size}", "cpu", dtype, "all", [clock.milliseconds["all"]], peak, None)
        seconds = {part: round(time / 1e3, 3) for part, time in clock.milliseconds.items() if part != "all"}
        yield row | {"seconds": seconds, "unet_calls": clock.calls["unet"]}


def prepared(weights: str, size: int) -> tuple[MIDMsPipeline, Callable[[], None]]:
    """The pipeline as programs configure it, and a function that translates the drawn pair once."""
    from midms.data.procedural.dataset import ProceduralPairs
    from midms.pipelines.making import load_pipeline

    pipe, pair = load_pipeline(weights, "cpu"), ProceduralPairs("faces", size, "test")[0]

    def call() -> None:
        pipe(pair["condition"], pipe.encode_exemplar(pair["exemplar"], size=size))

    return pipe, call


def parts_of(pipe: MIDMsPipeline, call: Callable[[], None]) -> PartClock:
    """The times of one call and of its parts."""
    from benchmarks.parts import PartClock, watching
    from midms.models.midms import MIDMs

    if not isinstance(pipe.model, MIDMs):
        raise ValueError(f"--weights: got weights of the kind {pipe.kind}, expected midms")
    clock = PartClock("cpu")
    with watching(pipe.model, clock.wrap):
        clock.wrap("all", call)()
    return clock


def build(weights: str, size: int) -> Callable[[], None]:
    """A translation, for `timing.peak_mb`."""
    return prepared(weights, size)[1]
