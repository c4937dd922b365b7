"""The end of every program: one line and its exit status."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midms.checkpoints.errors import CheckpointError
from midms.config import ConfigError
from midms.programs import handle_user_errors, no_garbage_collection, printable, say, warn


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("size:\n  got 3"), "p: size: got 3\n"),
        (CheckpointError("a.ckpt", "no weights"), "p: a.ckpt: no weights\n"),
        (FileNotFoundError("a.png"), "p: a.png\n"),
    ],
)
def test_a_mistake_is_one_line_and_two(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    @handle_user_errors("p")
    def main() -> int:
        raise error

    assert main() == 2 and capsys.readouterr() == ("", line)


def test_an_error_of_the_program_itself_is_not_hidden() -> None:
    @handle_user_errors("p")
    def main() -> int:
        raise RuntimeError("no mistake of the user")

    with pytest.raises(RuntimeError):
        main()


def test_stopping_and_success(capsys: pytest.CaptureFixture[str]) -> None:
    @handle_user_errors("p", stopped="stopped; go on")
    def main(status: int | None) -> int:
        if status is None:
            raise KeyboardInterrupt
        return status

    assert main(0) == 0 and main(1) == 1
    assert main(None) == 130 and capsys.readouterr().err == "p: stopped; go on\n"


HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x9b2J \N{RIGHT-TO-LEFT OVERRIDE}gnp.exe \u2028 \udcff \r\nnext \x7f\0"


def test_foreign_text_shows_itself_and_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    line = printable(HOSTILE)
    assert line.isprintable() and line.isascii()
    assert line == r"\x1b[31mred\x1b]0;title\x07 \x9b2J \u202egnp.exe \u2028 \udcff next \x7f\x00"
    assert printable("a\xa0b\u3000c d") == "a\\xa0b\\u3000c d"  # spaces that look like the common one
    assert printable("naïve 日本 snow☃ 'quoted' C:\\x1b") == "naïve 日本 snow☃ 'quoted' C:\\x1b"
    say(HOSTILE)
    warn(HOSTILE)
    assert capsys.readouterr() == (f"{line}\n", f"{line}\n")


@given(st.text(max_size=40))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    assert printable(text).isprintable()
    assert not set(printable(text, None)) & {chr(code) for code in (*range(32), *range(127, 160))}


def test_long_text_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    line = printable("a" * 10**6 + "end")
    assert len(line) < 1000 and line.startswith("aaa") and line.endswith("aend") and " ... " in line
    assert len(printable("\x1b" * 10**6)) < 4000

    @handle_user_errors("p")
    def main() -> int:
        raise ConfigError(f"key {HOSTILE * 10**5} has no shape")

    assert main() == 2
    (shown,) = capsys.readouterr().err.splitlines()
    assert shown.isascii() and shown.isprintable() and len(shown) < 4000 and shown.endswith("has no shape")


def test_a_terminal_without_the_letters_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    say("naïve ☃", stream)
    assert stream.buffer.getvalue() == b"na\\xefve \\u2603\n"


LOADING = """
import os, runpy, sys
sys.path.insert(0, "scripts")
for file in sys.argv[1:]:
    runpy.run_path(file, run_name="loaded")
    print(file, os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "PASSIVE"}, None)]
)
def test_every_program_sets_how_long_threads_spin_before_torch_is_loaded(
    given: dict[str, str], expected: str | None
) -> None:
    root = Path(__file__).resolve().parents[1]
    own = {"scripts/benchmark.py"}  # one thread, or as many as asked for
    files = [file.relative_to(root).as_posix() for file in sorted((root / "scripts").glob("*.py"))]
    files = [file for file in ("main.py", *files, "midms/cli.py", "midms/app/__main__.py") if file not in own]
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environment |= {"PYTHONPATH": str(root)} | given
    lines = []
    for file in files:  # each alone: the first would set it for all
        command = [sys.executable, "-c", LOADING, file]
        lines.append(
            subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True).stdout
        )
    assert lines == [f"{file} {expected} False\n" for file in files]


def test_no_garbage_is_searched_for_during_imports_and_at_the_end() -> None:
    """In a process of its own, since frozen objects stay so."""
    code = """
import atexit, gc
atexit.register(lambda: print("at the end", gc.get_freeze_count() > before))  # runs after those registered later
from midms.programs import no_garbage_collection
with no_garbage_collection():
    print("inside", gc.isenabled())
print("without an import", gc.get_freeze_count())
with no_garbage_collection():
    import fractions, statistics
before = gc.get_freeze_count()
print("afterwards", gc.isenabled(), before > 0)
kept = [[] for _ in range(10)]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "inside False", "without an import 0", "afterwards True True", "at the end True",
    ]  # fmt: skip


ENDING = """
import atexit
atexit.register(lambda: print("after the last handler"))  # registered before it
from midms.programs import end_quickly
atexit.register(lambda: print("handler"))
print("buffered")
"""


@pytest.mark.parametrize(
    ("end", "expected"), [("end_quickly(3)", []), ("raise SystemExit(3)", ["after the last handler"])]
)
def test_a_quick_end_runs_the_exit_handlers_and_nothing_after_them(end: str, expected: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", ENDING + end], check=False, capture_output=True, text=True)
    assert done.returncode == 3 and not done.stderr
    assert done.stdout.splitlines() == ["buffered", "handler", *expected]


@pytest.mark.skipif(os.name != "posix", reason="only POSIX shells close a stream")
def test_a_quick_end_with_closed_streams() -> None:
    closed = ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, "from midms.programs import *; end_quickly(3)"]
    done = subprocess.run(closed, check=False, stderr=subprocess.PIPE)
    assert done.returncode == 3 and not done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_noticed_at_a_quick_end() -> None:
    with open("/dev/full", "w") as full:
        code = [sys.executable, "-c", ENDING + "end_quickly(0)"]
        buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
        assert subprocess.run(code, check=False, stdout=full, stderr=subprocess.PIPE, env=buffered).returncode == 120


def test_who_switched_the_collection_off_finds_it_off() -> None:
    gc.disable()
    try:
        with pytest.raises(ImportError), no_garbage_collection():
            raise ImportError
        assert not gc.isenabled()
    finally:
        gc.enable()
