"""`scripts/benchmark.py stopping`: seconds from SIGTERM until a training has saved its state and ended.

`main.py` trains configs/demo.yaml in a fresh process, which gets the signal at the beginning of a phase, where most of
the phase is still to come:

    start        data and networks are about to be made
    step         a step through the whole loop begins, after which no checkpoint is due
    checkpoint   a checkpoint is about to be written
    pictures     the pictures of the validation pairs are about to be made
    validation   its first batch begins
    export       the weights are about to be written

`median_ms` is wall-clock time, since clusters count it: 30 to 120 seconds pass there between SIGTERM and SIGKILL.
`processor_ms` is what the processor worked in that time, which other work on the machine changes little; where nothing
else runs, the two are about equal with one thread.
`saved` is the step that the training says it saved; null: there was nothing to save, or it was saved before.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.programs import environment

if TYPE_CHECKING:
    from benchmarks.timing import Row

SUMMARY = "seconds until a training that is told to stop has ended"
ROOT = Path(__file__).resolve().parents[2]
#: The exit status of main.py after SIGTERM, as shells report it.
STOPPED = 143


class Phase(NamedTuple):
    """The function that begins a phase, which of its calls, and the shortest training that comes to it."""

    function: str  # MODULE:NAME, or MODULE:CLASS.NAME
    call: int = 1
    steps: int = 2  # of the training; the first is a warm-up step
    every: int = 1  # steps between checkpoints, pictures and validations


PHASES = {
    "start": Phase("midms.training.run:instantiate"),
    "step": Phase("midms.training.midms:MIDMsTraining.training_step", 2, steps=4, every=4),
    "checkpoint": Phase("midms.training.checkpoints:Checkpoints.save"),
    "pictures": Phase("midms.training.callbacks:PictureLogger.draw"),
    "validation": Phase("midms.training.midms:MIDMsTraining.validation_step"),
    "export": Phase("midms.training.run:export", steps=1, every=2),
}
OVERRIDES = ("model.params.warmup_steps=1", "run.log_every=1", "trainer.accelerator=cpu",
             "trainer.enable_progress_bar=false")  # fmt: skip
#: Runs a program whose process gets SIGTERM when a function is called for the n-th time. Prints the moment, and
#: the processor time until then.
SIGNALLED = """
import functools, importlib, os, runpy, signal, sys, time
place, calls, program, *arguments = sys.argv[1:]
module, path = place.split(":")
*outer, name = path.split(".")
owner = functools.reduce(getattr, outer, importlib.import_module(module))
function, left = getattr(owner, name), [int(calls)]
@functools.wraps(function)
def signalled(*args, **kwargs):
    left[0] -= 1
    if left[0] == 0:
        print("signalled at", time.monotonic(), time.process_time(), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
    return function(*args, **kwargs)
setattr(owner, name, signalled)
sys.exit(runpy.run_path(program)["main"](arguments))
"""


class Stop(NamedTuple):
    """How a process ended."""

    milliseconds: float  # from the signal to the end of the process, by the clock on the wall
    processor: float  # of these, milliseconds of processor time
    saved: int | None  # the step that it says it saved


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--phases", nargs="+", choices=PHASES, metavar="PHASE", help="some of the above (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="trainings per phase, of which the median is reported")


def run(options: argparse.Namespace) -> Iterator[Row]:
    """One row per phase; `slowest_ms` is the longest of the rounds.

    Raises:
        ValueError: a count below 1, another device than the CPU, or a training that ended in another way.
    """
    from benchmarks import timing

    if options.rounds < 1:
        raise ValueError(f"--rounds: got {options.rounds}, expected 1 or more")
    if options.device != "cpu":
        raise ValueError(f"--device: got {options.device}, expected cpu")
    for name in options.phases or PHASES:
        stops = []
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                arguments = training(PHASES[name], f"{folder}/run")
                stops.append(stop(PHASES[name], ROOT / "main.py", arguments, options.threads))
        times = [found.milliseconds for found in stops]
        row = timing.row(name, "64x64", "cpu", "float32", "SIGTERM to end", times, None, None)
        processor = round(statistics.median(found.processor for found in stops), 3)
        yield row | {"slowest_ms": round(max(times), 3), "processor_ms": processor, "saved": stops[-1].saved}


def training(phase: Phase, folder: str) -> list[str]:
    """The arguments of main.py for a training that comes to a phase."""
    due = ("run.checkpoint_every", "run.picture_every", "trainer.val_check_interval")
    changes = [f"trainer.max_steps={phase.steps}", *(f"{key}={phase.every}" for key in due), *OVERRIDES]
    return ["--base", str(ROOT / "configs/demo.yaml"), "-t", "--run", folder, *changes]


def stop(phase: Phase, program: Path, arguments: Sequence[str], threads: int) -> Stop:
    """Run a program in a fresh process that gets SIGTERM at the beginning of a phase.

    Raises:
        ValueError: the program did not come to the phase, or did not end as a stopped one.
    """
    words = [sys.executable, "-c", SIGNALLED, phase.function, str(phase.call), str(program), *arguments]
    before = processor_time_of_children()
    done = subprocess.run(words, cwd=ROOT, env=environment(threads), capture_output=True, text=True, check=False)
    ended = time.monotonic()
    used = processor_time_of_children() - before
    told = re.search(r"^signalled at ([\d.]+) ([\d.]+)$", done.stdout, re.MULTILINE)
    if told is None or done.returncode != STOPPED:
        said = " ".join(done.stderr.split())[-300:]
        raise ValueError(f"{phase.function}: exit status {done.returncode}, expected {STOPPED} after SIGTERM; {said}")
    saved = re.search(r"saved step (\d+)", done.stderr)
    return Stop(1e3 * (ended - float(told[1])), 1e3 * (used - float(told[2])), None if saved is None else int(saved[1]))


def processor_time_of_children() -> float:
    """Seconds that all processes that have ended took, those that this one started and has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
