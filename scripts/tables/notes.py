"""The notes below a table: counts, errors, what was not measured, what the columns are, and what they do not show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from midms.evaluation.footnotes import differences_from_paper, not_comparable, small_set_notes
from midms.metrics import fixed_features

_ENCODER_NOTE = (
    "-E: on the frozen first stage's encoder, which needs no further file; not the published metric, "
    "to be compared between rows only (docs/protocols.md)"
)
_FIXED_NOTE = (
    f"distance-L and the other -L: on {fixed_features.NAME}, the same for all weights and releases; not the "
    "published metric"
)


def measurement_notes(count: int, data: str, seeds: int, skipped: Mapping[str, str]) -> list[str]:
    """Pairs and errors, and the reason for each metric that is missing."""
    errors = f"over {seeds} seeds" if seeds > 1 else "over pairs (sets as a whole have none with one seed)"
    notes = [f"{count} pairs of {data}; errors are standard errors {errors}"]
    return notes + [f"{metric} was not measured: {reason}" for metric, reason in skipped.items()]


def column_notes(keys: set[str], count: int) -> list[str]:
    """What the columns of feature networks are, and the bias of distances between sets."""
    notes = []
    if "fixed_distance" in keys or any("_fixed" in key for key in keys):
        notes.append(_FIXED_NOTE)
    if keys & {"fd_reference", "diversity_encoder", "colour_encoder"}:
        notes.append(_ENCODER_NOTE)
    return notes + small_set_notes(keys, count)


def paper_notes(count: int, size: tuple[int, int], protocol: str, published_on: str, drawn: bool) -> list[str]:
    """Why the columns of the paper may not be set beside the measured ones."""
    return not_comparable(differences_from_paper(count, size, protocol, published_on, drawn))


def training_notes(infos: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """The trainings behind a comparison.

    Args:
        infos: name of the weights and their record (`config.json`).
    """
    lines = [
        f"{name} ({info.get('stage', 'unknown stage')}, the last training {info.get('steps', 'unknown')} steps, "
        f"seed {info.get('seed', 'not recorded')})"
        for name, info in infos
    ]
    return [f"One training each, so differences between trainings of one method are not measured: {', '.join(lines)}"]
