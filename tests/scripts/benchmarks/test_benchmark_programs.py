"""Processor time and memory of programs: measured for the program alone, and its failures told."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from benchmarks import programs


def options(**changes: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    programs.add_arguments(parser)
    return argparse.Namespace(**({"device": "cpu", "threads": 1} | vars(parser.parse_args([])) | changes))


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_the_memory_of_this_process_is_not_counted(tmp_path: Path) -> None:
    """This process holds torch; the two commands hold about 10 MB and 100 MB more."""
    small = programs.process_cost(python("pass"), tmp_path, 1)
    large = programs.process_cost(python("kept = b'x' * 100 * 2**20"), tmp_path, 1)
    assert 1 < small.peak_mb < 60
    assert large.peak_mb - small.peak_mb == pytest.approx(100, abs=10)


def test_work_is_counted_and_the_threads_are_set(tmp_path: Path) -> None:
    """The child ends once its own processor clock says so, whatever else the machine does."""
    busy = programs.process_cost(python("import time\nwhile time.process_time() < 0.2: pass"), tmp_path, 1)
    assert busy.milliseconds >= 200
    asked = python("import os, pathlib; pathlib.Path('threads').write_text(os.environ['OMP_NUM_THREADS'])")
    programs.process_cost(asked, tmp_path, 3)
    assert (tmp_path / "threads").read_text() == "3"


def test_a_program_that_fails_is_named_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"-c .*exit status 2, no such file"):
        programs.process_cost(python("import sys; print('no such file', file=sys.stderr); sys.exit(2)"), tmp_path, 1)


def test_a_program_that_runs_on_is_measured_until_its_first_line_and_told_to_end(tmp_path: Path) -> None:
    waiting = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
    found = programs.process_cost(python(waiting + "print('address', flush=True); signal.pause()"), tmp_path, 1,
                                  "first line")  # fmt: skip
    assert found.milliseconds > 0 and 1 < found.peak_mb < 60
    with pytest.raises(ValueError, match="exit status 1"):
        programs.process_cost(python("pass"), tmp_path, 1, "first line")


def test_the_app_is_not_measured_without_gradio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda _: None)
    (row,) = programs.app_row(tmp_path, options())
    assert row["name"] == "app" and row["median_ms"] is None and "pip install '.[app]'" in row["note"]


def test_rows_are_medians_and_compare_with_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = iter([(600.0, 50.0), (300.0, 90.0), (400.0, 70.0), (400.0, 80.0), (800.0, 60.0), (200.0, 80.0)])
    monkeypatch.setattr(programs, "process_cost", lambda *_: programs.Cost(*next(costs)))
    library, translate = programs.rows(64, {"library": (), "translate": ()}, tmp_path, options(rounds=3))
    assert (library["median_ms"], library["peak_mb"], library["ratio"]) == (600.0, 70.0, 1.0)
    assert (translate["median_ms"], translate["peak_mb"], translate["ratio"]) == (300.0, 90.0, 2.0)
    assert library["size"] == "64x64"


@pytest.mark.slow
def test_every_program_runs() -> None:
    rows = {row["name"]: row for row in programs.run(options(config="tiny", size=64, rounds=1))}
    assert list(rows) == ["help", "demo", "app", "start", "library", "translate"]
    assert rows["help"]["peak_mb"] < rows["start"]["peak_mb"] < 2000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 50}, "--size: got 50"),
        ({"rounds": 0}, "--rounds: got 0"),
        ({"device": "cuda"}, "--device: got cuda, expected cpu"),
    ],
)
def test_mistakes_are_told_before_anything_runs(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(programs.run(options(**changes)))
