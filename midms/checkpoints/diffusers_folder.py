"""Convert the folder of a diffusers latent diffusion pipeline, such as CompVis/ldm-celebahq-256, to our components."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from midms.checkpoints.conversion import Conversion
from midms.checkpoints.errors import CheckpointError, as_checkpoint_error, summarise_keys
from midms.checkpoints.ldm import Entry, diffusers_to_ldm, first_stage_table, ldm_to_diffusers, unet_table
from midms.checkpoints.ldm_config import check_betas
from midms.checkpoints.reading import clean_tensors, read_json, read_tensors
from midms.checkpoints.schema import validate

#: Parts of the names of weights files. The first file that exists is read, else the index of shards.
_STEM, _VARIANTS, _ENDINGS = "diffusion_pytorch_model", ("", ".fp16", ".non_ema"), (".safetensors", ".bin")
_FIRST_STAGES = {"vqvae": "vq", "vae": "kl"}
# Settings that our U-Net does not have, with the values of absent entries. (`norm_eps` is left out on purpose: the
# model was trained with 1e-5, whatever a config says.)
_FIXED_UNET = {
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "time_embedding_type": "positional",
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "mid_block_scale_factor": 1,
    "act_fn": "silu",
    "resnet_time_scale_shift": "default",
    "class_embed_type": None,
    "num_class_embeds": None,
    "add_attention": True,
    "mid_block_type": "UNetMidBlock2D",
}
_FIXED_FIRST_STAGE = {
    "act_fn": "silu",
    "norm_type": "group",
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
}
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def convert_diffusers(folder: Path) -> Conversion:
    """Convert U-Net, first stage and schedule of a diffusers folder.

    Raises:
        CheckpointError: a part is missing or damaged, or has a setting that the published models do not have.
    """
    if not (folder / "model_index.json").is_file():
        raise CheckpointError(folder, "neither a weights file nor a diffusers folder (no model_index.json there)")
    index = read_json(folder / "model_index.json")
    parts = [name for name in _FIRST_STAGES if name in index]
    if "unet" not in index or len(parts) != 1:
        raise CheckpointError(
            folder / "model_index.json", f"has {', '.join(index)}; expected unet and one of vqvae, vae"
        )
    result = Conversion()
    unet = unet_config_from_diffusers(read_json(folder / "unet" / "config.json"), folder / "unet" / "config.json")
    with as_checkpoint_error(folder / "unet" / "config.json", "the config"):
        entries = unet_table(unet)
    result.add("denoiser", _checked(entries, folder / "unet"), unet)
    part = folder / parts[0]
    config = read_json(part / "config.json")
    first_stage = first_stage_config_from_diffusers(config, _FIRST_STAGES[parts[0]], part / "config.json")
    with as_checkpoint_error(part / "config.json", "the config"):
        entries = first_stage_table(first_stage)
    result.add("first_stage", _checked(entries, part), first_stage)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    if scheduler.exists():
        result.info["schedule"] = schedule_from_diffusers(read_json(scheduler), scheduler)
    return result


class SchedulerSettings(BaseModel):
    """Noise settings in the config of a diffusers scheduler. Defaults are those of diffusers' classes."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    beta_start: float = Field(1e-4, gt=0, lt=1)
    beta_end: float = Field(0.02, gt=0, lt=1)
    num_train_timesteps: int = Field(1000, ge=2, le=100_000)
    beta_schedule: Literal["scaled_linear"]  # required: diffusers' default differs
    prediction_type: Literal["epsilon"] = "epsilon"
    rescale_betas_zero_snr: Literal[False] = False
    trained_betas: list[float] | None = None


def schedule_from_diffusers(config: Mapping[str, Any], source: object) -> dict[str, float]:
    """Keywords of `linear_schedule` from the config of a diffusers scheduler.

    Raises:
        CheckpointError: another kind of schedule or prediction, rescaled betas, or listed betas that do not match.
    """
    settings = validate(SchedulerSettings, dict(config), source)
    keywords: dict[str, float] = {
        "start": settings.beta_start,
        "end": settings.beta_end,
        "num_train_timesteps": settings.num_train_timesteps,
    }
    if settings.trained_betas is not None:
        check_betas(torch.tensor(settings.trained_betas), keywords, source)
    return keywords


def unet_config_from_diffusers(config: Mapping[str, Any], source: object) -> dict[str, Any]:
    """Our U-Net config from the config of a `UNet2DModel`.

    Raises:
        CheckpointError: a setting or a type of block that the published models do not have.
    """
    for key, value in _FIXED_UNET.items():
        if config.get(key, value) != value:
            raise CheckpointError(source, f"{key} is {config[key]!r}, only {value!r} is supported")
    groups = config.get("attn_norm_num_groups")
    if groups not in (None, config.get("norm_num_groups", 32)):
        raise CheckpointError(source, f"attn_norm_num_groups is {groups!r} and differs from norm_num_groups")
    with as_checkpoint_error(source, "the config"):
        widths, down = config["block_out_channels"], config["down_block_types"]
        attention = [2**level for level, kind in enumerate(down) if kind == "AttnDownBlock2D"]
        expected_up = ["AttnUpBlock2D" if kind == "AttnDownBlock2D" else "UpBlock2D" for kind in reversed(down)]
        if set(down) - {"DownBlock2D", "AttnDownBlock2D"} or list(config["up_block_types"]) != expected_up:
            problem = f"blocks {down} and {config['up_block_types']}; only plain and Attn blocks are supported"
            raise CheckpointError(source, problem)
        return {
            "in_channels": config["in_channels"],
            "out_channels": config["out_channels"],
            "model_channels": widths[0],
            "channel_mult": [width // widths[0] for width in widths],
            "num_res_blocks": config["layers_per_block"],
            "attention_resolutions": attention,
            "num_head_channels": config["attention_head_dim"],
            "norm_groups": config.get("norm_num_groups", 32),
        }


def first_stage_config_from_diffusers(config: Mapping[str, Any], kind: str, source: object) -> dict[str, Any]:
    """Our first-stage config from the config of a `VQModel` or `AutoencoderKL`.

    Raises:
        CheckpointError: a setting or a type of block that the published models do not have.
    """
    for key, value in _FIXED_FIRST_STAGE.items():
        if config.get(key, value) != value:
            raise CheckpointError(source, f"{key} is {config[key]!r}, only {value!r} is supported")
    blocks = set(config.get("down_block_types", ())) | set(config.get("up_block_types", ()))
    if blocks - {"DownEncoderBlock2D", "UpDecoderBlock2D"}:
        raise CheckpointError(source, f"blocks {', '.join(sorted(map(str, blocks)))}; only plain ones are supported")
    with as_checkpoint_error(source, "the config"):
        widths, latent = config["block_out_channels"], config["latent_channels"]
        result = {
            "kind": kind,
            "in_channels": config["in_channels"],
            "out_ch": config["out_channels"],
            "ch": widths[0],
            "ch_mult": [width // widths[0] for width in widths],
            "num_res_blocks": config["layers_per_block"],
            "z_channels": latent,
            "norm_groups": config.get("norm_num_groups", 32),
            "mid_attention": config.get("mid_block_add_attention", True),
        }
        if kind == "kl":
            return {**result, "scale_factor": config.get("scaling_factor", 1.0)}
        return {**result, "embed_dim": config.get("vq_embed_dim") or latent, "n_embed": config["num_vq_embeddings"]}


def _checked(entries: list[Entry], part: Path) -> dict[str, Tensor]:
    """Weights of a part under current names, checked by converting them to our layout and back."""
    file, stored = _stored(part)
    state = {_modern(key): value for key, value in clean_tensors(stored, file).items()}
    return ldm_to_diffusers(entries, diffusers_to_ldm(entries, state, file), file)


def _stored(part: Path) -> tuple[Path, dict[str, Tensor]]:
    """The weights of a part, from one file or from shards, and the file that names them."""
    for variant in _VARIANTS:
        for ending in _ENDINGS:
            whole, index = part / f"{_STEM}{variant}{ending}", part / f"{_STEM}{ending}.index{variant}.json"
            if whole.is_file():
                return whole, read_tensors(whole)
            if index.is_file():
                return index, _shards(index)
    raise CheckpointError(part, f"no weights there, expected {' or '.join(_STEM + ending for ending in _ENDINGS)}")


def _shards(index: Path) -> dict[str, Tensor]:
    """All tensors of the files that an index names, which are in the same folder."""
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise CheckpointError(index, "'weight_map' must say for each key which file holds it")
    state: dict[str, Tensor] = {}
    for name in sorted(set(named.values())):
        if Path(name).name != name:
            raise CheckpointError(index, f"names {name!r}, which does not lie beside it")
        for key, value in read_tensors(index.with_name(name)).items():
            if named.get(key) != name or key in state:
                raise CheckpointError(index, f"{key} lies in {name}, where the index does not have it")
            state[key] = value
    missing = set(named) - set(state)
    if missing:
        raise CheckpointError(index, f"{len(missing)} key(s) missing in the shards: {summarise_keys(missing)}")
    return state


def _modern(key: str) -> str:
    """A key with the attention names of diffusers >= 0.15 in place of the older ones."""
    parts = key.split(".")
    if "attentions" in parts and parts[-2] in _OLD_ATTENTION:
        parts[-2] = _OLD_ATTENTION[parts[-2]]
    return ".".join(parts)
