"""Turn a function that reports by callback into a generator, whose values the page shows during the run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """The result or the error of the work."""

    value: Any
    error: BaseException | None


class Stopped(Exception):
    """Raised in the work's next report after the generator was closed."""


_RUNNING: dict[threading.Thread, threading.Event] = {}


def stop_all(seconds: float = 10) -> None:
    """Stop all work at its next report, and wait: a program that exits while its networks' threads run crashes."""
    running = dict(_RUNNING)
    for stop in running.values():
        stop.set()
    for thread in running:
        thread.join(seconds)


def stream(work: Callable[[Callable[[Any], None]], Any]) -> Iterator[Any]:
    """Run `work(report)` in a thread; yield its reports, then its result as an `Outcome` without error.

    Closing the generator stops the work at its next report, and waits: two runs never share the networks.

    Raises:
        Any exception of the work.
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
        except BaseException as error:  # raised again in the generator's thread
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
