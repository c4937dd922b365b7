"""Rows of growing pictures: every part once, exemplar and condition at the asked side."""

from __future__ import annotations

import argparse

import pytest

from benchmarks import growth


def options(*words: str, **changes: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    growth.add_arguments(parser)
    return argparse.Namespace(**({"device": "cpu", "threads": 1} | vars(parser.parse_args(words)) | changes))


def test_a_row_has_the_parts_of_one_translation_at_its_side(monkeypatch: pytest.MonkeyPatch) -> None:
    from midms.models.midms import MIDMs

    grids, first = [], MIDMs.first_match

    def watched(model, condition, exemplars, **named):
        grids.append((condition.features.shape[-2:], exemplars[0].features.shape[-2:]))
        return first(model, condition, exemplars, **named)

    monkeypatch.setattr(MIDMs, "first_match", watched)
    rows = list(growth.run(options("--sizes", "32", "64", "--no-memory")))
    assert [row["size"] for row in rows] == ["32x32", "64x64"]
    (small, small_key), (large, large_key) = grids
    assert small == small_key and large == large_key and tuple(large) == (2 * small[0], 2 * small[1])
    for row in rows:
        assert set(row["seconds"]) == {"unet", "decode", "encode", "encoders", "matching"}
        assert sum(row["seconds"].values()) <= row["median_ms"] / 1e3 + 0.01
        assert row["unet_calls"] == rows[0]["unet_calls"] > 0 and row["peak_mb"] is None


@pytest.mark.parametrize(
    ("words", "changes", "message"),
    [
        (("--sizes", "64", "16"), {}, "--sizes: got 16, expected 32 or more"),
        ((), {"device": "cuda"}, "--device: got cuda, expected cpu"),
    ],
)
def test_mistakes_are_told(words: tuple[str, ...], changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(growth.run(options(*words, **changes)))
