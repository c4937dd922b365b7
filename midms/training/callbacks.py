"""What happens around a training: whole checkpoints, a guard against broken losses, pictures, an export at the end."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from midms.visualize import grid, save_png


class TrainingError(RuntimeError):
    """Training cannot go on, told in one line."""


class Checkpoints(Callback):
    """Whole checkpoints only: written aside, then renamed; the last `keep` stay.

    Args:
        folder: where `step_00001000.ckpt` go.
        every: steps between two checkpoints; one more is written at the end and when the run is told to stop.
    """

    def __init__(self, folder: Path, every: int, keep: int = 2) -> None:
        self.folder, self.every, self.keep = folder, every, keep

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Count the batch for the data order, then save when it is time."""
        trainer.datamodule.batches_seen += 1  # type: ignore[attr-defined]
        if trainer.global_step % self.every == 0:
            self.save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last state."""
        self.save(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """A stop by signal between two batches saves first; after an error the last whole checkpoint stands."""
        if isinstance(exception, KeyboardInterrupt | SystemExit):
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> Path:
        """Write a checkpoint of this step and drop the oldest ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step_{trainer.global_step:08d}.ckpt"
        aside = path.with_suffix(".part")
        trainer.save_checkpoint(aside)
        if trainer.is_global_zero:
            os.replace(aside, path)
            for old in sorted(self.folder.glob("step_*.ckpt"))[: -self.keep]:
                old.unlink()
        return path


def last_checkpoint(run: Path) -> Path:
    """The newest checkpoint of a run folder, or the file itself.

    Raises:
        TrainingError: there is none.
    """
    if run.is_file():
        return run
    found = sorted((run / "checkpoints").glob("step_*.ckpt"))
    if not found:
        raise TrainingError(f"--resume: no checkpoint in {run / 'checkpoints'} (expected step_*.ckpt)")
    return found[-1]


class LossGuard(Callback):
    """Stop after `patience` losses in a row that are no numbers, and say which batch began it."""

    def __init__(self, patience: int = 5) -> None:
        self.patience = patience
        self.bad: list[int] = []
        self.total = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss of the batch that just ended."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is None or math.isfinite(float(loss)):
            self.bad = []
            return
        self.bad.append(batch_idx)
        self.total += 1
        if len(self.bad) >= self.patience:
            raise TrainingError(
                f"the loss is not a number for {len(self.bad)} steps in a row, since batch {self.bad[0]} "
                f"({', '.join(batch.get('name', ['unnamed'])[:3])}); lower the learning rate or look at that batch"
            )


class Pictures(Callback):
    """Every `every` steps a picture of the first validation samples, from the module's own `pictures`."""

    def __init__(self, folder: Path, every: int, samples: int = 6) -> None:
        self.folder, self.every, self.samples = folder, every, samples

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Draw when it is time."""
        dataset = trainer.datamodule.validation  # type: ignore[attr-defined]
        if trainer.global_step % self.every or dataset is None or not trainer.is_global_zero:
            return
        items = [dataset[index] for index in range(min(self.samples, len(dataset)))]
        batch = torch.utils.data.default_collate(items)
        batch = {key: value.to(pl_module.device) if torch.is_tensor(value) else value for key, value in batch.items()}
        training = pl_module.training
        pl_module.eval()
        with torch.no_grad():
            rows = pl_module.pictures(batch)  # type: ignore[operator]
        pl_module.train(training)
        picture = grid(rows)
        save_png(self.folder / f"step_{trainer.global_step:08d}.png", picture)
        for logger in trainer.loggers:
            if isinstance(logger, pl.loggers.TensorBoardLogger):
                logger.experiment.add_image("pictures", picture, trainer.global_step, dataformats="HWC")


class Export(Callback):
    """At the end, the weights as a folder of safetensors that `MIDMsPipeline.from_pretrained` reads."""

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self.folder, self.info = folder, info

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what the module names as its components."""
        from midms.checkpoints.folder import save_folder  # noqa: PLC0415 - only at the end

        if trainer.is_global_zero:
            modules, configs, facts = pl_module.components()  # type: ignore[operator]
            data = trainer.datamodule.train  # type: ignore[attr-defined]
            seen = {key: getattr(data, key) for key in ("task", "size") if hasattr(data, key)}
            info = self.info | seen | facts | {"steps": trainer.global_step}
            save_folder(self.folder, modules, configs, info)


class Progress(TQDMProgressBar):
    """Lightning's bar over all steps of the run, with the time left."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=5)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A resumed run never begins its epoch, so the length is set here."""
        super().on_train_start(trainer, pl_module)
        self.train_progress_bar.reset(trainer.max_steps)

    def init_train_tqdm(self) -> Tqdm:
        """One bar for the whole run, not one an epoch."""
        bar = super().init_train_tqdm()
        bar.set_description("training")
        return bar
