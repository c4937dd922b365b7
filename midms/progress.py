"""Progress of long work on stderr: a bar on a terminal, plain lines at intervals in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from midms.programs import say

T = TypeVar("T")
#: Seconds between two lines in a log file.
INTERVAL = 30.0


class Timer:
    """Whether `seconds` have passed since the last line."""

    def __init__(self, seconds: float = INTERVAL, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock = seconds, clock
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self.begun = self.last = self.clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.begun

    def due(self) -> bool:
        """Whether a line is due; if so, the next interval begins."""
        now = self.clock()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal, on which a line can be written anew."""
    return bool(getattr(stream, "isatty", lambda: False)())


def duration(seconds: float) -> str:
    """A time span in its two largest units: "45 s", "12 min", "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def pace(done: int, left: int, seconds: float, unit: str = "") -> str:
    """Rate and time left of work that did `done` > 0 items in `seconds`: "2.5 steps per second, 12 min left"."""
    rate = done / max(seconds, 1e-9)
    number = f"{rate:.2g}" if rate < 10 else f"{rate:.0f}"  # never 1.2e+02
    return f"{number}{unit} per second, {duration(seconds * left / done)} left"


def line(text: str, done: int, total: int, seconds: float) -> str:
    """The state of some work as one line: count, share, rate and time left."""
    words = f"{text}: {done} of {total} ({100 * done // max(total, 1)} %)"
    return f"{words}, {pace(done, total - done, seconds) if 0 < done < total else duration(seconds)}"


class Progress:
    """A count towards a total, shown as a bar or as lines. Inside `one_progress` it joins the common bar.

    Args:
        text: what is being done.
        total: number of items.
        hidden: show nothing.
        timer: of the lines.
    """

    def __init__(self, text: str, total: int, hidden: bool = False, timer: Timer | None = None) -> None:
        self.text, self.total, self.done, self.hidden = text, total, 0, hidden
        self.timer = Timer() if timer is None else timer
        self.outer = None if hidden else _OUTER.get()
        if self.outer is not None:
            self.outer.extend(total, text)
        shown = not hidden and self.outer is None and is_terminal(sys.stderr)
        self.bar: Any = tqdm(total=total, desc=text) if shown else None

    def extend(self, total: int, text: str) -> None:
        """Add the items of another part of the work, which is named behind the common text."""
        self.total += total
        if self.outer is not None:
            self.outer.extend(total, text)
        elif self.bar is not None:
            self.bar.total = self.total
            self.bar.set_postfix_str(text)

    def update(self, count: int = 1) -> None:
        """Count finished items."""
        self.done += count
        if self.outer is not None:
            self.outer.update(count)
        elif self.bar is not None:
            self.bar.update(count)
        elif not self.hidden and self.done < self.total and self.timer.due():
            say(line(self.text, self.done, self.total, self.timer.elapsed), sys.stderr)

    def close(self) -> None:
        """Remove the bar, or print the last line."""
        if self.bar is not None:
            self.bar.close()
        elif not self.hidden and self.outer is None and self.total:
            say(line(self.text, self.done, self.total, self.timer.elapsed), sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or self.bar is not None:  # work that failed has no last line
            self.close()


_OUTER: ContextVar[Progress | None] = ContextVar("outer progress", default=None)


@contextmanager
def one_progress(text: str, hidden: bool = False) -> Iterator[None]:
    """Show all progress inside the block as one bar, whose total grows with every part of the work."""
    with Progress(text, 0, hidden) as outer:
        token = _OUTER.set(outer)
        try:
            yield
        finally:
            _OUTER.reset(token)


def track(items: Iterable[T], text: str, total: int, hidden: bool = False) -> Iterator[T]:
    """The items, with their progress."""
    with Progress(text, total, hidden) as progress:
        for item in items:
            yield item
            progress.update()
