"""A function that reports by callback, as a generator that a page can show while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """How the work ended."""

    value: Any
    error: BaseException | None


class Stopped(Exception):
    """Raised inside the work's next report after nobody listens any more."""


_RUNNING: dict[threading.Thread, threading.Event] = {}


def stop_all(seconds: float = 10) -> None:
    """Stop all work at its next report, and wait for it: a program that ends under its networks' threads crashes."""
    running = dict(_RUNNING)
    for stop in running.values():
        stop.set()
    for thread in running:
        thread.join(seconds)


def stream(work: Callable[[Callable[[Any], None]], Any]) -> Iterator[Any]:
    """Run `work(report)` aside and yield what it reports, then its result as an `Outcome` without error.

    Closing the generator stops the work at its next report, and waits for it: two runs never share the networks.

    Raises:
        Whatever the work raises.
    """
    reports: Queue[Any] = Queue()
    stop = threading.Event()

    def report(item: Any) -> None:
        if stop.is_set():
            raise Stopped
        reports.put(item)

    def run() -> None:
        try:
            reports.put(Outcome(work(report), None))
        except BaseException as error:  # handed over to the generator's own thread
            reports.put(Outcome(None, error))
        finally:
            _RUNNING.pop(thread, None)

    thread = threading.Thread(target=run, daemon=True)
    _RUNNING[thread] = stop
    thread.start()
    try:
        while not isinstance(item := reports.get(), Outcome):
            yield item
        if item.error is not None:
            raise item.error
        yield item
    finally:
        stop.set()
        thread.join()
