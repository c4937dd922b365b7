"""A callback's reports as a generator."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from midms.app.streaming import Outcome, stop_all, stream


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


def test_the_end_of_the_program_stops_all_work() -> None:
    reached: list[int] = []

    def work(report: Callable[[Any], None]) -> None:
        for number in range(10**9):
            reached.append(number)
            report(number)

    reports = stream(work)
    next(reports)
    stop_all()
    count = len(reached)
    assert threading.active_count() < 20 and len(reached) == count, "nothing runs on"
    reports.close()
