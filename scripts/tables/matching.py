"""Scores of the matching on pairs with known correspondence, and their notes in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from midms.evaluation import benchmark
from midms.models.matcher import Matcher


def matching_numbers(model: Matcher, pairs: Sequence[benchmark.EncodedPairs]) -> dict[str, Any]:
    """PCK and end-point error of the matching on the benchmark's pairs."""
    numbers: dict[str, Any] = {}
    for kind in ("first", "rematch", "identity"):
        means = benchmark.score_matching(model, pairs, kind).means()
        numbers[kind] = {"end_point_error" if name == "error" else name: mean for name, mean in means.items()}
    return numbers


def matching_notes(numbers: Mapping[str, Any], mask: Mapping[str, float]) -> list[str]:
    """A line for each kind of match, and one for the first mask, where it was measured."""
    names = {"first": "condition to exemplar", "rematch": "first warp to exemplar", "identity": "same place"}
    text = (
        "{}: PCK 0.1 {pck:.3f}, end-point error {end_point_error:.2f} pixels, PCK everywhere {pck_everywhere:.3f}, "
        "without wall and sky {pck_foreground:.3f}, same part everywhere {same_part:.3f}"
    )
    notes = [f"Matching of the subject, {text.format(names[kind], **row)}" for kind, row in numbers.items()]
    if mask:
        text = "precision {precision:.3f}, recall {recall:.3f} (visible: {visible:.3f})".format(**mask)
        notes.append(f"Confidence mask of the first re-warp against visibility in the exemplar: {text}")
    return notes
