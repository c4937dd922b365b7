"""One training run from a config: build, resume, train, validate, export."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from midms.config import ConfigError, check, instantiate, load_config, resolve, to_yaml
from midms.data.module import DataModule
from midms.io.files import BrokenFileError, write_atomically
from midms.programs import how_to_install, say
from midms.settings import RunSettings
from midms.training.callbacks import PictureLogger, ResumableCSVLogger, ThroughputMonitor
from midms.training.checkpoints import AtomicCheckpointIO, Checkpoints, last_checkpoint
from midms.training.errors import Interrupted, TrainingError
from midms.training.export import export
from midms.training.folder import CONFIG, TABLE, claimed
from midms.training.memory import free_bytes, needs_checkpointing
from midms.training.missing import require_files
from midms.training.progress import LossChanges, progress_of_run
from midms.training.signals import SIGNALS
from midms.training.stage import Stage
from midms.training.stopping import CatchUp, StopOnSignal, validation_is_missing

#: Mistakes of the user, which every program prints as one line. Configs, weights and data raise ValueErrors.
USER_ERRORS = (TrainingError, ValueError, OSError)


def run(options: argparse.Namespace) -> dict[str, float]:
    """Train, validate or test as the command line of `main.py` asks."""
    config = load_config(options.base, options.overrides)
    check(config)
    if options.dry_run:
        print(to_yaml(config), end="")
        return {}
    resume = last_checkpoint(Path(options.resume)) if options.resume else None
    folder = Path(options.run) if options.run else _default_folder(config, options.resume)
    return train(config, folder, resume) if options.train else validate(config, resume)


def _default_folder(config: DictConfig, resume: str | None) -> Path:
    if resume and Path(resume).is_dir():
        return Path(resume)
    settings = RunSettings(**(resolve(config).get("run") or {}))
    return Path(settings.root) / settings.name


def train(config: DictConfig, folder: Path, resume: Path | None = None) -> dict[str, float]:
    """Train and return the last metrics.

    Args:
        config: a checked training config.
        folder: gets config.yaml, metrics.csv, checkpoints/, pictures/, and weights/ at the end.
        resume: checkpoint to resume from.
    Raises:
        TrainingError: the checkpoint belongs to another config or does not fit, the disk is full, another training
            uses the folder, or the loss stayed infinite or NaN.
        ValueError, OSError: the config, its weights or its data cannot be used.
        Interrupted: a signal arrived, and the state is saved.
    """
    with SIGNALS.handled():
        settings, data, module = _built(config)
        pictures = PictureLogger(folder / "pictures", settings.picture_every or 0)
        checkpoints = Checkpoints(folder / "checkpoints", settings.checkpoint_every or 0, settings.keep)
        # the checkpoint comes before the callbacks that log or draw
        callbacks = [StopOnSignal(), checkpoints, ThroughputMonitor(), LossChanges(), pictures, CatchUp(pictures)]
        options: dict[str, Any] = resolve(config)["trainer"]
        if data.validation is None:
            options["val_check_interval"] = None
        first = getattr(rank_zero_only, "rank", 0) == 0
        if resume is not None and first:
            report_differences(_config_of(resume, folder), config)
        trainer = _trainer(options, settings, folder, callbacks, _loggers(folder, settings))
        with claimed(folder) if first else nullcontext():
            if first:
                write_atomically(folder / CONFIG, to_yaml(config))
            fit = partial(trainer.fit, module, datamodule=data, ckpt_path=_path(resume))
            stepped = _guarded(trainer, resume, fit)
            SIGNALS.patient, SIGNALS.step = False, trainer.global_step
            SIGNALS.check()
            found = {name: float(value) for name, value in trainer.callback_metrics.items()}
            if not stepped:  # the run was stopped after its last step
                found |= _late_validation(trainer, module, data)
            _report_broken(data)
            if settings.export and trainer.is_global_zero:
                seen = {key: getattr(data.train, key) for key in ("task", "size") if hasattr(data.train, key)}
                facts = {"name": settings.name, "stage": type(module).__name__, "steps": trainer.global_step}
                facts |= {"seed": settings.seed}
                export(folder / "weights", module.components(), facts | seen)
        return found


def validate(config: DictConfig, resume: Path | None = None) -> dict[str, float]:
    """Run the validation set once and return its metrics. No file is written.

    Args:
        config: a checked training config.
        resume: checkpoint whose weights to use. None: the weights that a training would start from.
    Raises:
        TrainingError: the checkpoint does not fit.
        ValueError, OSError: the config, its weights or its data cannot be used.
        Interrupted: a signal arrived.
    """
    with SIGNALS.handled():
        settings, data, module = _built(config)
        if data.validation is None:
            raise ConfigError("--validate: the config has no data.params.validation")
        trainer = _trainer(resolve(config)["trainer"], settings, Path(), [], False)
        _guarded(trainer, resume, partial(trainer.validate, module, datamodule=data, ckpt_path=_path(resume)))
        return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _path(resume: Path | None) -> str | None:
    return None if resume is None else str(resume)


def _built(config: DictConfig) -> tuple[RunSettings, DataModule, Stage]:
    """Settings, data and networks of a config."""
    _silence_lightning_advice()
    settings = RunSettings(**(resolve(config).get("run") or {}))
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    require_files(config)
    data = instantiate(config.data)
    module = instantiate(_with_checkpointing_decided(config, data))
    module.max_bad_losses = settings.max_bad_losses
    return settings, data, module


def _with_checkpointing_decided(config: DictConfig, data: DataModule) -> dict[str, Any]:
    """The model's node, with "auto" of `gradient_checkpointing` replaced by the choice for this device."""
    node: dict[str, Any] = resolve(config)["model"]
    if (node.get("params") or {}).get("gradient_checkpointing") != "auto":
        return node
    free = free_bytes(str(config.trainer.get("accelerator", "auto")))
    needed = needs_checkpointing(config, getattr(data.train, "size", 256), free)
    say(f"gradient_checkpointing: auto, {'activations are recomputed' if needed else 'all activations are kept'}")
    return {**node, "params": {**node["params"], "gradient_checkpointing": needed}}


def _late_validation(trainer: pl.Trainer, module: Stage, data: DataModule) -> dict[str, float]:
    """Metrics of the validation after the last step, which is run now if the stopped run had not reached it."""
    if not validation_is_missing(trainer):
        return {}
    for table in trainer.loggers:
        if isinstance(table, ResumableCSVLogger):
            table.drop_rows_from(trainer.global_step)
    trainer.validate(module, datamodule=data, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _guarded(trainer: pl.Trainer, resume: Path | None, action: Callable[[], Any]) -> bool:
    """Run a training or validation. A user's mistake becomes a `TrainingError` of one line.

    Returns:
        Whether any step was done.
    """
    counts: list[int] = []
    callbacks: list[pl.Callback] = vars(trainer)["callbacks"]  # Lightning sets the list without declaring it
    callbacks.append(_FirstStep(counts))
    try:
        action()
    except (TrainingError, ConfigError):
        raise
    except OSError as error:
        if error.errno not in _DISK_FULL_ERRNOS:
            raise
        raise TrainingError(f"{error.filename or error}: could not be written ({error.strerror})") from error
    except Interrupted:
        launcher: Any = trainer.strategy.launcher
        if not counts and hasattr(launcher, "kill"):  # other ranks wait for this one at the start
            launcher.kill(15)
        raise
    except Exception as error:
        told = _as_training_error(error, resume, bool(counts))
        if told is error:
            raise
        raise told from error
    return bool(counts)


class _FirstStep(Callback):
    """Record that a step was done: errors after it are no mistakes of the config."""

    def __init__(self, counts: list[int]) -> None:
        self.counts = counts

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Count once."""
        if not self.counts:
            self.counts.append(trainer.global_step)


#: No space, over the quota, larger than a file may be.
_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: What Lightning calls float16 with scaled gradients.
_FLOAT16 = ("16-mixed", "16", 16)


def _trainer(
    options: dict[str, Any], settings: RunSettings, folder: Path, callbacks: list[Callback], loggers: Any
) -> pl.Trainer:
    """Lightning's trainer with the `trainer` block of a config."""
    options = dict(options)
    interval = options.get("val_check_interval", 1.0)
    if not interval:  # off
        options |= {"val_check_interval": 1.0, "limit_val_batches": 0}
    elif isinstance(interval, int):  # Lightning refuses an interval beyond the last step
        options["val_check_interval"] = min(interval, options["max_steps"])
    shown = [] if options.get("enable_progress_bar") is False else [progress_of_run()]
    return _lightning(
        **options | {"strategy": _strategy(options)},
        default_root_dir=folder,
        callbacks=[*callbacks, *shown],
        plugins=[AtomicCheckpointIO()],
        logger=loggers,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=settings.log_every or 0,
        use_distributed_sampler=False,
    )


def _lightning(**options: Any) -> pl.Trainer:
    """Lightning's trainer.

    Raises:
        ConfigError: Lightning refuses the options, for example devices that do not exist.
    """
    try:
        return pl.Trainer(**options)
    except (MisconfigurationException, ValueError, RuntimeError, TypeError) as error:
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from None


def _probe(options: dict[str, Any]) -> pl.Trainer:
    """A trainer on the config's devices.

    Raises:
        ConfigError: a device does not exist, or does not support the config's precision.
    """
    keys = ("accelerator", "devices", "num_nodes", "precision", "strategy")
    asked = {key: options[key] for key in keys if key in options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning warns when it changes the precision, which is refused below
        probe = _lightning(**asked, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    device, precision = probe.strategy.root_device.type, asked.get("precision")
    if precision in _FLOAT16 and device == "cpu":
        raise ConfigError(f"trainer.precision: got {precision!r} on a CPU, expected 32-true or bf16-mixed there")
    if precision in ("64-true", "64", 64) and device == "mps":
        raise ConfigError(f"trainer.precision: got {precision!r} on an Apple GPU, which has no float64")
    return probe


def _strategy(options: dict[str, Any]) -> str:
    """The config's strategy. DDP is set to accept weights without a gradient, as in the warm-up."""
    requested, probe = str(options.get("strategy", "auto")), _probe(options)
    ours = requested in ("auto", "ddp") and isinstance(probe.strategy, pl.strategies.DDPStrategy)
    return "ddp_find_unused_parameters_true" if ours else requested


def _as_training_error(error: Exception, resume: Path | None, stepped: bool) -> Exception:
    """A user's mistake as a `TrainingError`. Any other error is returned as it is."""
    reason = str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return TrainingError(
            f"{reason.splitlines()[0]}; lower data.params.batch_size, or raise model.params.accumulation"
        )
    if "state_dict" in reason and resume is not None:
        return TrainingError(f"{resume}: the checkpoint does not fit this config: {' '.join(reason.split())[:300]}")
    if reason.startswith("Caught "):  # a loader process sends its whole traceback
        last = reason.strip().splitlines()[-1]
        known = re.fullmatch(r"([\w.]+): (.*)", last)
        if known and (known[1].endswith(BrokenFileError.__name__) or known[1] in ("ValueError", "OSError")):
            return TrainingError(known[2])
        reason = last
    if isinstance(error, ValueError | BrokenFileError) or stepped:
        return error
    if resume is not None and isinstance(error, KeyError | TypeError | AttributeError):
        return TrainingError(f"{resume}: the checkpoint could not be restored ({type(error).__name__}: {reason[:300]})")
    return TrainingError(
        f"the first step failed ({type(error).__name__}: {' '.join(reason.split())[:400]}); "
        "do the model, its weights and its data fit each other?"
    )


def _report_broken(data: DataModule) -> None:
    """Print which images were left out."""
    broken = getattr(data.train, "broken", [])
    if broken:
        say(f"skipped {len(broken)} broken images: {', '.join(broken[:5])}{' ...' if len(broken) > 5 else ''}")


def _config_of(checkpoint: Path, folder: Path) -> Path:
    """The config of a checkpoint: in the folder of its run, or in the folder of the resumed run."""
    beside = checkpoint.resolve().parent.parent / "config.yaml"
    return beside if beside.is_file() else folder / "config.yaml"


def report_differences(saved: Path, config: DictConfig) -> None:
    """Print which keys of a resumed run differ from its saved config."""
    if not saved.is_file():
        return
    try:
        before = _flat(resolve(load_config([saved])))
    except ConfigError as error:
        say(f"resume: {saved} cannot be compared with this config ({error})")
        return
    after = _flat(resolve(config))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            say(f"resume: {key} was {before.get(key)!r}, is now {after.get(key)!r}")


def _flat(node: Any, path: str = "") -> dict[str, Any]:
    if isinstance(node, dict):
        return {k: v for key, value in node.items() for k, v in _flat(value, f"{path}.{key}".lstrip(".")).items()}
    return {path: node}


def _loggers(folder: Path, settings: RunSettings) -> list[Any]:
    """CSV and TensorBoard always, Weights & Biases on request: offline unless WANDB_API_KEY is set."""
    loggers: list[Any] = [
        ResumableCSVLogger(folder / TABLE),
        pl.loggers.TensorBoardLogger(str(folder), name="", version="tensorboard"),
    ]
    if settings.wandb:
        offline = "WANDB_API_KEY" not in os.environ
        try:
            loggers.append(pl.loggers.WandbLogger(project=settings.wandb, save_dir=str(folder), offline=offline))
        except ModuleNotFoundError:
            raise ConfigError(f"run.wandb: wandb is not installed; {how_to_install('wandb')}") from None
    return loggers


def _silence_lightning_advice() -> None:
    """Hide Lightning's advice on deliberate choices: frozen parts, our own data order, few workers."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for advice in (
        ".*does not have many workers.*",
        ".*exists and is not empty.*",
        ".*module\\(s\\) in eval mode.*",
        ".*ended before the epoch ended.*",
        ".*infer the `batch_size`.*",
        ".*smaller than the logging interval.*",
        ".*treespec, LeafSpec.*",
        ".*IterableDataset.*",
        ".*find_unused_parameters=True was specified.*",
    ):
        warnings.filterwarnings("ignore", advice)
