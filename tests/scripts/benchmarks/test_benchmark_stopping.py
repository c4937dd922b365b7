"""The time from SIGTERM to the end of a training: the signal comes where it should, and other ends are told."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from programs import resolve

from benchmarks import stopping
from benchmarks.stopping import PHASES, Phase

PROGRAM = """
import signal, sys, time
import phases

def main(arguments):
    def note(number, frame):
        print(f"saved step {phases.done}", file=sys.stderr)
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
        sys.exit(int(arguments[0]))
    signal.signal(signal.SIGTERM, note)
    for _ in range(3):
        phases.Training().step()
    return 0
"""
MODULE = """
done = 0

class Training:
    def step(self):
        global done
        done += 1
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of three steps that works for 0.1 s after SIGTERM, says what is done, and exits with its argument."""
    (tmp_path / "phases.py").write_text(MODULE)
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "program.py"


@pytest.mark.parametrize(("call", "saved"), [(1, 0), (3, 2)])
def test_the_signal_comes_at_the_beginning_of_the_call(program: Path, call: int, saved: int) -> None:
    found = stopping.stop(Phase("phases:Training.step", call), program, ["143"], 1)
    assert found.saved == saved and found.milliseconds >= found.processor >= 100


@pytest.mark.parametrize(("call", "code", "status"), [(1, "5", 5), (4, "143", 0)])
def test_another_end_is_told(program: Path, call: int, code: str, status: int) -> None:
    with pytest.raises(ValueError, match=f"exit status {status}, expected 143"):
        stopping.stop(Phase("phases:Training.step", call), program, [code], 1)


def test_every_phase_is_a_function_of_the_training() -> None:
    assert all(callable(resolve(phase.function.replace(":", "."))) for phase in PHASES.values())


@pytest.mark.parametrize(
    ("changes", "message"), [({"rounds": 0}, "--rounds: got 0"), ({"device": "cuda"}, "--device: got cuda")]
)
def test_mistakes_are_told_before_anything_runs(changes: dict[str, object], message: str) -> None:
    options = {"device": "cpu", "threads": 1, "phases": None, "rounds": 1}
    with pytest.raises(ValueError, match=message):
        next(stopping.run(argparse.Namespace(**(options | changes))))


@pytest.mark.slow
def test_the_demo_training_stops_in_every_phase() -> None:
    options = argparse.Namespace(device="cpu", threads=1, phases=None, rounds=1)
    rows = {row["name"]: row for row in stopping.run(options)}
    assert list(rows) == list(PHASES)
    assert {name: row["saved"] for name, row in rows.items()} == {
        "start": None, "step": 2, "checkpoint": 1, "pictures": 1, "validation": 1, "export": 1,
    }  # fmt: skip
