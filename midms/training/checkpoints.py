"""Checkpoints: written atomically, limited to the last few, and saved when a signal stops the run."""

from __future__ import annotations

import os
import signal
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback

from midms.data.module import data_of
from midms.training.errors import Interrupted, TrainingError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints to a temporary file, flush it to disk and rename it: no partial file has the final name."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` as `path`.

        Raises:
            TrainingError: the file cannot be written, for example because the disk is full. Earlier checkpoints stay.
        """
        path = Path(path)
        aside = path.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except (OSError, RuntimeError) as error:  # torch's writer hides the first behind the second
            aside.unlink(missing_ok=True)
            refusal = error if isinstance(error, OSError) else error.__context__
            if not isinstance(refusal, OSError):
                raise
            last = newest_checkpoint(path.parent)
            earlier = f"the last complete one is {last}" if last else "there is no earlier one"
            raise TrainingError(
                f"{path}: the checkpoint could not be written ({refusal.strerror or refusal}); {earlier}; "
                "free some disk space and continue with --resume"
            ) from error


class Checkpoints(Callback):
    """Save a checkpoint every `every` steps and at the end, and delete all but the last `keep`.

    Args:
        folder: of the files `step_00001000.ckpt`.
        every: steps between two checkpoints.
        keep: number of checkpoints to keep.
    """

    def __init__(self, folder: Path, every: int, keep: int = 2) -> None:
        self.folder, self.every, self.keep = folder, every, keep
        self.saved = -1  # step of the last one written

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Delete partial files of a killed run, and move checkpoints of later steps to a folder of their own."""
        if not trainer.is_global_zero:
            return
        for torn in self.folder.glob("*.part"):
            torn.unlink()
        ahead = [path for path in self.folder.glob("step_*.ckpt") if path.stem > step_name(trainer.global_step)]
        if ahead:
            aside = next(path for n in count(1) if not (path := self.folder.with_name(f"checkpoints_{n}")).exists())
            aside.mkdir()
            for path in ahead:
                path.rename(aside / path.name)
            print(f"checkpoints of an earlier run beyond step {trainer.global_step}: moved to {aside}")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Advance the data order by one batch, and save if the step is a multiple of `every`."""
        data_of(trainer).advance()
        if trainer.global_step % self.every == 0:
            self.save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last state."""
        self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Write a checkpoint of this step unless there is one already, and delete the oldest ones."""
        if self.saved == trainer.global_step:
            return
        trainer.save_checkpoint(self.folder / f"{step_name(trainer.global_step)}.ckpt")
        self.saved = trainer.global_step
        if trainer.is_global_zero:
            for old in sorted(self.folder.glob("step_*.ckpt"))[: -self.keep]:
                old.unlink()


class StopOnSignal(Callback):
    """Stop on SIGINT or SIGTERM: finish the current step, save a checkpoint, and raise `Interrupted`.

    A second SIGINT stops at once without saving. A signal that reaches one rank stops all ranks after the same step.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.received: int | None = None
        self.before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the signal handlers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self.before[number] = signal.signal(number, self.note)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Record a signal. The handler may run in the middle of a step, so it does not touch the training state."""
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or number

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Save and stop if any rank has received a signal; between two steps the state is consistent."""
        received = self.received or 0
        if trainer.world_size > 1:
            anywhere = trainer.strategy.reduce(torch.tensor(received, device=pl_module.device), reduce_op="max")
            received = int(anywhere)
        if received:
            self.checkpoints.save(trainer)
            raise Interrupted(received, trainer.global_step)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the earlier signal handlers."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}


def step_name(step: int) -> str:
    """File name of a step's checkpoint without suffix; the names sort in the order of the steps."""
    return f"step_{step:08d}"


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the latest step in a folder. None: the folder has no checkpoint."""
    return max(folder.glob("step_*.ckpt"), default=None)


def last_checkpoint(run: Path) -> Path:
    """The newest checkpoint of a run folder, or the file itself.

    Raises:
        TrainingError: there is none.
    """
    if run.is_file():
        return run
    checkpoint = newest_checkpoint(run / "checkpoints")
    if checkpoint is None:
        raise TrainingError(f"--resume: no checkpoint in {run / 'checkpoints'} (expected step_*.ckpt)")
    return checkpoint
