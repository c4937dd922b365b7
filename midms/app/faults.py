"""Errors of the program itself: details are logged to a file, and the console gets one line."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TextIO

from midms.programs import say

MAX_BYTES = 10_000_000  # size limit of the file, so that visitors cannot fill the disk
_BEGINNING = "Traceback (most recent call last)"


class FaultLog(io.TextIOBase):
    """A stream for standard error: all text goes to a file, and one line per fault to the console.

    Args:
        file: created on the first write.
        console: by default the current standard error.
    """

    def __init__(self, file: Path, console: TextIO | None = None) -> None:
        super().__init__()
        self.file = file
        self.console = console or sys.stderr

    def writable(self) -> bool:
        """A stream to write to."""
        return True

    def write(self, text: str) -> int:
        """Append to the file."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            if stream.tell() < MAX_BYTES:
                stream.write(text)
        if _BEGINNING in text:
            say(f"midms.app: something went wrong inside; the details are in {self.file}", self.console)
        return len(text)
