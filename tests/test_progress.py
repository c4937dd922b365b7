"""Progress: a bar on a terminal, whole lines at intervals in a log."""

from __future__ import annotations

import io
import sys

import pytest
from programs import Terminal

from midms.progress import Progress, Timer, duration, line, one_progress, track


class Clock:
    """A clock that advances by one second each time it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (120, "2 min"), (5300, "88 min"), (12_000, "3 h 20 min")]
)
def test_durations_have_two_units_at_most(seconds, text):
    assert duration(seconds) == text


def test_a_line_has_count_share_rate_and_time_left():
    assert line("sampling", 10, 40, 20.0) == "sampling: 10 of 40 (25 %), 0.5 per second, 60 s left"
    assert line("features", 2500, 5000, 20.0) == "features: 2500 of 5000 (50 %), 125 per second, 20 s left"
    assert line("sampling", 40, 40, 20.0) == "sampling: 40 of 40 (100 %), 20 s"
    assert line("sampling", 0, 40, 0.0) == "sampling: 0 of 40 (0 %), 0 s"


def test_a_log_gets_whole_lines_at_intervals(capsys):
    with Progress("photos", 10, timer=Timer(4, Clock())) as progress:
        for _ in range(10):
            progress.update()
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and "\r" not in err and 2 <= len(lines) <= 5
    assert all(text.startswith("photos: ") for text in lines) and lines[-1].startswith("photos: 10 of 10 (100 %)")


def test_nothing_is_said_when_hidden_or_when_there_is_nothing_to_do(capsys):
    assert list(track("abc", "letters", 3, hidden=True)) == list("abc")
    assert list(track("", "letters", 0)) == []
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(track("abc", "letters", 3)) == list("abc")
    assert "letters: 100%" in terminal.getvalue() and "\r" in terminal.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_parts_share_one_bar(stream, monkeypatch):
    shown = stream()
    monkeypatch.setattr(sys, "stderr", shown)
    with one_progress("table 3"):
        for part in ("sampling", "features"):
            list(track("abc", part, 3))
    list(track("d", "alone", 1))
    text = shown.getvalue()
    assert "table 3" in text and "6/6" in text.replace(" of ", "/") and "alone" in text
    assert "sampling:" not in text and "features:" not in text


def test_hidden_parts_stay_hidden_in_a_common_bar(capsys):
    with one_progress("table", hidden=True):
        list(track("abc", "part", 3, hidden=True))
    assert capsys.readouterr() == ("", "")


def test_work_that_fails_has_no_last_line(capsys):
    with pytest.raises(ValueError), Progress("photos", 3):
        raise ValueError
    assert capsys.readouterr().err == ""
