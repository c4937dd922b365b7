"""Faults of the program: details in a file, one line on the console."""

from __future__ import annotations

import io
import traceback
from contextlib import redirect_stderr
from pathlib import Path

from midms.app import faults
from midms.app.faults import FaultLog


def test_a_traceback_is_one_line_on_the_console(tmp_path: Path) -> None:
    console = io.StringIO()
    with redirect_stderr(FaultLog(tmp_path / "new" / "app.log", console)):
        try:
            raise RuntimeError("\x1b[31mbroken")
        except RuntimeError:
            traceback.print_exc()
    assert console.getvalue().count("\n") == 1 and "app.log" in console.getvalue()
    assert "broken" in (tmp_path / "new" / "app.log").read_text()


def test_the_file_is_bounded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(faults, "MAX_BYTES", 100)
    log = FaultLog(tmp_path / "app.log", io.StringIO())
    for _ in range(50):
        log.write("ten bytes\n")
    assert (tmp_path / "app.log").stat().st_size == 100
