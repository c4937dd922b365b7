"""Trainings that are killed, told to stop, or find the disk full; each in a process of its own.

Run as a program by `test_interruptions`: everything heavy is imported once and then forked, so that a start costs
little. It prints one JSON object: what was seen.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from small_runs import program, stage_three

from midms.checkpoints.folder import load_folder
from midms.training import midms, run  # noqa: F401 - imported before the fork

STEPS = 6
NO_VALIDATION = "trainer.limit_val_batches=0"


class TrainingProcesses:
    """Children that train; `weights` is what they start from."""

    def __init__(self, folder: Path, weights: Path, steps: int) -> None:
        self.folder, self.weights, self.steps, self.main = folder, weights, steps, program()

    def start(self, name: str, *more: str, before: Callable[[], None] = lambda: None) -> int:
        """Fork a training of run `name`; its output goes to name.out."""
        arguments = stage_three(self.weights, self.folder / name, self.steps, "run.keep=3", NO_VALIDATION, *more)
        child = os.fork()
        if child:
            return child
        log = os.open(self.folder / f"{name}.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        before()
        code = self.main(arguments)
        sys.stdout.flush()
        os._exit(code)

    def wait(self, child: int) -> int:
        """Exit code, or minus the signal."""
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def last_line(self, name: str) -> str:
        return (self.folder / f"{name}.out").read_text().strip().splitlines()[-1]

    def resume(self, name: str) -> list[str]:
        """The arguments that go on, where there is something to go on from."""
        there = any((self.folder / name / "checkpoints").glob("step_*.ckpt"))
        return ["--resume", str(self.folder / name)] if there else []

    def finish(self, name: str) -> bool:
        """Go on to the end; whether the weights are those of the uninterrupted run, bit for bit."""
        if self.wait(self.start(name, *self.resume(name))) != 0:
            return False
        one, two = (load_folder(self.folder / which / "weights").states for which in ("whole", name))
        return all(torch.equal(one[part][key], two[part][key]) for part in one for key in one[part])

    def await_step(self, name: str, step: int, child: int) -> None:
        """Until the checkpoint of a step is there, or the child has ended."""
        while not (self.folder / name / f"checkpoints/step_{step:08d}.ckpt").is_file():
            if os.waitpid(child, os.WNOHANG)[0]:
                raise RuntimeError(self.last_line(name))
            time.sleep(0.02)


def killed(processes: TrainingProcesses, kills: int, seconds: float) -> dict[str, object]:
    """kill -9 at random moments within a run's duration, resuming each time; several runs if one ends too soon."""
    rng, seen, runs, whole = random.Random(7), 0, 0, []
    while seen < kills:
        runs += 1
        name = f"killed{runs}"
        while seen < kills:
            child = processes.start(name, *processes.resume(name))
            time.sleep(rng.uniform(0.05, 1.0) * seconds)
            ended = os.waitpid(child, os.WNOHANG)[0]
            if ended:
                break
            os.kill(child, signal.SIGKILL)
            processes.wait(child)
            seen += 1
            paths = sorted((processes.folder / name / "checkpoints").glob("step_*.ckpt"))
            whole += [torch.load(path, weights_only=False)["global_step"] for path in paths]
        if not processes.finish(name):
            return {"kills": seen, "equal": False, "said": processes.last_line(name)}
    return {"kills": seen, "equal": True, "runs": runs, "checkpoints_read": len(whole)}


def signalled(processes: TrainingProcesses, number: signal.Signals) -> dict[str, object]:
    """A signal after the first step: the code, the last line, and whether going on gives the same weights."""
    name = number.name
    child = processes.start(name)
    processes.await_step(name, 1, child)
    os.kill(child, number)
    code = processes.wait(child)
    return {"code": code, "said": processes.last_line(name), "equal": processes.finish(name)}


def full_disk(processes: TrainingProcesses) -> dict[str, object]:
    """Files may no longer grow to a checkpoint's size: the last one stands, and there is one line."""
    name = "full"
    (processes.folder / name / "checkpoints").mkdir(parents=True)
    source = processes.folder / "whole/checkpoints" / f"step_{processes.steps - 2:08d}.ckpt"
    kept = processes.folder / name / "checkpoints" / source.name
    kept.write_bytes(source.read_bytes())
    limit = source.stat().st_size // 2

    def shrink() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    code = processes.wait(processes.start(name, *processes.resume(name), before=shrink))
    said, files = processes.last_line(name), sorted(file.name for file in kept.parent.iterdir())
    return {"code": code, "said": said, "files": files, "kept": source.name, "equal": processes.finish(name)}


def main() -> None:
    """Arguments: folder, weights, kills, and "rest" to try the signals and the full disk too."""
    folder, weights, kills, rest = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "rest"
    processes = TrainingProcesses(folder, weights, STEPS)
    begun = time.monotonic()
    seen: dict[str, object] = {"whole": processes.wait(processes.start("whole"))}
    seconds = time.monotonic() - begun
    seen["killed"] = killed(processes, kills, seconds)
    if rest:
        seen |= {number.name: signalled(processes, number) for number in (signal.SIGTERM, signal.SIGINT)}
        seen["full"] = full_disk(processes)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
