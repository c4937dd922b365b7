"""Exemplars of conditions: pair lists in the format of published lists, and the random choice in training.

A line of a list is ``condition.jpg,exemplar1.jpg[,exemplar2.jpg...]``. Paths are relative to the root of the data set
and may be written with ``/`` or with ``\\``. As in CSV files, a name with a comma is put in double quotes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from midms.io.files import read_text

#: Larger lists are refused.
MAX_LIST_BYTES = 500_000_000
#: Shares of hard and easy exemplars and of the photo itself, as in the released loader.
EXEMPLARS = {"hard": 0.2, "easy": 0.5, "self": 0.3}


def normalise_name(name: str) -> str:
    """Normalise a name: forward slashes, no leading ``./`` or ``/``."""
    name = name.strip().replace("\\", "/")
    while name.startswith(("./", "/")):
        name = name.removeprefix("./").removeprefix("/")
    return name


def read_names(file: Path) -> list[str]:
    """Read one name per line; empty lines are skipped.

    Raises:
        BrokenFileError: the file is missing, larger than `MAX_LIST_BYTES`, not a regular file or not text.
    """
    text = read_text(file, "a list of names", MAX_LIST_BYTES, allow_empty=True)
    return [name for line in text.splitlines() if (name := normalise_name(line))]


def read_pairs(
    file: Path, name_of: Callable[[str], str] = normalise_name, skip_malformed: bool = False
) -> dict[str, list[str]]:
    """Condition -> its exemplars, in the order of the list. The last of several lines for a condition counts.

    Args:
        file: the list.
        name_of: maps an entry to the name of an image.
        skip_malformed: skip lines that cannot be parsed.
    Raises:
        BrokenFileError: see `read_names`.
        ValueError: a line has no exemplar or an entry that `name_of` refuses.
    """
    pairs: dict[str, list[str]] = {}
    for number, line in enumerate(read_names(file), start=1):
        try:
            condition, exemplars = split_line(line, name_of)
        except ValueError as error:
            if skip_malformed:
                continue
            raise ValueError(f"{file}: line {number}: {error}") from None
        pairs[condition] = exemplars
    return pairs


def split_line(line: str, name_of: Callable[[str], str] = normalise_name) -> tuple[str, list[str]]:
    """Condition and exemplars of one line of a list.

    Raises:
        ValueError: the condition or the exemplar is missing, or quotes are not closed.
    """
    try:
        entries = [entry for entry in next(csv.reader([line], strict=True), []) if entry.strip()]
    except csv.Error as error:
        raise ValueError(f"{line!r}: {error}; a name with a comma stands in double quotes") from None
    if len(entries) < 2:
        raise ValueError(f"{line!r} holds no exemplar; expected condition,exemplar[,exemplar...]")
    condition, *exemplars = (name_of(normalise_name(entry)) for entry in entries)
    return condition, exemplars


def format_pairs(pairs: Mapping[str, Sequence[str]]) -> str:
    """The text of a pair list for `read_pairs`.

    Raises:
        ValueError: a name has a line break, a backslash, or spaces at its ends, which no list can hold.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for name, exemplars in pairs.items():
        writer.writerow([check_name(entry) for entry in (name, *exemplars)])
    return text.getvalue()


def check_name(name: str) -> str:
    """The name, which `read_names` reads back as it is.

    Raises:
        ValueError: the name has a line break, a backslash, or spaces at its ends, which no list can hold.
    """
    if normalise_name(name) != name or len(name.splitlines()) != 1:
        raise ValueError(
            f"{name!r}: a name in a list may hold no line break, no backslash and no space at its ends; rename the file"
        )
    return name


def check_shares(shares: Mapping[str, float] | None) -> dict[str, float]:
    """Shares of the three kinds, by default `EXEMPLARS`.

    Raises:
        ValueError: an unknown kind, a negative share, or a sum other than 1.
    """
    checked = dict(EXEMPLARS if shares is None else shares)
    wrong = set(checked) - set(EXEMPLARS) or {k for k, share in checked.items() if share < 0}
    if wrong or abs(sum(checked.values()) - 1) > 1e-6:
        raise ValueError(f"exemplars {checked}: expected shares of {', '.join(EXEMPLARS)} that add up to 1")
    return checked


def draw_kind(rng: np.random.Generator, shares: Mapping[str, float]) -> str:
    """ "hard", "easy" or "self": a uniform number compared with the cumulative shares, in this order."""
    u, below = rng.random(), 0.0
    for kind in EXEMPLARS:
        below += shares.get(kind, 0.0)
        if u < below:
            return kind
    return max(shares, key=lambda kind: shares[kind])  # u above a sum of 1 - 1e-16
