"""Settings of a latent diffusion model, from its YAML (`target` strings are never run) or from tensor shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from midms.checkpoints.errors import CheckpointError, as_checkpoint_error
from midms.checkpoints.schema import validate
from midms.diffusion.schedule import linear_schedule
from midms.io.files import BrokenFileError, read_text
from midms.models.denoiser import CELEBAHQ_VQ4, CHURCHES_KL8
from midms.models.denoiser import DEFAULTS as UNET_DEFAULTS

# keys of the published configs that the architecture does not depend on, or that have one supported value
_UNET_IGNORED = {"image_size", "dims", "use_checkpoint", "legacy", "use_fp16", "num_heads_upsample"}
_UNET_FIXED = {
    "conv_resample": True,
    "use_new_attention_order": False,
    "use_spatial_transformer": False,
    "num_classes": None,
}
#: Larger YAML files are refused. Published ones have a few thousand bytes.
MAX_YAML_BYTES = 1_000_000


def unet_config(params: Mapping[str, Any], source: object = "unet_config") -> dict[str, Any]:
    """Our U-Net config from `unet_config.params` of a published YAML.

    Raises:
        CheckpointError: a setting that our U-Net does not have.
    """
    config: dict[str, Any] = {}
    for key, value in params.items():
        if key in UNET_DEFAULTS:
            config[key] = value
        elif key in _UNET_FIXED and value != _UNET_FIXED[key]:
            raise CheckpointError(source, f"unet_config.{key} is {value!r}, only {_UNET_FIXED[key]!r} is supported")
        elif key not in _UNET_FIXED and key not in _UNET_IGNORED:
            raise CheckpointError(source, f"unet_config.{key} is not known")
    if config.get("num_head_channels") in (-1, None):
        config["num_head_channels"] = None
    else:
        config["num_heads"] = None  # the release's rule: the width of a head overrides the number of heads
    return config


def first_stage_config(params: Mapping[str, Any], kind: str, source: object = "first_stage_config") -> dict[str, Any]:
    """Our first-stage config from `first_stage_config.params` (or `model.params` of an autoencoder's YAML).

    Args:
        kind: "vq" where the weights have `quantize.embedding.weight`, else "kl".

    Raises:
        CheckpointError: attention outside the middle, which neither f4 nor f8 has.
    """
    ddconfig = params["ddconfig"]
    if ddconfig.get("attn_resolutions"):
        problem = f"ddconfig.attn_resolutions is {ddconfig['attn_resolutions']}, only [] is supported"
        raise CheckpointError(source, problem)
    keys = ("in_channels", "out_ch", "ch", "ch_mult", "num_res_blocks", "z_channels")
    config: dict[str, Any] = {"kind": kind, **{key: ddconfig[key] for key in keys}, "embed_dim": params["embed_dim"]}
    config["mid_attention"] = ddconfig.get("attn_type", "vanilla") != "none"
    return {**config, "n_embed": params["n_embed"]} if kind == "vq" else config


def read_ldm_yaml(path: Path) -> dict[str, Any]:
    """`model.params` of a published YAML file.

    Raises:
        CheckpointError: not YAML, or without `model.params`.
    """
    try:
        document = yaml.safe_load(read_text(path, "YAML", MAX_YAML_BYTES))
        params = document["model"]["params"]
    except BrokenFileError as error:
        raise CheckpointError(path, error.reason) from None
    except RecursionError:
        raise CheckpointError(path, "not readable as YAML (nested too deeply)") from None
    except (ValueError, yaml.YAMLError) as error:
        raise CheckpointError(path, f"not readable as YAML ({error})") from error
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            path, "no entry model.params, so this is not the config of a latent diffusion model"
        ) from error
    if not isinstance(params, dict):
        raise CheckpointError(path, "model.params must be a mapping")
    return params


class LDMSettings(BaseModel):
    """Noise schedule and scale in `model.params` of a published YAML. Defaults are those of the release.

    YAML reads `85e-5` as text, so a number may be given as text.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    linear_start: float = Field(1e-4, gt=0, lt=1)
    linear_end: float = Field(2e-2, gt=0, lt=1)
    timesteps: int = Field(1000, ge=2, le=100_000)
    beta_schedule: Literal["linear"] = "linear"  # of the square roots of beta
    parameterization: Literal["eps"] = "eps"
    given_betas: None = None
    scale_factor: float = Field(1.0, gt=0)
    scale_by_std: bool = False


def schedule_settings(
    params: Mapping[str, Any] | None, betas: Tensor | None, source: object = "the config"
) -> dict[str, float]:
    """Keywords of `linear_schedule` from the YAML, else from the stored betas (steps,). Without both: {}.

    Raises:
        CheckpointError: another kind of schedule or prediction, or stored betas that do not match the keywords.
    """
    if params is not None:
        settings = validate(LDMSettings, dict(params), source, "model.params")
        keywords: dict[str, float] = {
            "start": settings.linear_start,
            "end": settings.linear_end,
            "num_train_timesteps": settings.timesteps,
        }
    elif betas is None:
        return {}
    else:
        if betas.ndim != 1 or not 2 <= len(betas) <= 100_000:
            raise CheckpointError(source, f"betas has shape {tuple(betas.shape)}, expected (steps,)")
        keywords = {"start": _short(betas[0]), "end": _short(betas[-1]), "num_train_timesteps": betas.numel()}
    if betas is not None:
        check_betas(betas, keywords, source)
    return keywords


def check_betas(betas: Tensor, keywords: Mapping[str, Any], source: object) -> None:
    """Refuse stored betas (steps,) that differ from those of `linear_schedule` with `keywords`.

    Raises:
        CheckpointError: the betas differ, or the keywords define no schedule.
    """
    with as_checkpoint_error(source, "the noise schedule"):
        expected = linear_schedule(**keywords).betas
    if betas.shape != expected.shape or not torch.allclose(betas.float(), expected, rtol=1e-3, atol=1e-7):
        words = ", ".join(f"{key} {value}" for key, value in keywords.items())
        problem = f"the stored betas are not those of LDM's linear schedule with {words}"
        raise CheckpointError(source, f"{problem}; the model was trained with another noise schedule")


def scale_factor(params: Mapping[str, Any] | None, stored: Tensor | None, source: object) -> float:
    """The factor that the model multiplies latents by: stored in the file, of shape (), else in the YAML.

    Raises:
        CheckpointError: file and YAML differ, or the factor cannot be divided by.
    """
    settings = None if params is None else validate(LDMSettings, dict(params), source, "model.params")
    told = 1.0 if settings is None else settings.scale_factor
    if stored is None:
        return told
    if stored.numel() != 1 or not 0 < float(stored) < math.inf:
        raise CheckpointError(source, f"scale_factor holds {stored.numel()} numbers, expected one above 0")
    measured = settings is None or settings.scale_by_std or "scale_factor" not in (params or {})
    if not measured and not math.isclose(told, float(stored), rel_tol=1e-4):
        raise CheckpointError(source, f"scale_factor is {_short(stored)} in the file, but {told} in the YAML")
    return told if not measured else _short(stored)


def _short(value: Tensor) -> float:
    """A float32 number rounded to six significant digits."""
    return float(f"{float(value):.6g}")


def _shape(state: Mapping[str, Tensor], key: str, source: object) -> tuple[int, ...]:
    if key not in state:
        raise CheckpointError(source, f"key {key} missing")
    return tuple(state[key].shape)


def infer_unet_config(state: Mapping[str, Tensor], source: object) -> dict[str, Any]:
    """U-Net config from the shapes of a published state dict (without prefix).

    The shapes do not show the number of heads, which is known only for the two published sizes.

    Raises:
        CheckpointError: a key is missing, or the heads are not known.
    """
    width, in_channels = _shape(state, "input_blocks.0.0.weight", source)[:2]
    blocks = 1 + max(int(match[1]) for key in state if (match := re.match(r"output_blocks\.(\d+)\.", key)))
    upsampling = re.compile(r"output_blocks\.(\d+)\.[12]\.(conv|in_layers\.0)\.weight")
    upsamplers = [(int(match[1]), match[2]) for key in state if (match := upsampling.match(key))]
    depth = min((number for number, _ in upsamplers), default=blocks - 1)  # blocks per level - 1
    starts = [1 + level * (depth + 1) for level in range(blocks // (depth + 1))]
    outs = [_shape(state, f"input_blocks.{start}.0.out_layers.3.weight", source)[0] for start in starts]
    config: dict[str, Any] = {
        "in_channels": in_channels,
        "out_channels": _shape(state, "out.2.weight", source)[0],
        "model_channels": width,
        "channel_mult": [out // width for out in outs],
        "num_res_blocks": depth,
        "attention_resolutions": [
            2**level for level, start in enumerate(starts) if f"input_blocks.{start}.1.qkv.weight" in state
        ],
        "use_scale_shift_norm": _shape(state, "input_blocks.1.0.emb_layers.1.weight", source)[0] == 2 * outs[0],
        "resblock_updown": any(kind == "in_layers.0" for _, kind in upsamplers),
    }
    return {**config, **_known_heads(config, source)}


def _known_heads(config: Mapping[str, Any], source: object) -> dict[str, Any]:
    for published in (CELEBAHQ_VQ4, CHURCHES_KL8):
        full = {**UNET_DEFAULTS, **published}
        same = all(
            sorted(config[key]) == sorted(full[key]) if key == "attention_resolutions" else config[key] == full[key]
            for key in config
        )
        if same:
            return {"num_heads": full["num_heads"], "num_head_channels": full["num_head_channels"]}
    size = f"model_channels {config['model_channels']}, channel_mult {config['channel_mult']}"
    problem = f"a U-Net of {size} is none of the published ones, and shapes do not tell its number of heads"
    raise CheckpointError(source, f"{problem}: give its YAML (--config)")


def infer_first_stage_config(state: Mapping[str, Tensor], source: object) -> dict[str, Any]:
    """First-stage config from the shapes of a published state dict (without prefix)."""
    ch, in_channels = _shape(state, "encoder.conv_in.weight", source)[:2]
    levels = 1 + max((int(match[1]) for key in state if (match := re.match(r"encoder\.down\.(\d+)\.", key))), default=0)
    depth = sum(bool(re.fullmatch(r"encoder\.down\.0\.block\.\d+\.conv1\.weight", key)) for key in state)
    widths = [_shape(state, f"encoder.down.{level}.block.0.conv1.weight", source)[0] for level in range(levels)]
    config: dict[str, Any] = {
        "kind": "vq" if "quantize.embedding.weight" in state else "kl",
        "in_channels": in_channels,
        "out_ch": _shape(state, "decoder.conv_out.weight", source)[0],
        "ch": ch,
        "ch_mult": [width // ch for width in widths],
        "num_res_blocks": depth,
        "z_channels": _shape(state, "decoder.conv_in.weight", source)[1],
        "embed_dim": _shape(state, "post_quant_conv.weight", source)[1],
        "mid_attention": any(".mid.attn_1." in key for key in state),
    }
    if config["kind"] == "vq":
        config["n_embed"] = _shape(state, "quantize.embedding.weight", source)[0]
    return config
