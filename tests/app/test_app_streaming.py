"""A callback's reports as a generator."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from midms.app.streaming import Outcome, stream


def test_reports_then_the_result() -> None:
    def work(report: Callable[[Any], None]) -> str:
        for number in range(3):
            report(number)
        return "done"

    assert list(stream(work)) == [0, 1, 2, Outcome("done", None)]


def test_errors_arrive_where_they_are_waited_for() -> None:
    def work(report: Callable[[Any], None]) -> None:
        report(1)
        raise ValueError("broken")

    reports = stream(work)
    assert next(reports) == 1
    with pytest.raises(ValueError, match="broken"):
        next(reports)


def test_closing_stops_the_work_at_its_next_report() -> None:
    reached, go_on = [], threading.Event()

    def work(report: Callable[[Any], None]) -> None:
        for number in range(1000):
            reached.append(number)
            report(number)
            go_on.wait(10)

    reports = stream(work)
    assert next(reports) == 0
    threading.Timer(0.1, go_on.set).start()
    reports.close()
    assert len(reached) <= 2 and threading.active_count() < 20
