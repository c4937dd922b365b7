"""A folder of a diffusers latent diffusion pipeline, such as CompVis/ldm-celebahq-256: to our components."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from midms.checkpoints.conversion import Conversion
from midms.checkpoints.errors import CheckpointError, as_checkpoint_error
from midms.checkpoints.ldm import Entry, diffusers_to_ldm, first_stage_table, ldm_to_diffusers, unet_table
from midms.checkpoints.reading import clean_tensors, read_json, read_tensors

_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_FIRST_STAGES = {"vqvae": "vq", "vae": "kl"}
# Settings that our U-Net does not have; absent entries mean these values. (`norm_eps` is left out on purpose: the model
# was trained with 1e-5, whatever a config says.)
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
}
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def convert_diffusers(folder: Path) -> Conversion:
    """U-Net, first stage and schedule of a diffusers folder.

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
    schedule = folder / "scheduler" / "scheduler_config.json"
    if schedule.is_file():
        settings = read_json(schedule)
        names = ("beta_start", "start"), ("beta_end", "end"), ("num_train_timesteps", "num_train_timesteps")
        result.info["schedule"] = {
            name: settings[diffusers_name] for diffusers_name, name in names if diffusers_name in settings
        }
    return result


def unet_config_from_diffusers(config: Mapping[str, Any], source: object) -> dict[str, Any]:
    """Our U-Net config from the one of a `UNet2DModel`.

    Raises:
        CheckpointError: a setting or a type of block that the published models do not have.
    """
    for key, value in _FIXED_UNET.items():
        if config.get(key, value) != value:
            raise CheckpointError(source, f"{key} is {config[key]!r}, only {value!r} is supported")
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
    """Our first-stage config from the one of a `VQModel` or `AutoencoderKL`."""
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
    """Weights of a part under today's names, checked against our layout by a round trip through it."""
    files = [part / name for name in _WEIGHTS if (part / name).is_file()]
    if not files:
        raise CheckpointError(part, f"no weights there, expected {' or '.join(_WEIGHTS)}")
    state = {_modern(key): value for key, value in clean_tensors(read_tensors(files[0]), files[0]).items()}
    return ldm_to_diffusers(entries, diffusers_to_ldm(entries, state, files[0]), files[0])


def _modern(key: str) -> str:
    """Attention names before diffusers 0.15 -> after."""
    parts = key.split(".")
    if "attentions" in parts and parts[-2] in _OLD_ATTENTION:
        parts[-2] = _OLD_ATTENTION[parts[-2]]
    return ".".join(parts)
