"""The progress of a training: Lightning's bar on a terminal, plain lines at intervals in a log file."""

from __future__ import annotations

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ProgressBar, TQDMProgressBar

from midms.programs import say
from midms.progress import Timer, is_terminal, pace


class RunProgressBar(TQDMProgressBar):
    """Lightning's bar over all steps of the run, with the time left."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=5)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the length of the bar: Lightning does so at the start of an epoch, which a resumed run has passed."""
        super().on_train_start(trainer, pl_module)
        self.train_progress_bar.reset(trainer.max_steps)

    def on_train_epoch_start(self, *_: Any) -> None:
        """Keep the bar: a run has a single epoch."""

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the error message starts on a new line."""
        if self._train_progress_bar is not None:
            self._train_progress_bar.close()

    @property
    def train_description(self) -> str:
        """The name of the bar."""
        return "training"

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """The metrics without Lightning's version number of a logger, which is no number here."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class RunLines(ProgressBar):
    """One line every `timer.seconds`, after each validation and at the end: step, loss, steps per second, time left."""

    def __init__(self, timer: Timer | None = None) -> None:
        super().__init__()
        self.timer = Timer() if timer is None else timer
        self.first, self.told, self.hidden = 0, -1, False

    def disable(self) -> None:
        """On ranks other than the first Lightning switches the lines off."""
        self.hidden = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.timer.restart()
        self.first = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """A line, if one is due."""
        if self.timer.due():
            self.tell(trainer)

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """A line with the new numbers. A validation without training prints its table itself."""
        if trainer.state.fn == "fit":
            self.told = -1
            self.tell(trainer)

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """The last line, unless the validation after the last step printed it."""
        self.tell(trainer)

    def tell(self, trainer: pl.Trainer) -> None:
        """Print the state, once for each step."""
        step, total = trainer.global_step, trainer.max_steps
        if self.hidden or self.told == step:
            return
        self.told = step
        done = step - self.first
        numbers = [f"{name} {float(value):.4g}" for name, value in trainer.progress_bar_metrics.items()]
        words = [f"step {step} of {total}", *numbers]
        if done and step < total:
            words.append(pace(done, total - step, self.timer.elapsed, " steps"))
        say(", ".join(words))

    def print(self, *values: Any, **_: Any) -> None:
        """One line of text."""
        say(" ".join(map(str, values)))


class LossChanges(Callback):
    """Say at which step the loss gets other terms, so that a jump of its curve is understood."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Print the change that begins with this step, if any. `pl_module` is a `Stage`."""
        text = pl_module.changes().get(trainer.global_step)
        if text is not None and trainer.is_global_zero:
            shown = trainer.progress_bar_callback
            (say if shown is None else shown.print)(f"step {trainer.global_step}: {text}")


def progress_of_run() -> ProgressBar:
    """A bar on a terminal, else lines."""
    return RunProgressBar() if is_terminal(sys.stdout) else RunLines()
