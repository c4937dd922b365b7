"""Lightning callbacks and loggers: metrics.csv, throughput and memory, pictures of validation samples."""

from __future__ import annotations

import csv
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from midms.data.module import data_of
from midms.io.files import atomic_write
from midms.training.errors import Interrupted
from midms.training.signals import SIGNALS
from midms.visualize import grid, save_png


class ResumableCSVLogger(Logger):
    """Write metrics.csv, one row per logging call. A resumed run appends to the table of the run that it continues.

    Lightning's own CSV logger deletes the table of an earlier run.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.columns: list[str] = []

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The config is saved beside the table."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row. New names become new columns."""
        row = {"step": str(step), **{name: str(value) for name, value in metrics.items()}}
        new = [name for name in row if name not in self.columns]
        if new:
            rows = self.rows()
            self.columns += new
            self._write(rows)
        with self.file.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    @rank_zero_only
    def drop_rows_from(self, step: int) -> None:
        """Delete a truncated last line, and the rows from `step` on, which the resumed run writes again."""
        rows = [row for row in self.rows() if (row.get("step") or "").isdigit() and None not in row]
        self.columns = [name for name in (rows[0] if rows else {}) if name is not None]
        self._write([row for row in rows if int(row["step"]) < step])

    def has(self, step: int, prefix: str) -> bool:
        """Whether a row of a step has a value in a column whose name begins with `prefix`."""
        found = [row for row in self.rows() if row.get("step") == str(step)]
        return any(value for row in found for name, value in row.items() if name and name.startswith(prefix))

    def rows(self) -> list[dict[str, str]]:
        """All rows of the table on disk."""
        if not self.file.is_file():
            return []
        with self.file.open(newline="") as file:
            return list(csv.DictReader(file))

    def _write(self, rows: list[dict[str, str]]) -> None:
        with atomic_write(self.file) as aside, aside.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)


class ThroughputMonitor(Callback):
    """Log learning rates, samples per second over all ranks, peak memory and the hours left."""

    def __init__(self) -> None:
        self.begun, self.first_step = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prepare metrics.csv for a resumed run, and start the clock."""
        for logger in trainer.loggers:
            if isinstance(logger, ResumableCSVLogger):
                logger.drop_rows_from(trainer.global_step)
        self.begun, self.first_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Log learning rates, mean throughput since the start, peak memory and the hours left."""
        seconds = (time.monotonic() - self.begun) / max(trainer.global_step - self.first_step, 1)
        samples = data_of(trainer).batch_size * trainer.world_size
        values = {
            "images_per_second": samples / seconds,
            "hours_left": (trainer.max_steps - trainer.global_step) * seconds / 3600,
            "memory_gb": peak_memory(pl_module.device),
        }
        for number, optimizer in enumerate(trainer.optimizers):
            for group, settings in enumerate(optimizer.param_groups):
                values[f"learning_rate_{number}_{group}"] = settings["lr"]
        pl_module.log_dict({f"run/{name}": float(value) for name, value in values.items()})


def peak_memory(device: torch.device) -> float:
    """Peak memory so far in units of 1e9 bytes: of the GPU's tensors, or of the process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, kibibytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class PictureLogger(Callback):
    """Save what the module's `pictures` draws of the first validation samples every `every` steps (0: never)."""

    def __init__(self, folder: Path, every: int, samples: int = 6) -> None:
        self.folder, self.every, self.samples = folder, every, samples

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Draw and save the picture if the step is a multiple of `every`."""
        self.draw_if_due(trainer, pl_module)

    def file(self, step: int) -> Path:
        """The picture of a step."""
        return self.folder / f"step_{step:08d}.png"

    def draw_if_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw if the step is a multiple of `every`. After a signal the resumed run draws the picture instead."""
        due = self.every and trainer.global_step % self.every == 0 and trainer.is_global_zero
        dataset: Any = data_of(trainer).validation
        if not due or dataset is None:
            return
        training = pl_module.training
        pl_module.eval()
        try:
            self.draw(trainer, pl_module, dataset)
        except Interrupted as stop:
            if stop.hurried:
                raise
        finally:
            pl_module.train(training)

    def draw(self, trainer: pl.Trainer, stage: Any, dataset: Any) -> None:
        """Draw the picture of this step. `stage` is a `Stage`.

        Raises:
            Interrupted: a signal arrived while drawing.
        """
        items = [dataset[index] for index in range(min(self.samples, len(dataset)))]
        batch = torch.utils.data.default_collate(items)
        batch = {key: value.to(stage.device) if torch.is_tensor(value) else value for key, value in batch.items()}
        SIGNALS.check()
        with torch.no_grad():
            rows = stage.pictures(batch)
        SIGNALS.check()
        picture = grid(rows, title=_title(trainer, stage))
        save_png(self.file(trainer.global_step), picture)
        for logger in trainer.loggers:
            if isinstance(logger, pl.loggers.TensorBoardLogger):
                logger.experiment.add_image("pictures", picture, trainer.global_step, dataformats="HWC")
            if isinstance(logger, pl.loggers.WandbLogger):
                logger.log_image("pictures", [picture], step=trainer.global_step)


def _title(trainer: pl.Trainer, stage: Any) -> str:
    """The step of a picture, and how the loss changed before it."""
    past = [text for step, text in sorted(stage.changes().items()) if step <= trainer.global_step]
    return "; ".join([f"step {trainer.global_step} of {trainer.max_steps}", *past[-1:]])
