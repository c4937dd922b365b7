"""Train the rows of Tables 3 and 5: one config each, laid over the full method's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from midms.config import ConfigError, check, load_config, to_yaml

#: Share of a shortened training that warms the correspondence up; the losses of images and noise act in the rest.
WARMUP_SHARE = 0.75


def ablation_config(base: Path, ablation: Path, steps: int | None, overrides: Sequence[str] = ()) -> DictConfig:
    """The config of one row.

    Args:
        base: of the full method. ablation: what differs.
        steps: shorten the training to so many steps, three quarters of them warm-up; None keeps the base's lengths.
        overrides: "key.path=value", such as the weights to start from.
    Raises:
        ConfigError: a file is missing, or a key has no reader.
    """
    config = load_config([base, ablation], overrides)
    if steps is not None:
        warming = round(steps * WARMUP_SHARE)
        if int(config.model.params.get("warmup_steps", 0)) >= int(config.trainer.max_steps):
            warming = steps  # an ablation that is all warm-up stays so
        short = {
            "model": {"params": {"warmup_steps": warming}},
            "trainer": {"max_steps": steps, "val_check_interval": steps},
            "run": {"checkpoint_every": steps, "picture_every": steps},
        }
        config = OmegaConf.merge(config, short)  # type: ignore[assignment]
    check(config)
    return config


def run_folder(root: Path, name: str, config: DictConfig) -> Path:
    """root/name-digest, the digest being that of the whole config."""
    return root / f"{name}-{hashlib.sha256(to_yaml(config).encode()).hexdigest()[:12]}"


def trained_weights(root: Path, name: str, config: DictConfig, train: bool) -> Path:
    """The weights of one row, trained if need be.

    Args:
        root: folder of runs. name: of the row's config.
        train: make what is missing.
    Raises:
        ConfigError: they are missing and `train` is off.
    """
    folder = run_folder(root, name, config)
    weights = folder / "weights"
    if (weights / "config.json").is_file():
        return weights
    if not train:
        raise ConfigError(f"this table compares trainings, and {weights} is not there; give --train to make it")
    from midms.training.run import train as run_training  # noqa: PLC0415 - Lightning takes seconds to import

    print(f"training {name}: {config.trainer.max_steps} steps into {folder}", flush=True)
    run_training(config, folder)
    return weights
