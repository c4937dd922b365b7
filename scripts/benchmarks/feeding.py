"""Whether the loader keeps up with a training step on the device at hand: both measured in one short run."""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch

from benchmarks import timing
from midms.config import check, instantiate, load_config

_WARM = 2  # steps that are not counted: allocation, compilation, start of the loader processes
#: Largest share of the time that a device may wait for data if the loader keeps up.
_WAITING = 0.05


class StepClock(pl.Callback):
    """Milliseconds of each training step, and of the wait for its batch after the previous step; stops after `stop`."""

    def __init__(self, stop: int) -> None:
        self.stop = stop
        self.steps: list[float] = []
        self.waits: list[float] = []
        self._begin = self._end = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch is there."""
        self._begin = _now(pl_module.device)
        if self._end:
            self.waits.append(1e3 * (self._begin - self._end))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The device has finished the step."""
        self._end = _now(pl_module.device)
        self.steps.append(1e3 * (self._end - self._begin))
        trainer.should_stop = len(self.steps) >= self.stop


def feeding_rows(options: argparse.Namespace) -> Iterator[timing.Row]:
    """Rows "step" (the device), "loader" (the config's loader alone) and "training" (both together).

    `items_per_second` is the rate of the row alone. `ratio` of the loader is the step's time over the loader's.
    "training" adds `waiting`, the share of its time that the device waits for data, and `keeps_up`, whether that is
    below 5 percent.

    Raises:
        ValueError: a config that cannot be run.
    """
    config = load_config([options.config], options.set)
    check(config)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    pl.seed_everything(0, verbose=False)
    data, module = instantiate(config.data), instantiate(config.model)
    clock, steps = StepClock(_WARM + options.steps), options.steps
    trainer = pl.Trainer(
        max_steps=_WARM + steps + _queued(data),  # the loader alone continues to read
        accelerator="gpu" if options.device == "cuda" else "cpu",
        devices=1,
        precision=config.trainer.get("precision", "32-true"),
        callbacks=[clock],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice for long trainings
        trainer.fit(module, datamodule=data)
    step, wait = clock.steps[_WARM:], clock.waits[_WARM - 1 :]
    loader = time_loader(data, steps)
    whole = [own + waited for own, waited in zip(step, wait, strict=True)]
    waiting = statistics.median(waited / total for waited, total in zip(wait, whole, strict=True))
    size = f"{data.batch_size} items"
    for name, times in (("step", step), ("loader", loader), ("training", whole)):
        where = "cpu" if name == "loader" else options.device
        row = timing.row(name, size, where, "float32", "batch", times, None, step)
        row["items_per_second"] = round(1e3 * data.batch_size / statistics.median(times), 2)
        if name == "loader":
            processes = max(1, data.num_workers)
            row["num_workers"] = data.num_workers
            row["workers_for_step"] = math.ceil(processes * statistics.median(loader) / statistics.median(step))
        if name == "training":
            row |= {"waiting": round(waiting, 3), "keeps_up": waiting < _WAITING}
        yield row


def time_loader(data: Any, batches: int) -> list[float]:
    """Milliseconds from batch to batch of a data module's own loader, after the queue of its processes was emptied.

    Processes deliver in bursts, so each number is the mean.
    """
    iterator = iter(data.train_dataloader())
    for _ in range(_WARM + _queued(data)):
        next(iterator)
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    return [1e3 * (time.perf_counter() - start) / batches] * batches


def _queued(data: Any) -> int:
    """Batches that the loader's processes make ahead: two each, torch's default."""
    return 2 * int(data.num_workers)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
