"""Train the rows of Tables 3 and 5: one config each, merged over that of the full method."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from omegaconf import DictConfig

from midms.checkpoints.loading import open_weights
from midms.config import ConfigError, check, load_config, to_yaml
from tables.sampling import fingerprint

#: Share of the warm-up in a shortened training; the losses of images and noise are used after the warm-up.
WARMUP_SHARE = 0.75


def ablation_config(
    bases: Sequence[Path], ablation: Path, steps: int | None, overrides: Sequence[str] = ()
) -> DictConfig:
    """The config of one row.

    Args:
        bases: configs of the full method, merged left to right. ablation: config of the difference.
        steps: number of steps of a shortened training, at most three quarters of them warm-up. None: the configs'
            lengths.
        overrides: "key.path=value", such as the weights to start from.
    Raises:
        ConfigError: a file is missing, or a key is unused.
    """
    config = load_config([*bases, ablation], overrides)
    if steps is not None:
        own = int(config.model.params.get("warmup_steps", 0))  # a training that continues another may have none
        all_warming = own >= int(config.trainer.max_steps)
        warming = steps if all_warming else min(own, round(steps * WARMUP_SHARE))
        short = {
            "model": {"params": {"warmup_steps": warming}},
            "trainer": {"max_steps": steps, "val_check_interval": steps},
            "run": {"checkpoint_every": steps, "picture_every": steps},
        }
        config.merge_with(short)
    check(config)
    return config


def start_weights(config: DictConfig) -> dict[str, str]:
    """SHA-256 of the weights from which a training starts, by key of `model.params`.

    Raises:
        ConfigError: no such weights.
    """
    params = config.model.params
    names = {key: str(params[key]) for key in ("weights", "encoders_from") if params.get(key)}
    digests = {}
    for key, name in names.items():
        states = open_weights(name).states.items()
        digests[key] = fingerprint({f"{part}.{k}": value for part, state in states for k, value in state.items()})
    return digests


def run_folder(root: Path, name: str, config: DictConfig) -> Path:
    """root/name-digest, with a digest of the whole config and of the weights from which the training starts."""
    recipe = to_yaml(config) + json.dumps(start_weights(config))
    return root / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def trained_weights(root: Path, name: str, config: DictConfig, train: bool) -> Path:
    """The weights of one row, trained if necessary.

    Args:
        root: folder of runs. name: of the row's config.
        train: train missing weights.
    Raises:
        ConfigError: the weights are missing and `train` is False.
    """
    folder = run_folder(root, name, config)
    weights = folder / "weights"
    if (weights / "config.json").is_file():
        return weights
    if not train:
        raise ConfigError(f"this table compares trainings, and {weights} is not there; give --train to make it")
    from midms.training.run import train as run_training

    print(f"training {name}: {config.trainer.max_steps} steps into {folder}", file=sys.stderr, flush=True)
    with redirect_stdout(sys.stderr):  # Lightning's progress bar; standard output is for the tables
        run_training(config, folder)
    return weights
