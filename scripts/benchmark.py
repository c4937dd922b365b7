#!/usr/bin/env python
"""Measure time and memory of one part of the package, each row against a reference measured in the same run.

    python scripts/benchmark.py matching --json
    python scripts/benchmark.py matching --sizes 256 --passes forward --memory-only

Prints a table, or with --json one JSON object per row: name, size, device, dtype, pass, median_ms, peak_mb and ratio
(time of the reference divided by the row's time).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence

#: Subcommand -> module with SUMMARY, add_arguments and run.
BENCHMARKS = {
    "data": "benchmarks.data",
    "growth": "benchmarks.growth",
    "matching": "benchmarks.matching",
    "photos": "benchmarks.photos",
    "programs": "benchmarks.programs",
    "sampling": "benchmarks.sampling",
    "steps": "benchmarks.steps",
    "stopping": "benchmarks.stopping",
    "training": "benchmarks.training",
}
COLUMNS = ("name", "size", "device", "dtype", "pass", "median_ms", "peak_mb", "ratio")
WIDTHS = (16, 9, 6, 8, 17, 12, 9, 8)


def parser() -> argparse.ArgumentParser:
    """The command line; imports nothing heavy."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="benchmark", required=True, metavar="{" + ",".join(BENCHMARKS) + "}")
    for name, module_name in BENCHMARKS.items():
        module = importlib.import_module(module_name)
        command = commands.add_parser(
            name, help=module.SUMMARY, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.add_argument("--json", action="store_true", help="one JSON object per row")
        command.add_argument("--device", default="cpu", help="cpu or cuda")
        command.add_argument("--threads", type=int, default=1, help="CPU threads; times are summed over them")
        module.add_arguments(command)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows as they are measured; 0 on success, 2 on a usage error."""
    top = parser()
    options = top.parse_args(arguments)
    if options.device not in ("cpu", "cuda"):
        top.error(f"--device: got {options.device!r}, expected cpu or cuda")
    if options.threads < 1:
        top.error(f"--threads: got {options.threads}, expected 1 or more")
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)

    import torch

    from midms.io.outputs import check_output_files

    torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        top.error("--device: cuda asked for, but this machine has none that torch can use")
    if not options.json:
        print(_line(COLUMNS))
    try:
        if getattr(options, "plot", None):
            check_output_files([options.plot], overwrite=options.overwrite)
        for row in importlib.import_module(BENCHMARKS[options.benchmark]).run(options):
            print(json.dumps(row) if options.json else _table_line(row), flush=True)
    except (ValueError, OSError) as error:
        top.error(str(error))
    return 0


def _table_line(row: dict[str, object]) -> str:
    more = [f"{name} {value}" for name, value in row.items() if name not in COLUMNS]
    return "  ".join([_line([row[column] for column in COLUMNS]), *more])


def _line(cells: Sequence[object]) -> str:
    texts = ["-" if cell is None else str(cell) for cell in cells]
    return " ".join(text.ljust(width) for text, width in zip(texts, WIDTHS, strict=True)).rstrip()


if __name__ == "__main__":
    sys.exit(main())
