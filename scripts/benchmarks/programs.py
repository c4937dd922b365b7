"""`scripts/benchmark.py programs`: processor time and peak memory of `midms`, each row in fresh processes.

    help        `midms --help`
    demo        `midms translate` of a drawn pair of faces with the shipped weights, at their 128 pixels
    app         `midms app` until it shows its address: time on the clock, not of the processor
    start       python, imports and the weights of --config (random numbers), without a translation
    library     `start`, then one call of the pipeline: the least that a program needs
    translate   `midms translate` of the same inputs with the same weights

The last three are measured in turn, with the released schedule (24 U-Net calls) at --size pixels. `ratio` is the time
of `library` divided by the row's: 0.95 in the row `translate` means that the program takes 5 % longer than the library.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.options import check_shape

if TYPE_CHECKING:
    from benchmarks.timing import Row

SUMMARY = "start-up of the program, and `midms translate` against the library"
PROGRAM = (sys.executable, "-m", "midms")
DEMO_SIZE = 128  # pixels per side at which the weights `demo` were trained
INPUTS = ("--condition", "condition.npy", "--exemplar", "exemplar.png")
RELEASED = ("--exemplar-condition", "exemplar_condition.npy", "--protocol", "released")
#: A process that loads the weights as `midms translate` does, and with a second argument also translates.
LIBRARY = """
import sys
import numpy as np
from midms.diffusion.settings import InterleaveSettings
from midms.pipelines.making import load_pipeline
pipe = load_pipeline(sys.argv[1], "cpu")
if len(sys.argv) > 2:
    maps = np.load("condition.npy"), np.load("exemplar_condition.npy")
    pipe(maps[0], "exemplar.png", maps[1], settings=InterleaveSettings.released()).images[0]
"""
#: Small processes that run a command and print a time in milliseconds and the peak memory of their child alone. A child
#: of this large process would count this one's memory as its own, as it was until the command started.
LAUNCHERS = {
    # processor time until the program ends
    "process": """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(1e3 * (usage.ru_utime + usage.ru_stime), usage.ru_maxrss / 1024)
sys.exit(done.returncode)
""",
    # time until the first line of a program that then runs until it is told to end
    "first line": """
import resource, signal, subprocess, sys, time
start = time.monotonic()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
line = child.stdout.readline()
passed = time.monotonic() - start
child.send_signal(signal.SIGTERM)
code = child.wait()
print(1e3 * passed, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
sys.exit(code if line else code or 1)
""",
}


class Cost(NamedTuple):
    """Of one process."""

    milliseconds: float  # processor time in user and kernel mode, or time until the first line
    peak_mb: float  # largest resident memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--config", default="celebahq", help="network sizes: celebahq, demo or tiny "
                        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--size", type=int, default=256, help="pixels per side (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="processes per row, of which the median is reported")


def run(options: argparse.Namespace) -> Iterator[Row]:
    """One row per program.

    Raises:
        ValueError: an unknown size, a count below 1, a side that is not a multiple of 32, another device than the CPU,
            or a program that failed.
    """
    check_shape(1, options.rounds, options.size)
    if options.device != "cpu":
        raise ValueError(f"--device: got {options.device}, expected cpu; processor time of processes is measured")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo, large = folder / "demo", folder / "large"
        write_pair(demo, DEMO_SIZE, None)
        write_pair(large, options.size, options.config)
        translate = (*PROGRAM, "translate", *INPUTS, "--device", "cpu", "--out", "out.png")
        library = (sys.executable, "-c", LIBRARY, "weights")
        yield from rows(
            DEMO_SIZE, {"help": (*PROGRAM, "--help"), "demo": (*translate, "--weights", "demo")}, demo, options
        )
        yield from app_row(demo, options)
        commands = {
            "start": library,
            "library": (*library, "translate"),
            "translate": (*translate, "--weights", "weights", *RELEASED),
        }
        yield from rows(options.size, commands, large, options)


def app_row(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    """The row of the app, not measured without the extra that it needs."""
    from benchmarks import timing
    from midms.programs import how_to_install

    if importlib.util.find_spec("gradio") is None:
        row = timing.row("app", f"{DEMO_SIZE}x{DEMO_SIZE}", "cpu", "auto", "first line", None, None, None)
        yield row | {"note": f"not measured: no Gradio; {how_to_install('app')}"}
    else:
        yield from rows(DEMO_SIZE, {"app": (*PROGRAM, "app", "--port", "0")}, folder, options, "first line")


def rows(
    size: int, commands: Mapping[str, Sequence[str]], folder: Path, options: argparse.Namespace, until: str = "process"
) -> Iterator[Row]:
    """Run the commands in turn and yield a row for each.

    Args:
        until: key of `LAUNCHERS`, what is measured.
    """
    from benchmarks import timing

    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, words in commands.items():
            costs[name].append(process_cost(words, folder, options.threads, until))
    times = {name: [cost.milliseconds for cost in found] for name, found in costs.items()}
    for name, found in costs.items():
        peak = max(cost.peak_mb for cost in found)
        yield timing.row(name, f"{size}x{size}", "cpu", "auto", until, times[name], peak, times.get("library"))


def process_cost(words: Sequence[str], folder: Path, threads: int, until: str = "process") -> Cost:
    """Run a program in a folder, in a fresh process with a number of CPU threads.

    Args:
        until: key of `LAUNCHERS`, what is measured.
    Raises:
        ValueError: the program failed.
    """
    launcher = [sys.executable, "-c", LAUNCHERS[until], *words]
    done = subprocess.run(launcher, cwd=folder, env=environment(threads), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(
            f"{' '.join(words[:4])}: exit status {done.returncode}, {' '.join(done.stderr.split())[-300:]}"
        )
    return Cost(*map(float, done.stdout.split()))


def environment(threads: int) -> dict[str, str]:
    """The environment of a process that finds this package and computes with a number of CPU threads."""
    places = filter(None, [str(Path(__file__).parents[2]), os.getenv("PYTHONPATH")])
    found = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(places)}
    return os.environ | found


def write_pair(folder: Path, size: int, config: str | None) -> None:
    """Write a drawn pair of faces, and with `config` a folder of random weights of that size."""
    import numpy as np

    from benchmarks.networks import random_model
    from midms.data.procedural.dataset import ProceduralPairs
    from midms.diffusion.settings import InterleaveSettings
    from midms.pipelines.midms import MIDMsPipeline
    from midms.visualize import save_png, to_pixels

    folder.mkdir()
    pair = ProceduralPairs("faces", size, "test")[0]
    for name in ("condition", "exemplar_condition"):
        np.save(folder / f"{name}.npy", pair[name].numpy())
    save_png(folder / "exemplar.png", to_pixels(pair["exemplar"]))
    if config is not None:
        info = {"task": "faces", "size": size}
        MIDMsPipeline(random_model(config), InterleaveSettings.released(), info).save_pretrained(folder / "weights")
