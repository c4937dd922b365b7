"""One training run from a config: build, resume, train, validate, export."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from midms.config import ConfigError, check, instantiate, load_config, resolve, to_yaml
from midms.data.module import DataModule
from midms.io.files import BrokenFileError
from midms.programs import say
from midms.training.callbacks import PictureLogger, ResumableCSVLogger, RunProgressBar, ThroughputMonitor
from midms.training.checkpoints import AtomicCheckpointIO, Checkpoints, StopOnSignal, last_checkpoint
from midms.training.errors import TrainingError
from midms.training.export import ExportWeights
from midms.training.stage import Stage

#: What a user can mend; every program prints it as one line.
USER_ERRORS = (ConfigError, TrainingError, FileNotFoundError, BrokenFileError)


def run(options: argparse.Namespace) -> dict[str, float]:
    """What `main.py` does with its command line."""
    config = load_config(options.base, options.overrides)
    check(config)
    if options.dry_run:
        print(to_yaml(config), end="")
        return {}
    resume = last_checkpoint(Path(options.resume)) if options.resume else None
    folder = Path(options.run) if options.run else _default_folder(config, options.resume)
    return train(config, folder, resume, fit=options.train)


def _default_folder(config: DictConfig, resume: str | None) -> Path:
    if resume and Path(resume).is_dir():
        return Path(resume)
    settings = config.get("run", {})
    return Path(settings.get("root", "runs")) / settings.get("name", "midms")


def train(config: DictConfig, folder: Path, resume: Path | None = None, fit: bool = True) -> dict[str, float]:
    """Train (or only validate) and return the last metrics.

    Args:
        config: a checked training config.
        folder: gets config.yaml, metrics.csv, checkpoints/, pictures/, and weights/ at the end.
        resume: checkpoint to continue from.
        fit: False runs the validation set once.
    Raises:
        TrainingError: the checkpoint belongs to another config or does not fit, the disk is full, a data file is
            broken, or the loss stayed no finite number.
        Interrupted: a signal came; the state is saved.
    """
    _silence_lightning_advice()
    resolved = resolve(config)
    settings = resolved.get("run") or {}
    pl.seed_everything(int(settings.get("seed", 0)), workers=True, verbose=False)
    if int(resolved["trainer"].get("max_steps", -1)) < 1:
        raise ConfigError("trainer.max_steps: expected a positive number, for training is counted in steps")
    data, module = instantiate(config.data), instantiate(config.model)
    module.max_bad_losses = int(settings.get("max_bad_losses", 5))
    if getattr(rank_zero_only, "rank", 0) == 0:
        if resume is not None:
            report_differences(_config_of(resume, folder), config)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(to_yaml(config))
    trainer = _trainer(resolved["trainer"], settings, folder, _callbacks(folder, settings, module))
    try:
        action = trainer.fit if fit else trainer.validate
        action(module, datamodule=data, ckpt_path=None if resume is None else str(resume), weights_only=False)
    except SystemExit:  # Lightning's answer to Ctrl-C outside the training itself
        raise KeyboardInterrupt from None
    except OSError as error:
        if error.errno not in _DISK_FULL_ERRNOS:
            raise
        raise TrainingError(f"{error.filename or folder}: could not be written ({error.strerror})") from error
    except RuntimeError as error:
        raise _as_training_error(error, resume) from None
    _report_broken(data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


#: No space, over the quota, larger than a file may be.
_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _trainer(options: dict[str, Any], settings: dict[str, Any], folder: Path, callbacks: list[Callback]) -> pl.Trainer:
    """Lightning's trainer with the `trainer` block of a config."""
    interval = options.get("val_check_interval")
    if isinstance(interval, int):  # Lightning refuses an interval beyond the last step
        options["val_check_interval"] = min(interval, int(options["max_steps"]))
    return pl.Trainer(
        **options | {"strategy": _strategy(options)},
        default_root_dir=folder,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=_loggers(folder, settings),
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=int(settings.get("log_every", 20)),
        use_distributed_sampler=False,
    )


def _strategy(options: dict[str, Any]) -> str:
    """The strategy asked for; DDP in the form that bears weights without a gradient, as in the warm-up."""
    requested = str(options.get("strategy", "auto"))
    if requested not in ("auto", "ddp"):
        return requested
    hardware = {key: options[key] for key in ("accelerator", "devices", "num_nodes") if key in options}
    probe = pl.Trainer(**hardware, strategy=requested, logger=False, enable_checkpointing=False)
    return "ddp_find_unused_parameters_true" if isinstance(probe.strategy, pl.strategies.DDPStrategy) else requested


def _callbacks(folder: Path, settings: dict[str, Any], module: Stage) -> list[Callback]:
    """What happens around a step; a checkpoint is written before anything else looks at the step."""
    checkpoints = Checkpoints(
        folder / "checkpoints", int(settings.get("checkpoint_every", 1000)), int(settings.get("keep", 2))
    )
    callbacks: list[Callback] = [checkpoints, ThroughputMonitor(), RunProgressBar()]
    callbacks.append(PictureLogger(folder / "pictures", int(settings.get("picture_every", 500))))
    if settings.get("export", True):
        callbacks.append(
            ExportWeights(
                folder / "weights", {"name": str(settings.get("name", "midms")), "stage": type(module).__name__}
            )
        )
    return [*callbacks, StopOnSignal(checkpoints)]


def _as_training_error(error: RuntimeError, resume: Path | None) -> RuntimeError:
    """An error that a user can mend as a `TrainingError`; any other as it is."""
    reason = str(error)
    if "state_dict" in reason:
        return TrainingError(f"{resume}: the checkpoint does not fit this config: {' '.join(reason.split())[:300]}")
    if BrokenFileError.__name__ in reason:  # a loader process sends its whole traceback
        return TrainingError(reason.strip().rpartition(f"{BrokenFileError.__name__}: ")[2])
    return error


def _report_broken(data: DataModule) -> None:
    """Say which images were left out."""
    broken = getattr(data.train, "broken", [])
    if broken:
        say(f"left out {len(broken)} broken images: {', '.join(broken[:5])}{' ...' if len(broken) > 5 else ''}")


def _config_of(checkpoint: Path, folder: Path) -> Path:
    """The config a checkpoint was made with: beside its run, or in the folder that goes on."""
    beside = checkpoint.resolve().parent.parent / "config.yaml"
    return beside if beside.is_file() else folder / "config.yaml"


def report_differences(saved: Path, config: DictConfig) -> None:
    """Say which keys of a resumed run differ from those it was started with."""
    if not saved.is_file():
        return
    before, after = _flat(resolve(load_config([saved]))), _flat(resolve(config))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            say(f"resume: {key} was {before.get(key)!r}, is now {after.get(key)!r}")


def _flat(node: Any, path: str = "") -> dict[str, Any]:
    if isinstance(node, dict):
        return {k: v for key, value in node.items() for k, v in _flat(value, f"{path}.{key}".lstrip(".")).items()}
    return {path: node}


def _loggers(folder: Path, settings: dict[str, Any]) -> list[Any]:
    """CSV always, TensorBoard too, Weights & Biases on request: offline unless it is told who logs in."""
    loggers: list[Any] = [
        ResumableCSVLogger(folder / "metrics.csv"),
        pl.loggers.TensorBoardLogger(str(folder), name="", version="tensorboard"),
    ]
    if settings.get("wandb"):
        offline = "WANDB_API_KEY" not in os.environ
        try:
            loggers.append(
                pl.loggers.WandbLogger(project=str(settings["wandb"]), save_dir=str(folder), offline=offline)
            )
        except ModuleNotFoundError:
            raise ConfigError("run.wandb: wandb is not installed; pip install 'midms[wandb]'") from None
    return loggers


def _silence_lightning_advice() -> None:
    """Hide Lightning's advice on what is meant here: frozen parts, a data order of our own, few workers."""
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
