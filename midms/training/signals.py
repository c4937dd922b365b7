"""SIGINT and SIGTERM during a training: a running step ends first, anything else stops at once."""

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
    """Signals that this process received, and when they take effect.

    A signal takes effect at once while no work can be lost: at the start, in a validation without training, and during
    the export. While `patient`, the signal is remembered until the next `check`, which runs between two steps or two
    batches of a validation. A second SIGINT never waits.

    Attributes:
        received: number of the first signal. None: no signal yet.
        patient: whether signals wait for `check`.
        alone: whether this process trains alone. Several ranks have to stop at the same place.
        step: the last saved step. None: no step is saved yet.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.patient, self.alone = False, True
        self.step: int | None = None
        self.process: int = os.getpid()
        self.installed = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle both signals inside the block, then restore the earlier handlers. A nested block changes nothing."""
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
        except ValueError:  # not the main thread, and only that one receives signals
            pass
        try:
            yield
        finally:
            self.installed = False
            for received, handler in before.items():
                signal.signal(received, handler)

    def take(self) -> None:
        """Install these handlers again after a library has replaced them."""
        for number in STOPPING if self.installed else ():
            signal.signal(number, self.note)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remember a signal, and stop at once unless `patient`."""
        if os.getpid() != self.process:
            return  # a loader process ends with the training
        hurried = number == signal.SIGINT and self.received == signal.SIGINT
        self.received = self.received or number
        if hurried or not self.patient:
            raise Interrupted(self.received, self.step, hurried)

    def check(self) -> None:
        """Stop if a signal was received.

        Raises:
            Interrupted: a signal was received, and this process trains alone.
        """
        if self.received is not None and self.alone:
            raise Interrupted(self.received, self.step)


#: The signals of this process.
SIGNALS = Signals()
