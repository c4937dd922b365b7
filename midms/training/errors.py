"""Exceptions that end a training early; each has a message of one line."""

from __future__ import annotations

import signal


class TrainingError(RuntimeError):
    """Training cannot continue."""


class Interrupted(Exception):
    """A signal asked the training to stop; its state is saved.

    Attributes:
        exit_code: 128 + the signal's number, as shells report it: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, received: int, step: int) -> None:
        super().__init__(f"{signal.Signals(received).name}: saved step {step}; continue with --resume")
        self.exit_code = 128 + received
