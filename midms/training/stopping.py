"""Callbacks that stop a training between two steps, and that complete the last step of a resumed run."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from midms.data.module import data_of
from midms.training.callbacks import PictureLogger, ResumableCSVLogger
from midms.training.errors import Interrupted
from midms.training.signals import SIGNALS


class StopOnSignal(Callback):
    """Stop on SIGINT and SIGTERM between steps, where the state is consistent and the metrics are written.

    A signal that reaches one rank stops all of them at the same place.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on a signal waits for the end of a step."""
        SIGNALS.take()
        SIGNALS.patient, SIGNALS.alone = True, trainer.world_size == 1

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Stop before the step."""
        self.stop_if_told(trainer)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        """Stop during a validation. With several ranks, stop only at a batch that all ranks have."""
        data, validation = data_of(trainer), data_of(trainer).validation
        count = len(validation) if isinstance(validation, Sized) else 0
        shared = max(count // trainer.world_size, 1) / data.batch_size
        if SIGNALS.patient and (trainer.world_size == 1 or batch_idx < shared):
            self.stop_if_told(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop before the export."""
        self.stop_if_told(trainer)

    def stop_if_told(self, trainer: pl.Trainer) -> None:
        """Stop if any rank received a signal.

        Raises:
            Interrupted: a rank received a signal.
        """
        told = SIGNALS.received or 0
        if trainer.world_size > 1:
            device = trainer.strategy.root_device
            told = int(trainer.strategy.reduce(torch.tensor(told, device=device), reduce_op="max"))
        if told:
            raise Interrupted(told)


class CatchUp(Callback):
    """Run the validation and draw the picture that were due after the last step of a stopped run, if missing."""

    def __init__(self, pictures: PictureLogger) -> None:
        self.pictures = pictures

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do both before the next step. Their row in metrics.csv has the number of the last step."""
        if trainer.global_step == 0:
            return
        if validation_is_missing(trainer):
            loop, connector = trainer.fit_loop.epoch_loop.val_loop, trainer._logger_connector
            first = connector._first_loop_iter
            loop.restarting = False
            trainer.validating = True
            loop.run()
            trainer.training = True
            connector._first_loop_iter = first
        if not self.pictures.file(trainer.global_step).exists():
            self.pictures.draw_if_due(trainer, pl_module)


def validation_is_missing(trainer: pl.Trainer) -> bool:
    """Whether a validation was due after the last step but has no row in metrics.csv. The same on all ranks."""
    every, step = trainer.val_check_batch, trainer.global_step
    if not trainer.enable_validation or data_of(trainer).validation is None:
        return False
    if every is None or every == float("inf") or step % int(every):
        return False
    tables = [logger for logger in trainer.loggers if isinstance(logger, ResumableCSVLogger)]
    missing = bool(tables) and not any(table.has(step - 1, "val/") for table in tables)
    return bool(trainer.strategy.broadcast(missing))
