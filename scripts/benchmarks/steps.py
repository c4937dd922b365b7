"""`scripts/benchmark.py steps`: quality against U-Net calls on the built-in benchmark, where the truth is known.

Rows are schedules of the loop:

    T=.. N=..    the last N of T steps, at the paper's times and with its DDIM, re-warped as in the paper
    trailing     times at the ends of T equal intervals, steps that follow the re-warped prediction (dpm1), and a
                 re-warp after every call but the last
    k=..         re-warped every k-th time only
    dpm1, 2M     DPM-Solver++ of first and second order
    one match    never re-warped
    + ..         with a refinement of that many steps
    first warp   no call at all

Each row has the mean PSNR, SSIM, sharpness, distances on the first stage's features, on a network that does not change
with the weights (`fixed_distance`) and LPIPS to the truth, and the sliced Wasserstein distance of the sets. `pck` and
`same_part` are the shares of positions whose first match, the same for all rows, is within a tenth of the side
(positions of the subject), and on the same part.
`psnr_loss` and `distance_loss` are the shares (0.01 = 1 %) by which PSNR is below, and the distance above, the first
row's, negative for a gain. `psnr_difference` and `fixed_difference` are the paired differences to the first row, with
their standard errors in `psnr_error` and `fixed_error`. `median_ms` is the processor time of a pair on the CPU, and
`ratio` that of the first row divided by the row's. The fixed network needs the extra `metrics`, and LPIPS AlexNet's
weights: without them the columns are null, with a reason in `fixed_note` and `lpips_note`.

With `--choose N` the schedules run on N validation pairs first, and of those with at most a quarter of the paper's
calls the one with the smallest distance on the fixed network (without it, on the first stage) is `chosen`. Then all run
on the test pairs, which played no part in the choice.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from benchmarks.options import add_plot

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from benchmarks.timing import Row
    from midms.diffusion.settings import InterleaveSettings
    from midms.evaluation.benchmark import Scores
    from midms.pipelines.midms import MIDMsPipeline

SUMMARY = "quality against the number of U-Net calls, for shorter schedules"
LARGEST = 17  # calls of a schedule that can be chosen: a quarter of the paper's 70


#: Images and truths (B, 3, H, W), on the device of the networks -> distances (B,).
Compare = Callable[["Tensor", "Tensor"], "Tensor"]


class Networks(NamedTuple):
    """Distances on networks, each None where its weights are missing."""

    fixed: Compare | None
    lpips: Compare | None


class Measured(NamedTuple):
    """One schedule's results."""

    scores: Scores
    fixed: np.ndarray | None  # distances of the pairs on the fixed network
    lpips: np.ndarray | None
    times: list[float]  # milliseconds of a pair


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

    paper, fast = InterleaveSettings.paper(), InterleaveSettings.fast()

    def loop(total: int, calls: int, **changes: Any) -> InterleaveSettings:
        """The last `calls` of `total` steps without refinement, otherwise as in the paper."""
        return paper.replace(num_inference_steps=total, num_interleaved_steps=calls, refine_steps=0, **changes)

    def trailing(total: int, calls: int, **changes: Any) -> InterleaveSettings:
        """The same in the form of the preset `fast`."""
        return fast.replace(num_inference_steps=total, num_interleaved_steps=calls, **changes)

    def refined(steps: int) -> dict[str, Any]:
        """A refinement that covers the same times as the paper's 20 steps."""
        return {"refine_steps": steps, "refine_num_inference_steps": 10 * steps, "refine_eta": 0.0}

    return {
        "paper": paper,
        "T=64 N=16": loop(64, 16),
        "T=64 N=16 k=4": loop(64, 16, rewarp_interval=4),
        "T=64 N=16 dpm1": loop(64, 16, solver="dpm1"),
        "T=50 N=12 k=4": loop(50, 12, rewarp_interval=4),
        "T=16 N=4": loop(16, 4),
        "T=16 N=4 one match": loop(16, 4, rewarp="none"),
        "T=16 N=4 dpm1": loop(16, 4, solver="dpm1"),
        "T=16 N=4 2M": loop(16, 4, solver="dpm2"),
        "T=24 N=3": loop(24, 3),
        "T=24 N=3 dpm1": loop(24, 3, solver="dpm1"),
        "fast": fast,  # trailing T=16 N=4
        "trailing T=16 N=4 one match": trailing(16, 4, rewarp="none"),
        "trailing T=48 N=3": trailing(48, 3),
        "trailing T=36 N=3": trailing(36, 3),
        "trailing T=24 N=2": trailing(24, 2),
        "trailing T=24 N=2 DDIM": trailing(24, 2, solver="ddim"),
        "trailing T=24 N=2 one match": trailing(24, 2, rewarp="none"),
        "trailing T=24 N=2 + 2": trailing(24, 2, **refined(2)),
        "trailing T=36 N=2": trailing(36, 2),
        "trailing T=48 N=2": trailing(48, 2),
        "trailing T=24 N=1": trailing(24, 1),
        "first warp": trailing(24, 0),
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
    lpips, note = lpips_network(options.lpips, options.device)
    fixed, reason = fixed_network(options.device)
    networks, note = Networks(fixed, lpips), note | reason
    pipe = MIDMsPipeline.from_pretrained(options.weights, options.device)
    best = None
    if options.choose:
        tried = [row | note for row in _rows(pipe, wanted, "val", options.choose, options.batch_size, networks)]
        best = choose(tried)
        yield from (row | {"chosen": row["name"] == best} for row in tried)
    rows = [row | note for row in _rows(pipe, wanted, options.split, options.pairs, options.batch_size, networks)]
    if options.plot:
        plot(rows, options.plot)
    yield from (row | ({} if best is None else {"chosen": row["name"] == best}) for row in rows)


def choose(rows: list[Row]) -> str | None:
    """The schedule with the smallest distance among those with at most `LARGEST` calls."""
    short = [row for row in rows if row["calls"] <= LARGEST]
    key = "feature_distance" if rows[0]["fixed_distance"] is None else "fixed_distance"
    return min(short, key=lambda row: row[key])["name"] if short else None


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


def fixed_network(device: str) -> tuple[Compare | None, Row]:
    """The distance on the network of `midms.metrics.fixed_features`, or None and a note for the rows without it."""
    from midms.metrics.fixed_features import EfficientNetLiteFeatures, MissingNetworkError
    from midms.metrics.truth import feature_distance

    try:
        network = EfficientNetLiteFeatures().to(device)
    except MissingNetworkError as error:
        return None, {"fixed_note": f"not measured: {error}"}
    return lambda made, true: feature_distance(network(made), network(true)), {}


def _rows(
    pipe: MIDMsPipeline,
    wanted: dict[str, InterleaveSettings],
    split: str,
    count: int,
    batch_size: int,
    networks: Networks,
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
    means = benchmark.score_matching(pipe.model, pairs, "first").means()
    shares = {key: None if math.isnan(means[key]) else round(means[key], 4) for key in ("pck", "same_part")}
    first: Measured | None = None
    for name, settings in wanted.items():
        clock = PartClock(device)
        scores = benchmark.score(pipe.model, pairs, clock.wrap("all", benchmark.full_method), settings)
        times = [clock.milliseconds["all"] / count]
        on_fixed, on_lpips = (compared(one, scores.images, truth, batch_size, device) for one in networks)
        found = Measured(scores, on_fixed, on_lpips, times)
        first = first or found
        row = timing.row(name, f"{size}x{size}", device, "float32", "translate", times, None, first.times)
        row |= {
            "split": split,
            "pairs": count,
            "calls": settings.num_interleaved_steps + settings.refine_steps,
            "rewarps": len(settings.rewarped_steps()),
        }
        yield row | _quality(found, first, truth) | shares


def compared(compare: Compare | None, images: Tensor, truth: Tensor, batch_size: int, device: str) -> np.ndarray | None:
    """Distances of images (N, 3, H, W) to the truth, (N,), batch by batch on a device; None without a network."""
    import torch

    if compare is None:
        return None
    parts = zip(images.split(batch_size), truth.split(batch_size), strict=True)
    with torch.no_grad():
        found = [compare(made.to(device), true.to(device)) for made, true in parts]
    return torch.cat(found).double().cpu().numpy()


def _quality(found: Measured, first: Measured, truth: Tensor) -> Row:
    """The quality columns of one schedule, and their differences from the first schedule."""
    from midms.metrics.swd import sliced_wasserstein_distance
    from midms.metrics.truth import paired_difference, sharpness

    scores, before = found.scores, first.scores
    decibel, distance = (float(s.mean()) for s in (scores.psnr, scores.distance))
    difference = paired_difference(scores.psnr, before.psnr)
    row: Row = {
        "psnr": round(decibel, 3),
        "psnr_difference": round(difference.mean, 3),
        "psnr_error": round(difference.standard_error, 3),
        "ssim": round(float(scores.ssim.mean()), 4),
        "sharpness": round(float(sharpness(scores.images, truth).mean()), 3),
        "feature_distance": round(distance, 4),
        "fixed_distance": None,
        "lpips": None if found.lpips is None else round(float(found.lpips.mean()), 4),
        "swd": round(sliced_wasserstein_distance(scores.images, truth, shared_patches=True).average, 2),
        "psnr_loss": round(1 - decibel / float(before.psnr.mean()), 4),
        "distance_loss": round(distance / float(before.distance.mean()) - 1, 4),
    }
    if found.fixed is not None and first.fixed is not None:
        difference = paired_difference(found.fixed, first.fixed)
        row["fixed_distance"] = round(float(found.fixed.mean()), 4)
        row |= {"fixed_difference": round(difference.mean, 4), "fixed_error": round(difference.standard_error, 4)}
    return row


def plot(rows: list[Row], file: Path) -> None:
    """PSNR, distances and, where it was measured, LPIPS against calls; each schedule with a call has a number."""
    from benchmarks.plots import curves

    rows = [row for row in rows if row["calls"] > 0]  # the axis is logarithmic
    if not rows:
        raise ValueError("--plot: got the first warp alone, expected a schedule with U-Net calls")
    panels = {"psnr": "PSNR to the truth, dB (higher is better)"}
    if rows[0]["fixed_distance"] is None:
        panels["feature_distance"] = "feature distance to the truth (lower is better)"
    else:
        panels["fixed_distance"] = "distance-L to the truth (lower is better)"
    if rows[0]["lpips"] is not None:
        panels["lpips"] = "LPIPS to the truth (lower is better)"
    points = {row["name"]: [row[key] for key in panels] for row in rows}
    curves(file, points, {row["name"]: row["calls"] for row in rows}, ("U-Net calls a picture", list(panels.values())))
