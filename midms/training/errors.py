"""Exceptions that end a training early. Each has a message of one line."""

from __future__ import annotations

import signal


class TrainingError(RuntimeError):
    """Training cannot continue."""


class Interrupted(BaseException):
    """A signal asked the training to stop.

    Like KeyboardInterrupt this class is no `Exception`, so that code which catches errors does not catch it.

    Attributes:
        received: the signal's number.
        step: the last step whose state is saved. None: there is nothing to save.
        hurried: a second SIGINT arrived, so nothing more is saved.
        exit_code: 128 + the signal's number, as shells report it: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, received: int, step: int | None = None, hurried: bool = False) -> None:
        super().__init__(received, step, hurried)
        self.received, self.step, self.hurried = received, step, hurried
        self.exit_code = 128 + received

    def __str__(self) -> str:
        name = signal.Signals(self.received).name
        if self.step is None:
            return f"{name}: stopped before there was anything to save"
        if self.hurried:
            return f"{name}: stopped at once; --resume continues from step {self.step}"
        return f"{name}: saved step {self.step}; continue with --resume"
