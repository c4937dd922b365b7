"""Options shared by the benchmarks of translations and training steps. No slow library is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path

from midms.options import add_overwrite_option

SIDE = 32  # the first stages and U-Nets halve a picture five times


def add_shape(parser: argparse.ArgumentParser, config: str, size: str, rounds: str) -> None:
    """`--reference`, `--config`, `--size`, `--batch`, `--rounds`.

    Args:
        config, size: description of the default.
        rounds: the help of `--rounds`.
    """
    parser.add_argument(
        "--reference", action="store_true", help="also measure the released code's computation, in the same run"
    )
    parser.add_argument("--config", help=f"network sizes: celebahq, churches, demo or tiny (default: {config})")
    parser.add_argument("--size", type=int, help=f"pixels per side (default: {size})")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help=rounds)


def add_plot(parser: argparse.ArgumentParser, what: str) -> None:
    """`--plot FILE`; `what` describes the figure."""
    parser.add_argument("--plot", type=Path, metavar="FILE", help=f"draw {what} to this picture")
    add_overwrite_option(parser, "an existing --plot that midms did not write")


def check_shape(batch: int, rounds: int, size: int) -> None:
    """Check that counts are at least 1 and that the networks can halve the side.

    Raises:
        ValueError: otherwise.
    """
    for name, value in (("batch", batch), ("rounds", rounds)):
        if value < 1:
            raise ValueError(f"--{name}: got {value}, expected 1 or more")
    if size < SIDE or size % SIDE:
        raise ValueError(f"--size: got {size}, expected a multiple of {SIDE}")
