"""SIGINT and SIGTERM during a training: what may stop at once stops at once, a step in work ends first."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from midms.training.errors import Interrupted

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """What this process was told, and when it may act on that.

    A signal is acted on where it comes while nothing can be lost: at the start, in a validation alone, while the
    weights are exported. While `patient`, it is remembered, and `check` acts on it at the next place where everything
    is whole: between two steps, between two batches of a validation. A second SIGINT never waits.

    Attributes:
        received: number of the first signal, none before.
        patient: whether signals wait for `check`.
        alone: whether this process trains alone; of several, one must not stop at a place of its own.
        step: the last step that was saved, none before.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.patient, self.alone = False, True
        self.step: int | None = None
        self.process: int = os.getpid()
        self.installed = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle both signals inside the block, and as before after it; inside of another such block, go on so."""
        if self.installed:
            yield
            return
        self.received, self.patient, self.alone, self.step = None, False, True, None
        self.process = os.getpid()
        before: dict[int, Any] = {}
        try:
            for number in STOPPING:
                before[number] = signal.signal(number, self.note)
            self.installed = True
        except ValueError:  # not the main thread, to which signals never come
            pass
        try:
            yield
        finally:
            self.installed = False
            for received, handler in before.items():
                signal.signal(received, handler)

    def take(self) -> None:
        """Take the signals back from a library that put a handler of its own in front."""
        for number in STOPPING if self.installed else ():
            signal.signal(number, self.note)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remember a signal, and act on it where that is safe at any moment."""
        if os.getpid() != self.process:
            return  # a loader process ends with the training
        hurried = number == signal.SIGINT and self.received == signal.SIGINT
        self.received = self.received or number
        if hurried or not self.patient:
            raise Interrupted(self.received, self.step, hurried)

    def check(self) -> None:
        """Act on a signal that came before.

        Raises:
            Interrupted: there was one, and this process trains alone.
        """
        if self.received is not None and self.alone:
            raise Interrupted(self.received, self.step)


#: Those of this process.
SIGNALS = Signals()
