"""`scripts/benchmark.py steps`: quality against U-Net calls on the built-in benchmark, where the truth is known.

Rows are schedules: the paper's (T = 200, N = 50, 20 steps of refinement: 70 calls), shorter ones, DPM-Solver++ 2M in
the loop, re-warping every k-th time, and shorter refinements. Each has the mean PSNR, SSIM, feature distance and LPIPS
to the truth, and the sliced Wasserstein distance of the sets. `psnr_loss` and `distance_loss` are the shares (0.01 =
1 %) by which PSNR is below, and distance above, the first row's, negative for a gain; `psnr_error` is the standard
error of the paired difference in dB. `median_ms` is the processor time of a pair on the CPU, and `ratio` that of the
first row divided by the row's. LPIPS needs AlexNet's weights: without them the column is null, with a reason in
`lpips_note`.

With `--choose N` the schedules run on N validation pairs first, and of those with at most a quarter of the first row's
calls the one with the smallest feature distance is `chosen`. Then all run on the test pairs, which played no part in
the choice.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from benchmarks.options import add_plot

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmarks.timing import Row
    from midms.diffusion.settings import InterleaveSettings
    from midms.evaluation.benchmark import Scores
    from midms.pipelines.midms import MIDMsPipeline

SUMMARY = "quality against the number of U-Net calls, for shorter schedules"
SHARE = 0.25  # largest share of the first row's calls for a schedule to be chosen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--weights", default="demo", help="folder or shipped name (default: demo)")
    parser.add_argument("--pairs", type=int, default=64, help="of the fixed list (default: %(default)s)")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="of the pairs (default: test)")
    parser.add_argument(
        "--choose", type=int, metavar="N", help="choose a schedule on N validation pairs, before the test pairs"
    )
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--schedules", nargs="+", help="names of the rows to measure; the first is the baseline")
    parser.add_argument(
        "--lpips", type=Path, metavar="FILE", help="AlexNet's weights (default: torchvision's file in torch's cache)"
    )
    add_plot(parser, "quality against calls")


def schedules() -> dict[str, InterleaveSettings]:
    """The schedules, all with the paper's threshold and refining network."""
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
        "T=32 N=8 k=2": loop(32, 8, interval=2),  # the default of the shipped weights for faces
        "T=32 N=8 k=2 2M": loop(32, 8, "dpm2", 2),
        "T=32 N=8 k=2 2M + 4": loop(32, 8, "dpm2", 2, 4),
        "T=16 N=4": loop(16, 4),
        "T=16 N=4 2M": loop(16, 4, "dpm2"),
        "T=16 N=4 + 4": loop(16, 4, refine=4),
        "T=8 N=2": loop(8, 2),
    }


def run(options: argparse.Namespace) -> Iterator[Row]:
    """One row per schedule and list of pairs.

    Raises:
        ValueError: fewer than 2 pairs, an unknown schedule, `--choose` with validation pairs to report on, or weights
            that cannot be read.
    """
    counts = (options.pairs, 2 if options.choose is None else options.choose, options.batch_size)
    if min(counts[:2]) < 2 or options.batch_size < 1:
        raise ValueError(f"--pairs, --choose, --batch-size: got {counts}, expected at least 2, 2 and 1")
    if options.choose and options.split == "val":
        raise ValueError("--choose: the choice is made on validation pairs, so report on others: leave --split at test")
    known = schedules()
    unknown = set(options.schedules or []) - set(known)
    if unknown:
        raise ValueError(f"--schedules: unknown {sorted(unknown)}, expected some of {', '.join(known)}")
    from midms.pipelines.midms import MIDMsPipeline

    wanted = {name: known[name] for name in options.schedules or known}
    network, note = lpips_network(options.lpips, options.device)
    pipe = MIDMsPipeline.from_pretrained(options.weights, options.device)
    best = None
    if options.choose:
        tried = [row | note for row in _rows(pipe, wanted, "val", options.choose, options.batch_size, network)]
        best = choose(tried)
        yield from (row | {"chosen": row["name"] == best} for row in tried)
    rows = [row | note for row in _rows(pipe, wanted, options.split, options.pairs, options.batch_size, network)]
    if options.plot:
        plot(rows, options.plot)
    yield from (row | ({} if best is None else {"chosen": row["name"] == best}) for row in rows)


def choose(rows: list[Row]) -> str | None:
    """The schedule with the smallest feature distance among those with at most a quarter of the first one's calls."""
    short = [row for row in rows if row["calls"] <= SHARE * rows[0]["calls"]]
    return min(short, key=lambda row: row["feature_distance"])["name"] if short else None


def lpips_network(file: Path | None, device: str) -> tuple[nn.Module | None, Row]:
    """LPIPS with AlexNet's weights, or None and a note for the rows if no file was named and none is found.

    Raises:
        ValueError, FileNotFoundError: `file` is missing or has other contents.
    """
    from midms.metrics.diversity import LPIPS

    try:
        return LPIPS("alex", file).to(device), {}
    except (FileNotFoundError, ImportError) as error:
        if file is not None:
            raise
        return None, {"lpips_note": f"not measured: {error}"}


def _rows(
    pipe: MIDMsPipeline,
    wanted: dict[str, InterleaveSettings],
    split: str,
    count: int,
    batch_size: int,
    network: nn.Module | None,
) -> Iterator[Row]:
    """One row per schedule, measured on the first `count` pairs of a split."""
    import torch

    from benchmarks import timing
    from benchmarks.parts import PartClock
    from midms.data.procedural.dataset import ProceduralPairs, Split
    from midms.evaluation import benchmark

    size, device = int(pipe.info.get("size", 64)), pipe.device.type
    task = pipe.info.get("task", "faces")
    dataset = ProceduralPairs(task, size, cast(Split, split), count, exemplars={"hard": 1.0}, truth=True)
    pairs = list(benchmark.encoded_pairs(pipe.model, dataset, batch_size))
    truth = torch.cat([pair.batch["truth"].cpu() for pair in pairs])
    first = None
    for name, settings in wanted.items():
        clock = PartClock(device)
        scores = benchmark.score(pipe.model, pairs, clock.wrap("all", benchmark.full_method), settings)
        times = [clock.milliseconds["all"] / count]
        first = first or (scores, times)
        row = timing.row(name, f"{size}x{size}", device, "float32", "translate", times, None, first[1])
        row |= {
            "split": split,
            "pairs": count,
            "calls": settings.num_interleaved_steps + settings.refine_steps,
            "rewarps": len(settings.rewarped_steps()),
        }
        yield row | _quality(scores, first[0], truth, network, batch_size)


def _quality(scores: Scores, first: Scores, truth: Tensor, network: nn.Module | None, batch_size: int) -> Row:
    """The quality columns of one schedule, and their differences from the first schedule."""
    import torch

    from midms.metrics.swd import sliced_wasserstein_distance
    from midms.metrics.truth import paired_difference

    decibel, distance = (float(s.mean()) for s in (scores.psnr, scores.distance))
    lpips = None
    if network is not None:
        place = next(network.parameters()).device
        with torch.no_grad():
            parts = zip(scores.images.split(batch_size), truth.split(batch_size), strict=True)
            lpips = round(float(torch.cat([network(a.to(place), b.to(place)) for a, b in parts]).mean()), 4)
    return {
        "psnr": round(decibel, 3),
        "ssim": round(float(scores.ssim.mean()), 4),
        "feature_distance": round(distance, 4),
        "lpips": lpips,
        "swd": round(sliced_wasserstein_distance(scores.images, truth, shared_patches=True).average, 2),
        "psnr_loss": round(1 - decibel / float(first.psnr.mean()), 4),
        "psnr_error": round(paired_difference(scores.psnr, first.psnr).standard_error, 3),
        "distance_loss": round(distance / float(first.distance.mean()) - 1, 4),
    }


def plot(rows: list[Row], file: Path) -> None:
    """PSNR, feature distance and, where it was measured, LPIPS against calls; each schedule has a number."""
    from benchmarks.plots import curves

    panels = {
        "psnr": "PSNR to the truth, dB (higher is better)",
        "feature_distance": "feature distance to the truth (lower is better)",
    }
    if rows[0]["lpips"] is not None:
        panels["lpips"] = "LPIPS to the truth (lower is better)"
    points = {row["name"]: [row[key] for key in panels] for row in rows}
    curves(file, points, {row["name"]: row["calls"] for row in rows}, ("U-Net calls a picture", list(panels.values())))
