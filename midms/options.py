"""Command-line options, with their ranges, of all programs that make pictures. This module does not import torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable

#: Named settings of the loop: those saved with the weights, or a preset of `InterleaveSettings`.
PROTOCOLS = ("weights", "paper", "released", "fast")
#: Precisions of first stage and U-Nets. `midms.models.numerics.best_dtype` resolves "auto".
DTYPES = ("auto", "float32", "bfloat16")


def whole_number(text: str) -> int:
    """Parse a whole number >= 0 and < 2^63."""
    if not text.isascii() or not text.isdigit() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, got {text!r}")
    return int(text)


def between(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from `low` to `high`."""

    def read(text: str) -> int:
        if not low <= whole_number(text) <= high:
            raise argparse.ArgumentTypeError(f"expected {low} to {high}, got {text}")
        return int(text)

    return read


def add_overwrite_option(
    parser: argparse._ActionsContainer, what: str = "existing outputs that midms did not write"
) -> None:
    """Add `--overwrite`; `what` completes its help."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what}; an input is never replaced")


def add_loop_options(parser: argparse._ActionsContainer) -> None:
    """Add options for the settings of the loop and the seed of its noise."""
    parser.add_argument("--protocol", choices=PROTOCOLS, default="weights",
                        help="settings to start from: the weights' own, the paper's, the released code's, or few U-Net "
                        "calls (default: %(default)s)")  # fmt: skip
    parser.add_argument("--steps", type=whole_number, metavar="T", help="steps of the whole reverse process")
    parser.add_argument("--calls", type=whole_number, metavar="N",
                        help="U-Net calls of the loop (default with --steps: T / 4)")  # fmt: skip
    parser.add_argument("--threshold", type=float, metavar="GAMMA", help="of the confidence mask (Eq. 10)")
    parser.add_argument("--seed", type=whole_number, default=0, help="of the noise (default: %(default)s)")


def add_computing_options(parser: argparse._ActionsContainer) -> None:
    """Add options for device, precision and way of computing."""
    parser.add_argument("--device", help="default: cuda where there is one")
    parser.add_argument("--fast", action=argparse.BooleanOptionalAction, default=None,
                        help="the quickest memory format, and on CUDA compiled networks (default: the format alone, "
                        "for large U-Nets)")  # fmt: skip
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="of first stage and U-Nets; matching is always "
                        "float32 (default: bfloat16 for large U-Nets where the processor or GPU has it)")  # fmt: skip
