"""Footnotes of tables: what makes measured numbers not comparable with published ones, and the bias of small sets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple


class PaperSet(NamedTuple):
    """Images behind a number of the paper's Tables 1 and 2 (docs/protocols.md): how many, and their side in pixels."""

    images: int
    side: int


PAPER_SETS: Mapping[str, PaperSet] = {"CelebA-HQ": PaperSet(2993, 256), "DeepFashion": PaperSet(4993, 256)}
PAPER_PROTOCOL = "paper"
#: Smallest set for which FID's covariance has full rank, and below which the bias is as large as the differences.
FULL_RANK = 2048
#: SWD of two sets of one distribution (128 pixels), by number of images (docs/protocols.md).
SWD_FLOORS = {16: 55.5, 32: 40.5, 64: 30.0, 128: 19.6, 256: 13.6}


def differences_from_paper(
    count: int, size: tuple[int, int], protocol: str, published_on: str = "", drawn: bool = False
) -> list[str]:
    """Why numbers may not be set beside the paper's; empty if they may.

    Args:
        count: number of outputs. size: (width, height) of them. protocol: of FID.
        published_on: data set of the paper's column; "" if it is not known, and each set of the paper would do.
        drawn: the pictures are those of the built-in benchmark.
    """
    sets = {name: one for name, one in PAPER_SETS.items() if published_on in ("", name)}
    reasons = []
    if drawn:
        reasons.append(f"drawn pictures instead of {' or '.join(sets)}")
    if count not in {one.images for one in sets.values()}:
        expected = " or ".join(f"{one.images:,} ({name})" for name, one in sets.items())
        reasons.append(f"{count:,} outputs instead of {expected}")
    side = next(iter(PAPER_SETS.values())).side
    if size != (side, side):
        reasons.append(f"{size[0]} x {size[1]} pixels instead of {side} x {side}")
    if protocol != PAPER_PROTOCOL:
        reasons.append(f"FID protocol {protocol!r} instead of {PAPER_PROTOCOL!r}")
    return reasons


def not_comparable(reasons: Collection[str]) -> list[str]:
    """The footnote of `differences_from_paper`, if there is a reason for one."""
    return [f"Not comparable with the paper's numbers: {'; '.join(reasons)}"] if reasons else []


def small_set_notes(columns: Collection[str], count: int) -> list[str]:
    """Bias of the distances between sets of `count` images, for the columns that a table has."""
    notes = []
    if any(key.startswith(("fid_", "fd_")) for key in columns) and count < FULL_RANK:
        notes.append(
            f"FID (and FD) of {count} images is biased upwards, by about a constant / N that differs between methods "
            "(Chong and Forsyth 2020); compare only rows of one N, and small differences not at all"
        )
    if any(key.endswith("_infinity") for key in columns):
        notes.append(
            "FID ∞: extrapolated to infinitely many outputs by a line in 1 / N (Chong and Forsyth 2020); the bias of "
            f"the finite reference set stays{'; the line is uncertain for so few images' if count < FULL_RANK else ''}"
        )
    if any(key.startswith("swd_") for key in columns) and count < min(one.images for one in PAPER_SETS.values()):
        floors = ", ".join(f"{value} for N = {number}" for number, value in SWD_FLOORS.items())
        notes.append(
            f"SWD has a floor that falls like 1 / sqrt(N): two sets of one distribution score about {floors} (128 "
            f"pixels); compare only rows of one N, here {count}"
        )
    return notes
