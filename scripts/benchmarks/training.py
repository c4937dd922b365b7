"""`scripts/benchmark.py training`: time and memory of an end-to-end training step, compared with the released form.

    reference  with --reference: float32, all matrices stored, 9 U-Net calls (`benchmarks.released_training`)
    ours       the same loss by `ReleasedTrainingObjective`: exemplar and source as one batch (4 U-Net calls),
               streaming matching, fused attention and AdamW, channels-last layout of all but the encoders
    recomputed ours, with the U-Net's blocks recomputed in the backward pass

A step is forward pass, backward pass and AdamW on encoders and U-Net, with VGG-19 (random weights) for the losses.
Modes are measured in turn, in one run. `peak_mb` is the memory of one step above the weights, each mode in its own
process. Rows named after a part give the memory that autograd saves in it for the backward pass (`saved_mb`, each
tensor once). The inputs of recomputed blocks count only in the peak. The published size needs a GPU, so that without
one its rows say "not measured".
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.options import add_plot, add_shape, check_shape

if TYPE_CHECKING:
    from benchmarks.timing import Row, Run

MODES = ("ours", "recomputed")
SUMMARY = "an end-to-end training step: seconds, peak memory and what each part saves"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    add_shape(
        parser, "celebahq on CUDA, else demo", "256 on CUDA, else 64", "measurements after one that does not count"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32",
                        help="bfloat16: our modes compute as with `trainer.precision: bf16-mixed` (the reference is "
                        "float32)")  # fmt: skip
    parser.add_argument("--no-memory", action="store_true", help="no peaks")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["ours"], help="modes to measure (default: ours)")
    add_plot(parser, "what the parts save")


def run(options: argparse.Namespace) -> Iterator[Row]:
    """One row per mode, one per part of what it saves, and the published size's, measured or not.

    Raises:
        ValueError: an unknown size, a count below 1, or a side that is no multiple of 32.
    """
    from benchmarks import timing
    from benchmarks.training_step import build, saved_megabytes

    cuda = options.device == "cuda"
    config = options.config or ("celebahq" if cuda else "demo")
    size = options.size if options.size is not None else (256 if cuda else 64)
    check_shape(options.batch, options.rounds, size)
    modes = ["reference"] * options.reference + list(options.modes)
    dtypes = {mode: "float32" if mode == "reference" else options.dtype for mode in ("reference", *MODES)}
    arguments = (config, size, options.batch, options.device, options.dtype)
    variants: dict[str, Run] = {mode: build(mode, *arguments) for mode in modes}
    times = timing.time_rounds(variants, options.rounds, options.device)
    rows = []
    for mode in modes:
        peak = None if options.no_memory else timing.peak_mb(build, mode, *arguments, device=options.device)
        shape = (f"{size}x{size}", options.device, dtypes[mode])
        rows.append(timing.row(mode, *shape, "step", times[mode], peak, times.get("reference")))
        for part, megabytes in saved_megabytes(mode, *arguments).items():
            rows.append(timing.row(mode, *shape, part, None, None, None) | {"saved_mb": round(megabytes, 2)})
    if not cuda:
        for mode in ("reference", *options.modes):
            row = timing.row(mode, "256x256", "cuda", dtypes[mode], "step", None, None, None)
            rows.append(row | {"note": "not measured: no CUDA device"})
    if options.plot:
        plot(rows, options.plot)
    yield from rows


def plot(rows: list[Row], file: Path) -> None:
    """Stacked bars, one per mode, of the memory saved by each part."""
    from benchmarks.plots import stacked_bars

    bars: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["pass"] not in ("step", "all"):
            bars.setdefault(row["name"], {})[row["pass"]] = row["saved_mb"]
    stacked_bars(file, bars, "saved for the backward pass, MB")
