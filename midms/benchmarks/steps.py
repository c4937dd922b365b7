"""`scripts/benchmark.py steps`: quality against U-Net calls on the built-in benchmark, where the answer is known.

Rows are schedules: the paper's (T = 200, N = 50, 20 steps of refinement: 70 calls), shorter ones, DPM-Solver++ 2M in
the loop, re-warping every k-th time, and shorter refinements. Each has the mean PSNR, SSIM and feature distance to the
truth, and the sliced Wasserstein distance of the sets. `psnr_loss` and `distance_loss` are the shares (0.01 = 1 %) by
which PSNR is below, and distance above, the first row's, negative for a gain; `psnr_error` is the standard error of the
paired difference in dB. `median_ms` is processor time of a pair on the CPU; `ratio` the first row's over the row's.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from midms.benchmarks.timing import Row
    from midms.diffusion.settings import InterleaveSettings

SUMMARY = "quality against the number of U-Net calls, for shorter schedules"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--weights", default="demo", help="folder or shipped name (default: demo)")
    parser.add_argument("--pairs", type=int, default=64, help="of the fixed test list (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument(
        "--schedules", nargs="+", help="some of the rows by name; the first is what others compare with"
    )
    parser.add_argument("--plot", type=Path, help="draw PSNR and feature distance against calls to this file")


def schedules() -> dict[str, InterleaveSettings]:
    """The rows; threshold and refining network are the paper's everywhere."""
    from midms.diffusion.settings import InterleaveSettings

    paper = InterleaveSettings.paper()

    def loop(total: int, calls: int, solver: str = "ddim", interval: int = 1, refine: int = 0) -> InterleaveSettings:
        """The last `calls` of `total` steps; a refinement of `refine` steps covers the same times as the paper's 20."""
        return paper.replace(
            num_inference_steps=total,
            num_interleaved_steps=calls,
            solver=solver,
            rewarp_interval=interval,
            refine_steps=refine,
            refine_num_inference_steps=10 * refine if refine else 200,
            refine_eta=0.0 if refine else 1.0,
        )

    return {
        "paper": paper,
        "paper, not refined": loop(200, 50),
        "T=64 N=16": loop(64, 16),
        "T=64 N=16 k=4": loop(64, 16, interval=4),
        "fast": InterleaveSettings.fast(),  # T=50 N=12 k=4
        "T=50 N=12 k=4 2M": loop(50, 12, "dpm2", 4),
        "T=32 N=8 k=2 2M": loop(32, 8, "dpm2", 2),
        "T=32 N=8 k=2 2M + 4": loop(32, 8, "dpm2", 2, 4),
        "T=16 N=4": loop(16, 4),
        "T=16 N=4 2M": loop(16, 4, "dpm2"),
        "T=16 N=4 + 4": loop(16, 4, refine=4),
        "T=8 N=2": loop(8, 2),
    }


def run(options: argparse.Namespace) -> Iterator[Row]:
    """One row per schedule.

    Raises:
        ValueError: fewer than 2 pairs, an unknown schedule, or weights that cannot be read.
    """
    if options.pairs < 2 or options.batch_size < 1:
        raise ValueError(f"--pairs, --batch-size: got {options.pairs}, {options.batch_size}, expected at least 2 and 1")
    known = schedules()
    unknown = set(options.schedules or []) - set(known)
    if unknown:
        raise ValueError(f"--schedules: unknown {sorted(unknown)}, expected some of {', '.join(known)}")
    rows = list(_rows(options, {name: known[name] for name in options.schedules or known}))
    if options.plot:
        plot(rows, options.plot)
    yield from rows


def _rows(options: argparse.Namespace, chosen: dict[str, InterleaveSettings]) -> Iterator[Row]:
    import torch

    from midms.benchmarks import timing
    from midms.benchmarks.parts import PartClock
    from midms.data.procedural.dataset import test_pairs
    from midms.evaluation import benchmark
    from midms.evaluation.truth import paired_difference
    from midms.pipelines.midms import MIDMsPipeline

    pipe = MIDMsPipeline.from_pretrained(options.weights, options.device)
    size = int(pipe.info.get("size", 64))
    dataset = test_pairs(pipe.info.get("task", "faces"), size, options.pairs)
    pairs = list(benchmark.encoded_pairs(pipe.model, dataset, options.batch_size))
    truth = torch.cat([pair.batch["truth"].cpu() for pair in pairs])
    first = None
    for name, settings in chosen.items():
        clock = PartClock(options.device)
        scores = benchmark.score(pipe.model, pairs, clock.wrap("all", benchmark.full), settings)
        times = [clock.milliseconds["all"] / len(dataset)]
        first = first or (scores, times)
        row = timing.row(name, f"{size}x{size}", options.device, "float32", "translate", times, None, first[1])
        decibel, distance = (float(s.mean()) for s in (scores.psnr, scores.distance))
        yield row | {
            "calls": settings.num_interleaved_steps + settings.refine_steps,
            "rewarps": len(settings.rewarped_steps()),
            "psnr": round(decibel, 3),
            "ssim": round(float(scores.ssim.mean()), 4),
            "feature_distance": round(distance, 4),
            "swd": round(benchmark.compare(first[0], scores, truth)[2], 2),
            "psnr_loss": round(1 - decibel / float(first[0].psnr.mean()), 4),
            "psnr_error": round(paired_difference(scores.psnr, first[0].psnr).standard_error, 3),
            "distance_loss": round(distance / float(first[0].distance.mean()) - 1, 4),
        }


def plot(rows: list[Row], file: Path) -> None:
    """PSNR and feature distance against calls, each schedule named."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, key, label in zip(
        axes, ("psnr", "feature_distance"), ("PSNR to truth, dB", "feature distance"), strict=True
    ):
        axis.scatter([row["calls"] for row in rows], [row[key] for row in rows])
        for row in rows:
            axis.annotate(row["name"], (row["calls"], row[key]), fontsize=7, xytext=(3, 3), textcoords="offset points")
        axis.set_xscale("log", base=2)
        axis.set_xlabel("U-Net calls")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    figure.savefig(file, dpi=100)
    pyplot.close(figure)
