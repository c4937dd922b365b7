"""Convert the released MIDMs code's file (`midms_celebA_finetuned.pth`) to our components and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from midms.checkpoints.conversion import (
    Conversion,
    ModelParams,
    StateDict,
    check_no_unknown_keys,
    convert_entries,
    convert_ldm,
    strip_prefix,
)
from midms.checkpoints.errors import CheckpointError, as_checkpoint_error, summarise_keys
from midms.checkpoints.ldm import (
    EMA_PREFIX,
    FIRST_STAGE_PREFIX,
    UNET_PREFIX,
    diffusers_to_ldm,
    first_stage_table,
    select_ema,
    unet_table,
)
from midms.checkpoints.reading import clean_tensors
from midms.diffusion.settings import InterleaveSettings
from midms.models.encoders import CorrespondenceEncoders

ENCODER_PREFIXES = ("seg_enc.", "real_enc.", "iter_enc.", "layer.", "theta.", "phi.")
LDM_PREFIX = "diff_model."
SAMPLER_PREFIX = "diffusion_sampler."
RELEASED_FORM = {"form": "released", "condition_input": "nearest", "padding_mode": "zeros", "spectral_norm": True}
# The released correlation divides unit vectors by their norm + 1e-5 again, which equals a slightly higher temperature.
RELEASED_TEMPERATURE = 0.005 * (1 + 1e-5) ** 2


def infer_encoders_config(state: Mapping[str, Tensor], source: object) -> dict[str, Any]:
    """Arguments of `CorrespondenceEncoders` from the shapes of a released state dict.

    Raises:
        CheckpointError: a key whose shape gives a size is missing.
    """
    with as_checkpoint_error(source, "the encoders' sizes"):
        widths: list[int] = []
        while f"seg_enc.layer{len(widths) + 1}.0.weight_orig" in state:
            widths.append(state[f"seg_enc.layer{len(widths) + 1}.0.weight_orig"].shape[0])
        return {
            "latent_channels": state["real_enc.layer1.0.weight_orig"].shape[1],
            "condition_channels": state["seg_enc.layer1.0.weight_orig"].shape[1],
            "widths": widths,
            "out_channels": state["theta.weight"].shape[0],
            "hidden": state["seg_enc.G_middle_1.norm_0.mlp_gamma.weight"].shape[1],
            **RELEASED_FORM,
        }


def convert_released(
    state: StateDict, source: object, params: ModelParams = None, *, ema: bool = False, check_values: bool = True
) -> Conversion:
    """Convert a released MIDMs state dict: encoders with matching head, fine-tuned U-Net, first stage.

    The file also holds averaged weights of the U-Net *before* fine-tuning. With `ema` they become the component
    "refiner", the latent diffusion model that the paper refines with.

    Args:
        state: the `state_dict` of the file.
        source: name of the file in errors.
        params: `model.params` of the latent diffusion model's YAML. None: the settings are inferred from the shapes.
        ema: add the component "refiner".
        check_values: refuse NaN and infinite values.

    Raises:
        CheckpointError: a tensor is missing, superfluous, of another shape, or not finite.
    """
    latent_diffusion = strip_prefix(state, LDM_PREFIX)
    result = convert_ldm(latent_diffusion, source, params, check_values=check_values)
    result.ignored = {reason: [LDM_PREFIX + key for key in keys] for reason, keys in result.ignored.items()}
    encoders = {key: value for key, value in state.items() if key.startswith(ENCODER_PREFIXES)}
    config = infer_encoders_config(encoders, source)
    _check_encoders(encoders, config, source)
    result.add("encoders", clean_tensors(encoders, source) if check_values else encoders, config)
    if ema:
        unet = result.configs["denoiser"]
        entries = unet_table(unet)
        averaged = select_ema(strip_prefix(latent_diffusion, EMA_PREFIX), entries, source)
        refiner = convert_entries(entries, averaged, source, f"{LDM_PREFIX}{EMA_PREFIX}", check_values)
        result.add("refiner", refiner, unet)
    result.info |= {"temperature": RELEASED_TEMPERATURE, "settings": asdict(InterleaveSettings.released())}
    sampler = [key for key in state if key.startswith(SAMPLER_PREFIX)]
    result.ignore([key for key in sampler if key.startswith(f"{SAMPLER_PREFIX}model.")], f"duplicates of {LDM_PREFIX}*")
    result.ignore(
        [key for key in sampler if not key.startswith(f"{SAMPLER_PREFIX}model.")], "sampler tables, recomputed"
    )
    known = [*encoders, *sampler, *(key for key in state if key.startswith(LDM_PREFIX))]
    check_no_unknown_keys(state, known, source)
    return result


def _check_encoders(state: Mapping[str, Tensor], config: Mapping[str, Any], source: object) -> None:
    with as_checkpoint_error(source, "the encoders' sizes"), torch.device("meta"):
        expected = CorrespondenceEncoders(**config).state_dict()
    missing, unexpected = set(expected) - set(state), set(state) - set(expected)
    if missing:
        raise CheckpointError(source, f"{len(missing)} key(s) missing: {summarise_keys(missing)}")
    if unexpected:
        raise CheckpointError(source, f"{len(unexpected)} unexpected key(s): {summarise_keys(unexpected)}")
    for key, value in expected.items():
        if state[key].shape != value.shape:
            problem = f"{key} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}"
            raise CheckpointError(source, problem)


def to_released(
    states: Mapping[str, Mapping[str, Tensor]], configs: Mapping[str, Mapping[str, Any]], source: object
) -> dict[str, Tensor]:
    """Convert our components to the released names.

    With encoders the result is a MIDMs state dict (`seg_enc.*`, `diff_model.*`), without them an LDM state dict
    (`model.diffusion_model.*`, `first_stage_model.*`). The duplicates, averaged weights and schedule tables of released
    files are left out, because both releases load non-strictly.

    Raises:
        CheckpointError: there is no denoiser, the encoders are not of the released form, or keys do not fit.
    """
    if "denoiser" not in states or "first_stage" not in states:
        raise CheckpointError(source, f"holds {', '.join(states) or 'nothing'}, expected denoiser and first_stage")
    for name in ("denoiser", "first_stage"):
        if configs[name].get("norm_groups", 32) != 32:
            raise CheckpointError(
                source, f"{name} has {configs[name]['norm_groups']} norm groups, the release knows 32"
            )
    prefix = LDM_PREFIX if "encoders" in states else ""
    unet = diffusers_to_ldm(unet_table(configs["denoiser"]), states["denoiser"], source)
    config = dict(configs["first_stage"])
    first = diffusers_to_ldm(first_stage_table(config), states["first_stage"], source)
    result = {f"{prefix}{UNET_PREFIX}{key}": value for key, value in unet.items()}
    result |= {f"{prefix}{FIRST_STAGE_PREFIX}{key}": value for key, value in first.items()}
    if config.get("scale_factor", 1.0) != 1.0:
        result[f"{prefix}scale_factor"] = torch.tensor(config["scale_factor"])
    if "encoders" in states:
        for key, value in RELEASED_FORM.items():
            if configs["encoders"].get(key, value) != value:
                problem = f"encoders with {key} {configs['encoders'][key]!r}; the released code has {value!r} only"
                raise CheckpointError(source, problem)
        _check_encoders(states["encoders"], configs["encoders"], source)
        result |= dict(states["encoders"])
    return result
