"""One training run from a config: build, resume, train, validate, export."""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig

from midms.config import ConfigError, check, instantiate, load_config, resolve, to_yaml
from midms.training.callbacks import (
    Checkpoints,
    Export,
    LossGuard,
    Pictures,
    Progress,
    TrainingError,
    last_checkpoint,
)

#: What a user can mend; every program prints it as one line.
UserError = (ConfigError, TrainingError, FileNotFoundError)


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
        resume: checkpoint to go on from.
        fit: False runs the validation set once.
    Raises:
        TrainingError: the checkpoint belongs to another config or does not fit.
    """
    _quiet()
    settings = resolve(config).get("run") or {}
    pl.seed_everything(int(settings.get("seed", 0)), workers=True, verbose=False)
    if int(config.trainer.get("max_steps", -1)) < 1:
        raise ConfigError("trainer.max_steps: expected a positive number, for training is counted in steps")
    data, module = instantiate(config.data), instantiate(config.model)
    if resume is not None:
        report_differences(folder / "config.yaml", config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(to_yaml(config))
    callbacks = [
        Checkpoints(folder / "checkpoints", int(settings.get("checkpoint_every", 1000)), int(settings.get("keep", 2))),
        LossGuard(int(settings.get("max_bad_losses", 5))),
        Pictures(folder / "pictures", int(settings.get("picture_every", 500))),
        Progress(),
    ]
    if settings.get("export", True):
        callbacks.append(
            Export(folder / "weights", {"name": str(settings.get("name", "midms")), "stage": type(module).__name__})
        )
    options = resolve(config)["trainer"]
    interval = options.get("val_check_interval")
    if isinstance(interval, int):  # Lightning refuses an interval beyond the last step
        options["val_check_interval"] = min(interval, int(options["max_steps"]))
    trainer = pl.Trainer(
        **options,
        default_root_dir=folder,
        callbacks=callbacks,
        logger=_loggers(folder, settings),
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=int(settings.get("log_every", 20)),
        use_distributed_sampler=False,
    )
    try:
        action = trainer.fit if fit else trainer.validate
        action(module, datamodule=data, ckpt_path=None if resume is None else str(resume), weights_only=False)
    except RuntimeError as error:
        if "state_dict" not in str(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(f"{resume}: the checkpoint does not fit this config: {reason}") from None
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def report_differences(saved: Path, config: DictConfig) -> None:
    """Say which keys of a resumed run differ from those it was started with."""
    if not saved.is_file():
        return
    before, after = _flat(resolve(load_config([saved]))), _flat(resolve(config))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            print(f"resume: {key} was {before.get(key)!r}, is now {after.get(key)!r}")


def _flat(node: Any, path: str = "") -> dict[str, Any]:
    if isinstance(node, dict):
        return {k: v for key, value in node.items() for k, v in _flat(value, f"{path}.{key}".lstrip(".")).items()}
    return {path: node}


def _loggers(folder: Path, settings: dict[str, Any]) -> list[Any]:
    """CSV always, TensorBoard too, Weights & Biases on request (its own offline mode works)."""
    loggers: list[Any] = [
        pl.loggers.CSVLogger(folder, name="", version="", flush_logs_every_n_steps=20),
        pl.loggers.TensorBoardLogger(str(folder), name="", version="tensorboard"),
    ]
    if settings.get("wandb"):
        loggers.append(pl.loggers.WandbLogger(project=str(settings["wandb"]), save_dir=str(folder)))
    return loggers


def _quiet() -> None:
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
    ):
        warnings.filterwarnings("ignore", advice)
