"""`scripts/benchmark.py matching`: time and memory of the matching block, streaming against dense.

Rows of one size, dtype and pass are measured in turn, in one run:

    sgemm_ceiling   FLOP of the block's products divided by the rate of a large square product: a bound of the device
    qk_product      only the products of queries and keys, tile by tile, not kept: a bound for any exact matching
    qk_matrix       the same as one product whose matrix is kept, the usual form
    streaming       `match(..., backend="streaming")` and the mask
    dense           `match(..., backend="dense")` and the mask
    released_dense  the arithmetic of the released code; every `ratio` is its time divided by the row's

Rows that store a matrix are skipped where one N x N matrix would exceed `--dense-limit` MB. Ratios are then null.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.timing import Row

SUMMARY = "the matching block: streaming against dense, time and peak memory"
MATRIX_NAMES = ("qk_matrix", "dense", "released_dense")  # they hold N x N tensors
BLOCK_NAMES = ("streaming", "dense", "released_dense")  # variants of the whole block
NAMES = ("sgemm_ceiling", "qk_product", "qk_matrix", "streaming", "dense", "released_dense")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 96, 128], help="tokens per side of both grids")
    parser.add_argument(
        "--passes", nargs="+", choices=("forward", "forward+backward"), default=["forward", "forward+backward"]
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="measurements per row, of which the median is reported")
    parser.add_argument(
        "--dense-limit",
        type=float,
        default=1100.0,
        help="largest N x N matrix in MB; rows that would need a larger one are skipped",
    )
    parser.add_argument("--memory-only", action="store_true", help="measure memory only, with one call per row")
    parser.add_argument("--no-memory", action="store_true", help="measure times only")


def run(options: argparse.Namespace) -> Iterator[Row]:
    """One row per variant, smallest size first.

    Raises:
        ValueError: a count below 1, or neither times nor memory to measure.
    """
    for name in ("sizes", "batch", "rounds"):
        value = getattr(options, name)
        smallest = min(value) if isinstance(value, list) else value
        if smallest < 1:
            raise ValueError(f"--{name}: got {smallest}, expected 1 or more")
    if options.memory_only and options.no_memory:
        raise ValueError("--memory-only, --no-memory: got both, expected one at most; together nothing is measured")
    for size in sorted(options.sizes):
        for pass_name in options.passes:
            yield from _rows(options, size, pass_name)


def _rows(options: argparse.Namespace, size: int, pass_name: str) -> Iterator[Row]:
    import torch

    from benchmarks import timing
    from benchmarks.matching_blocks import build, ceiling_scale

    dtype, backward = getattr(torch, options.dtype), pass_name == "forward+backward"
    matrix_mb = options.batch * size**4 * dtype.itemsize / 2**20
    names = [name for name in NAMES if name not in MATRIX_NAMES or matrix_mb <= options.dense_limit]
    if options.memory_only:
        names = [name for name in names if name in BLOCK_NAMES]
    arguments = (size, options.batch, options.device, dtype, backward)
    times: dict[str, list[float]] = {}
    if not options.memory_only:
        variants = {name: build(name, *arguments) for name in names}
        times = timing.time_rounds(variants, options.rounds, options.device)
        scale = ceiling_scale(size, options.batch, backward)
        times["sgemm_ceiling"] = [scale * time for time in times["sgemm_ceiling"]]
    for name in names:
        peak = None
        if not options.no_memory and name in BLOCK_NAMES:
            peak = timing.peak_mb(build, name, *arguments, device=options.device)
        yield timing.row(
            name,
            size=f"{size}x{size}",
            device=options.device,
            dtype=options.dtype,
            pass_name=pass_name,
            times=times.get(name),
            peak_mb=peak,
            reference=times.get("released_dense"),
        )
