"""`scripts/benchmark.py sampling`: time of a translation by parts, compared with the released code's computation.

Modes are measured in turn, in one run, with random weights of a published size and the released schedule, in which 24
U-Net calls contribute to the result:

    reference  with --reference: float32, attention and matching held in full, and all 29 U-Net calls, 7 decodings and
               the source branch of the released code
    lean       what `MIDMsPipeline` does: 24 calls, 1 decoding, streaming matching
    cached     lean, with the exemplar encoded beforehand
    fast       lean after `fast()`

Each mode has a row for the whole translation, with `unet_calls`, `encodings` and `decodings`, and a row for each part
with its `calls`. `ratio` is the time of the reference divided by the row's. The row `floor` is the counted FLOP of the
lean mode's products divided by the measured rate of a 2048 x 2048 product, and `times_floor` the time of a mode divided
by that. On the CPU times are processor time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.options import add_plot, add_shape, check_shape

if TYPE_CHECKING:
    from benchmarks.networks import Pairs
    from benchmarks.parts import PartClock
    from benchmarks.timing import Row
    from midms.models.encoded import Exemplar
    from midms.models.midms import MIDMs

SUMMARY = "a whole translation by parts, compared with the released code's computation"
MODES = ("lean", "cached", "fast")
#: Key of the row for a whole translation -> the part whose calls it counts.
WORK = {"unet_calls": "unet", "encodings": "encode", "decodings": "decode"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    add_shape(parser, "celebahq", "256", "measurements per mode; the median is reported")
    parser.set_defaults(config="celebahq", size=256)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["lean"], help="modes to measure (default: lean)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32",
                        help="precision of U-Net and first stage in our modes (the reference is float32)")  # fmt: skip
    parser.add_argument(
        "--no-warm-up", action="store_true", help="also measure the first call, without a warm-up call before it"
    )
    add_plot(parser, "the parts of every mode")


def run(options: argparse.Namespace) -> Iterator[Row]:
    """One row per mode and per part of it.

    Raises:
        ValueError: an unknown size, a count below 1, or a side that is no multiple of 32.
    """
    check_shape(options.batch, options.rounds, options.size)
    from benchmarks.networks import random_model, random_pairs

    modes = ["reference"] * options.reference + list(options.modes)
    model = random_model(options.config, options.device)
    pairs = random_pairs(model, options.size, options.batch)
    clocks: dict[str, list[PartClock]] = {mode: [] for mode in modes}
    for count in range(options.rounds + (not options.no_warm_up)):
        for mode in modes:
            clock = measure(mode, model, pairs, options)
            if count or options.no_warm_up:
                clocks[mode].append(clock)
    rows = [row for mode in modes for row in _rows(options, mode, clocks)]
    rows.append(_floor(options, model, clocks))
    if options.plot:
        plot(rows, options.plot)
    yield from rows


def measure(mode: str, model: MIDMs, pairs: Pairs, options: argparse.Namespace) -> PartClock:
    """One run of a mode; the clock's part "all" is the whole."""
    import torch

    from benchmarks.parts import PartClock, watching
    from benchmarks.released_sampling import (
        dense_match,
        dense_rematch,
        plain_attention,
        released_translation,
    )
    from midms.diffusion.schedule import sample_generators
    from midms.diffusion.settings import InterleaveSettings
    from midms.models.numerics import fused_attention, set_dtype_and_memory_format

    plain_attention(model) if mode == "reference" else fused_attention(model)
    set_dtype_and_memory_format(
        model, torch.float32 if mode == "reference" else getattr(torch, options.dtype), mode == "fast"
    )
    generators = sample_generators(range(options.batch))
    clock, settings = PartClock(options.device), InterleaveSettings.released().replace(clamp_cosines=False)

    def reference() -> None:
        blocks = clock.wrap("matching", dense_match), clock.wrap("matching", dense_rematch)
        released_translation(model, pairs, generators, *blocks)

    def encode() -> Exemplar:
        images = pairs.exemplar.to(next(model.first_stage.parameters()).dtype)
        return model.encode_exemplar(images, pairs.exemplar_condition)

    def translate(exemplar: Exemplar | None = None) -> None:
        exemplars = [exemplar or encode()]
        result = model.translate(model.encode_condition(pairs.condition), exemplars, settings, generators)
        model.decode(result.latent.to(next(model.first_stage.parameters()).dtype))

    with torch.no_grad():
        ready = encode() if mode == "cached" else None
        with watching(model, clock.wrap):
            clock.wrap("all", reference)() if mode == "reference" else clock.wrap("all", translate)(ready)
    return clock


def _rows(options: argparse.Namespace, mode: str, clocks: dict[str, list[PartClock]]) -> Iterator[Row]:
    from benchmarks import timing
    from benchmarks.parts import PARTS

    for part in ("all", *PARTS):
        times = [clock.milliseconds[part] for clock in clocks[mode]]
        reference = [clock.milliseconds[part] for clock in clocks.get("reference", [])]
        dtype = "float32" if mode == "reference" else options.dtype
        known = reference if reference and all(reference) and all(times) else None
        row = timing.row(mode, f"{options.size}x{options.size}", options.device, dtype, part, times, None, known)
        whole = sum(clock.milliseconds["all"] for clock in clocks[mode])
        calls = clocks[mode][0].calls
        counts = {name: calls[one] for name, one in WORK.items()} if part == "all" else {}
        yield row | {"calls": calls[part], "share": round(sum(times) / whole, 4)} | counts


def _floor(options: argparse.Namespace, model: MIDMs, clocks: dict[str, list[PartClock]]) -> Row:
    """Counted FLOP of the lean run over the rate of a large product, and the ratio of each total time to it."""
    from benchmarks import timing
    from benchmarks.flops import product_rate, sampling_flop

    flop = options.batch * sum(sampling_flop(options.config, options.size).values())
    rate = product_rate(options.device, model.alphas_cumprod.dtype)
    reference = [clock.milliseconds["all"] for clock in clocks["reference"]] if "reference" in clocks else None
    times = [1e3 * flop / rate] * options.rounds
    row = timing.row(
        "floor", f"{options.size}x{options.size}", options.device, "float32", "all", times, None, reference
    )
    distance = {
        mode: round(timing.ratio_of_rounds([clock.milliseconds["all"] for clock in runs], times), 2)
        for mode, runs in clocks.items()
    }
    return row | {"tflop": round(flop / 1e12, 4), "gflop_per_s": round(rate / 1e9, 1), "times_floor": distance}


def plot(rows: list[Row], file: Path) -> None:
    """Stacked bars, one per mode, of the parts' times; the floor as a line."""
    from benchmarks.parts import PARTS
    from benchmarks.plots import stacked_bars

    seconds = {(row["name"], row["pass"]): row["median_ms"] / 1e3 for row in rows}
    bars = {}
    for mode in dict.fromkeys(row["name"] for row in rows if row["name"] != "floor"):
        parts = {part: seconds[mode, part] for part in PARTS}
        bars[mode] = parts | {"rest": max(0.0, seconds[mode, "all"] - sum(parts.values()))}
    stacked_bars(file, bars, "seconds a batch", ("floor", seconds["floor", "all"]))
