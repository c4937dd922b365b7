"""scripts/sensitivity.py through its command line."""

from __future__ import annotations

import pytest
from programs import load_program


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--images", "7", "expected 8 to"),
        ("--size", "16", "expected 32 to"),
        ("--size", "48", "expected a power of two"),
        ("--seeds", "0", "expected 1 to"),
        *((option, value, "whole number") for option in ("--images", "--size", "--seeds") for value in ("-3", "x")),
    ],
)
def test_counts_that_are_none_are_refused_before_anything_is_drawn(
    capsys: pytest.CaptureFixture[str], option: str, value: str, words: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        load_program("scripts/sensitivity.py").main([f"{option}={value}"])
    told = capsys.readouterr()
    assert not told.out and option in told.err.splitlines()[-1] and words in told.err.splitlines()[-1]
