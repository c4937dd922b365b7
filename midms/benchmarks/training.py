"""`scripts/benchmark.py training`: seconds and memory of an end-to-end training step, ours against the released form.

    reference  with --reference: float32, everything materialised, 9 U-Net calls (`midms.benchmarks.released_training`)
    ours       the same loss by `midms.training.passes.ReleasedPass`: exemplar and source as one batch (4 U-Net calls),
               streaming matching, fused attention, U-Net blocks computed again on the way back, fused AdamW

A step is forward, backward and AdamW on encoders and U-Net, with VGG-19 (random weights) for the losses. Modes take
turns in one run; `peak_mb` is that of one step above the weights, each mode in a process of its own. Rows named after
a part hold what autograd saves for the way back in it, `saved_mb`, each tensor once; the inputs of blocks that are
computed again are in the peak alone. The published size needs a GPU: without one its rows say: not measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from midms.benchmarks.timing import Row, Run

SUMMARY = "an end-to-end training step: seconds, peak memory and what each part saves"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--reference", action="store_true", help="measure the plain reference in the same run")
    parser.add_argument("--config", help="celebahq, churches, demo or tiny (default: celebahq on CUDA, else demo)")
    parser.add_argument("--size", type=int, help="pixels a side (default: 256 on CUDA, else 64)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="measurements per mode, after one that does not count")
    parser.add_argument("--no-memory", action="store_true", help="no peaks")
    parser.add_argument("--plot", type=Path, help="draw what the parts save to this file")


def run(options: argparse.Namespace) -> Iterator[Row]:
    """One row per mode, one per part of what it saves, and the published size's, measured or not.

    Raises:
        ValueError: an unknown size, a count below 1, or a side that is no multiple of 32.
    """
    from midms.benchmarks import timing
    from midms.benchmarks.training_step import build, saved_megabytes

    cuda = options.device == "cuda"
    config, size = options.config or ("celebahq" if cuda else "demo"), options.size or (256 if cuda else 64)
    for name, value in (("batch", options.batch), ("rounds", options.rounds)):
        if value < 1:
            raise ValueError(f"--{name}: got {value}, expected 1 or more")
    if size < 32 or size % 32:
        raise ValueError(f"--size: got {size}, expected a multiple of 32")
    modes = ["reference"] * options.reference + ["ours"]
    arguments = (config, size, options.batch, options.device)
    variants: dict[str, Run] = {mode: build(mode, *arguments) for mode in modes}
    times = timing.time_rounds(variants, options.rounds, options.device)
    rows = []
    for mode in modes:
        peak = None if options.no_memory else timing.peak_mb(build, mode, *arguments, device=options.device)
        shape = (f"{size}x{size}", options.device, "float32")
        rows.append(timing.row(mode, *shape, "step", times[mode], peak, times.get("reference")))
        for part, megabytes in saved_megabytes(mode, *arguments).items():
            rows.append(timing.row(mode, *shape, part, None, None, None) | {"saved_mb": round(megabytes, 2)})
    if not cuda:
        for mode in ("reference", "ours"):
            row = timing.row(mode, "256x256", "cuda", "float32", "step", None, None, None)
            rows.append(row | {"note": "not measured: no CUDA device"})
    if options.plot:
        plot(rows, options.plot)
    yield from rows


def plot(rows: list[Row], file: Path) -> None:
    """Stacked bars, one a mode, of what the parts save."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    saved = {(row["name"], row["pass"]): row["saved_mb"] for row in rows if "saved_mb" in row}
    modes, parts = (list(dict.fromkeys(key[k] for key in saved)) for k in (0, 1))
    figure, axis = pyplot.subplots(figsize=(7, 1.4 + 0.5 * len(modes)), layout="constrained")
    left = [0.0] * len(modes)
    for part in parts:
        widths = [saved.get((mode, part), 0.0) for mode in modes]
        axis.barh(modes, widths, left=left, label=part)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axis.invert_yaxis()
    axis.set_xlabel("saved for the way back, MB")
    axis.legend(fontsize=8, ncols=4)
    figure.savefig(file, dpi=100)
    pyplot.close(figure)
