"""Load models from a folder of weights, or from the weights that the package ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from midms.checkpoints.folder import LoadedFolder, find_folder, load_folder
from midms.config import ConfigError
from midms.io.provenance import SHIPPED, shipped_names
from midms.models.denoiser import Denoiser
from midms.models.encoders import CorrespondenceEncoders
from midms.models.first_stage import FirstStage
from midms.models.matcher import Matcher
from midms.models.midms import MIDMs
from midms.models.numerics import weights_to_come
from midms.models.translation_gan import Generator, MatchingGAN


def open_weights(name_or_path: str | Path) -> LoadedFolder:
    """Read a folder of weights, in float32 whatever the precision of its files.

    Args:
        name_or_path: a folder, a shipped name such as "demo", or a repository of the Hugging Face hub.
    Raises:
        ConfigError: no weights have that name.
    """
    shipped = str(name_or_path) in shipped_names()
    try:
        folder = SHIPPED / str(name_or_path) if shipped else find_folder(name_or_path)
        return load_folder(folder, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise ConfigError(f"weights {str(name_or_path)!r}: {error} (shipped: {', '.join(shipped_names())})") from None


def load_first_stage(name_or_path: str | Path) -> FirstStage:
    """The frozen first stage of a folder of weights."""
    loaded = open_weights(name_or_path)
    stage = FirstStage(_config(loaded, "first_stage", name_or_path))
    return _fill(stage, stage.model, loaded, "first_stage", name_or_path).requires_grad_(False).eval()


def load_denoiser(name_or_path: str | Path, component: str = "denoiser") -> Denoiser:
    """A U-Net of a folder of weights: "denoiser", or "refiner" for the U-Net before fine-tuning."""
    loaded = open_weights(name_or_path)
    denoiser = Denoiser(_config(loaded, component, name_or_path))
    return _fill(denoiser, denoiser.unet, loaded, component, name_or_path)


def load_pretrained(name_or_path: str | Path) -> Denoiser:
    """The latent diffusion model that MIDMs starts from: the "refiner" of MIDMs weights, else the "denoiser"."""
    component = "refiner" if "refiner" in open_weights(name_or_path).configs else "denoiser"
    return load_denoiser(name_or_path, component)


def copy_weights(target: FirstStage | Denoiser, source: FirstStage | Denoiser, name: str | Path) -> None:
    """Copy the weights of `source`, read from `name`, into `target`.

    Raises:
        ConfigError: their configs differ.
    """
    differing = sorted(key for key in target.config if target.config[key] != source.config.get(key))
    if differing:
        target_values, source_values = ({key: c.get(key) for key in differing} for c in (target.config, source.config))
        raise ConfigError(
            f"start_from {str(name)!r}: its config says {source_values}, this one {target_values}; make them equal"
        )
    target.load_state_dict(source.state_dict())


def load_encoders(name_or_path: str | Path) -> CorrespondenceEncoders:
    """The correspondence encoders of a folder of weights."""
    loaded = open_weights(name_or_path)
    encoders = CorrespondenceEncoders(**_config(loaded, "encoders", name_or_path))
    return _fill(encoders, encoders, loaded, "encoders", name_or_path)


def build_model(loaded: LoadedFolder, source: str | Path) -> Matcher:
    """The whole model of a folder: `MatchingGAN` if the folder has a generator, else `MIDMs`.

    Args:
        loaded: content of the folder.
        source: name of the folder, for errors.
    Raises:
        ConfigError: a component is missing or does not fit its config.
    """
    configs, info = loaded.configs, loaded.info
    last = "generator" if "generator" in configs else "denoiser"
    needed = ("first_stage", "encoders", last)
    missing = [name for name in needed if name not in configs]
    if missing:
        raise ConfigError(f"weights {str(source)!r}: no {', '.join(missing)}; a pipeline needs {needed}")
    temperature = info.get("temperature", 0.005)
    with weights_to_come():
        stage, encoders = FirstStage(configs["first_stage"]), CorrespondenceEncoders(**configs["encoders"])
        generator = Generator(configs["generator"]) if last == "generator" else None
        denoiser = Denoiser(configs["denoiser"]) if last == "denoiser" else None
        refiner = Denoiser(configs["refiner"]) if "refiner" in configs and denoiser is not None else None
    parts: dict[str, nn.Module | None] = {
        "first_stage": stage.model,
        "encoders": encoders,
        "generator": generator,
        "denoiser": None if denoiser is None else denoiser.unet,
        "refiner": None if refiner is None else refiner.unet,
    }
    for name, module in parts.items():
        if module is not None:
            _fill(None, module, loaded, name, source, assign=True)
    if generator is not None:
        return MatchingGAN(stage, encoders, generator, temperature)
    assert denoiser is not None
    return MIDMs(stage, encoders, denoiser, refiner, info.get("schedule"), temperature)


def _config(loaded: LoadedFolder, component: str, source: str | Path) -> dict[str, Any]:
    if component not in loaded.configs:
        raise ConfigError(f"weights {str(source)!r} hold no {component} (only {', '.join(loaded.configs)})")
    return loaded.configs[component]


def _fill(
    whole: Any, module: nn.Module, loaded: LoadedFolder, component: str, source: str | Path, assign: bool = False
) -> Any:
    try:
        module.load_state_dict(loaded.states[component], assign=assign)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"weights {str(source)!r}, {component}: {reason}") from None
    return whole
