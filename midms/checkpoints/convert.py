"""Recognise a published file by its keys and convert it to our format, or a folder of ours to a released file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from midms.checkpoints.conversion import Conversion, convert_first_stage, convert_ldm, convert_vgg
from midms.checkpoints.diffusers_folder import convert_diffusers
from midms.checkpoints.errors import CheckpointError, summarise_keys
from midms.checkpoints.folder import load_folder, save_states
from midms.checkpoints.ldm_config import read_ldm_yaml
from midms.checkpoints.reading import read_tensors
from midms.checkpoints.released import convert_released, to_released
from midms.io.files import atomic_write, sha256_of

KINDS = {
    "released": "released MIDMs model",
    "ldm": "latent diffusion model",
    "first_stage": "first stage",
    "vgg": "VGG-19 of CoCosNet",
    "diffusers": "diffusers folder",
}


def recognise(state: Mapping[str, Tensor], source: object) -> str:
    """Which of `KINDS` a state dict is.

    Raises:
        CheckpointError: the state dict is of none of these kinds.
    """
    keys = set(state)
    if any(key.startswith("seg_enc.") for key in keys):
        return "released"
    if any(key.startswith("model.diffusion_model.") for key in keys):
        return "ldm"
    if {"encoder.conv_in.weight", "post_quant_conv.weight"} <= keys:
        return "first_stage"
    if "conv1_1.weight" in keys:
        return "vgg"
    raise CheckpointError(
        source, f"none of the known layouts ({', '.join(KINDS.values())}); its keys are {summarise_keys(keys)}"
    )


def convert(source: Path, config: Path | None = None, ema: bool = False) -> Conversion:
    """Convert a published file or diffusers folder without writing anything.

    Args:
        source: `.ckpt`, `.pth`, `.pt`, `.bin`, `.safetensors`, or a folder with `model_index.json`.
        config: the YAML that was published with the weights, read as data.
        ema: for LDM, use the averaged U-Net. For released MIDMs, add the averaged U-Net from before fine-tuning as
            "refiner".

    Raises:
        CheckpointError: the weights cannot be used. The message is one line.
    """
    params = None if config is None else read_ldm_yaml(config)
    if source.is_dir():
        kind, result = "diffusers", convert_diffusers(source)
    else:
        state = read_tensors(source)
        kind = recognise(state, source)
        if kind == "released":
            result = convert_released(state, source, params, ema=ema)
        elif kind == "ldm":
            result = convert_ldm(state, source, params, ema)
        elif kind == "first_stage":
            result = convert_first_stage(state, source, params)
        else:
            result = convert_vgg(state, source)
    if ema and kind not in ("released", "ldm"):
        raise CheckpointError(source, f"a {KINDS[kind]} has no averaged U-Net weights (--ema)")
    result.info["converted_from"] = {"kind": KINDS[kind], "name": source.name}
    if source.is_file():
        result.info["converted_from"]["sha256"] = sha256_of(source)
    return result


def convert_to_folder(source: Path, target: Path, config: Path | None = None, ema: bool = False) -> Conversion:
    """Convert `source` as `convert` does, and write our format to `target`."""
    result = convert(source, config, ema)
    save_states(target, result.states, result.configs, result.info)
    return result


def convert_to_released(source: Path, target: Path) -> list[str]:
    """Write one of our folders as a file that the released code (MIDMs or LDM) reads. Returns the file's keys.

    Raises:
        CheckpointError: `source` is no folder of ours, or `target` exists.
    """
    if target.exists() or target.is_symlink():
        raise CheckpointError(target, "exists already; choose another name")
    loaded = load_folder(source)
    state = to_released(loaded.states, loaded.configs, source)
    with atomic_write(target) as temporary:
        torch.save({"state_dict": state}, temporary)
    return list(state)
