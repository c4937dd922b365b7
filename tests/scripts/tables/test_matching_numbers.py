"""The matching's numbers in a table: means over the pairs that can be scored, and the lines beneath it."""

from __future__ import annotations

import numpy as np
import pytest

from midms.evaluation import benchmark
from tables.matching import matching_notes, matching_numbers


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of match that were scored, each with one pair of which nothing is visible."""
    asked: list[str] = []

    def score(model: object, pairs: object, kind: str) -> benchmark.MatchingScores:
        asked.append(kind)
        return benchmark.MatchingScores(
            pck=np.array([0.5, np.nan, 1.0]),
            error=np.array([4.0, np.nan, 2.0]),
            pck_everywhere=np.array([0.25, 0.75, 0.5]),
            pck_foreground=np.array([0.5, 0.5, 0.8]),
            same_part=np.array([0.9, 0.9, 0.9]),
        )

    monkeypatch.setattr(benchmark, "score_matching", score)
    return asked


def test_pairs_without_a_visible_subject_do_not_count(kinds: list[str]) -> None:
    numbers = matching_numbers(None, [])
    assert kinds == ["first", "rematch", "identity"] == list(numbers)
    assert numbers["first"] == pytest.approx(
        {"pck": 0.75, "end_point_error": 3.0, "pck_everywhere": 0.5, "pck_foreground": 0.6, "same_part": 0.9}
    )


def test_a_score_that_no_pair_has_is_not_a_number(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """In small pictures no position may lie wholly on the subject."""
    none = np.full(2, np.nan)
    scores = benchmark.MatchingScores(none, none, none, none, np.array([0.5, np.nan]))
    monkeypatch.setattr(benchmark, "score_matching", lambda *given: scores)
    numbers = matching_numbers(None, [])["identity"]
    assert np.isnan(numbers["pck"]) and numbers["same_part"] == 0.5 and not recwarn.list


def test_notes_name_the_match_and_give_three_digits(kinds: list[str]) -> None:
    notes = matching_notes(matching_numbers(None, []), {"precision": 0.5, "recall": 1.0, "visible": 0.25})
    assert len(notes) == 4
    assert notes[0].startswith("Matching of the subject, condition to exemplar: PCK 0.1 0.750, end-point error 3.00")
    assert notes[1].startswith("Matching of the subject, first warp to exemplar:")
    assert notes[3].endswith("precision 0.500, recall 1.000 (visible: 0.250)")
    assert len(matching_notes({}, {})) == 0
