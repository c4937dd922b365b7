"""Convert state dicts of published latent diffusion models, first stages and VGG networks to our components."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from midms.checkpoints.errors import CheckpointError, as_checkpoint_error, summarise_keys
from midms.checkpoints.ldm import (
    EMA_PREFIX,
    FIRST_STAGE_PREFIX,
    UNET_PREFIX,
    Entry,
    check_layout,
    first_stage_table,
    ldm_to_diffusers,
    select_ema,
    unet_table,
)
from midms.checkpoints.ldm_config import (
    first_stage_config,
    infer_first_stage_config,
    infer_unet_config,
    scale_factor,
    schedule_settings,
    unet_config,
)
from midms.checkpoints.reading import clean_tensors

#: Tensors by key, as a checkpoint stores them.
StateDict = Mapping[str, Tensor]
#: `model.params` of a published YAML. None: there is no YAML.
ModelParams = Mapping[str, Any] | None

SCHEDULE_BUFFERS = frozenset(
    {
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
    }
)
VGG_CONVS = tuple(f"conv{stage}_{i}" for stage, n in enumerate((2, 2, 4, 4, 4), start=1) for i in range(1, n + 1))


@dataclass
class Conversion:
    """Result of converting one file: our components, and the keys that were left out."""

    states: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    ignored: dict[str, list[str]] = field(default_factory=dict)  # reason -> keys

    def add(self, name: str, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        """Add a component."""
        self.states[name], self.configs[name] = dict(state), dict(config)

    def ignore(self, keys: Iterable[str], reason: str) -> None:
        """Note keys that are not needed."""
        names = sorted(keys)
        if names:
            self.ignored.setdefault(reason, []).extend(names)


def strip_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose key starts with `prefix`, without that prefix."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def check_no_unknown_keys(keys: Iterable[str], known: Iterable[str], source: object) -> None:
    """Raise if there are keys outside `known`."""
    leftovers = set(keys) - set(known)
    if leftovers:
        raise CheckpointError(source, f"{len(leftovers)} unexpected key(s): {summarise_keys(leftovers)}")


def convert_ldm(
    state: StateDict, source: object, params: ModelParams = None, ema: bool = False, check_values: bool = True
) -> Conversion:
    """Convert an unconditional latent diffusion checkpoint: U-Net ("denoiser") and first stage.

    Args:
        state: `state_dict` of the checkpoint.
        source: name of the checkpoint in errors.
        params: `model.params` of its YAML. None: the settings are inferred from the shapes.
        ema: use the averaged U-Net weights.
        check_values: refuse NaN and infinite values (off for tensors on the meta device).

    Raises:
        CheckpointError: a tensor is missing, superfluous, of another shape, or not finite.
    """
    _check_unconditional(state, source)
    result = Conversion()
    unet, averaged = strip_prefix(state, UNET_PREFIX), strip_prefix(state, EMA_PREFIX)
    with as_checkpoint_error(source, "the U-Net's sizes"):
        if params is not None and "unet_config" in params:
            config = unet_config(params["unet_config"]["params"], source)
        else:
            config = infer_unet_config(unet, source)
        entries = unet_table(config)
    chosen = select_ema(averaged, entries, source) if ema else unet
    result.add("denoiser", convert_entries(entries, chosen, source, UNET_PREFIX, check_values), config)
    first = strip_prefix(state, FIRST_STAGE_PREFIX)
    if first:
        _add_first_stage(result, first, source, params, FIRST_STAGE_PREFIX, check_values)
        stored = state.get("scale_factor") if check_values else None
        result.configs["first_stage"]["scale_factor"] = scale_factor(params, stored, source)
    result.info["schedule"] = schedule_settings(params, state.get("betas") if check_values else None, source)
    result.info["weights"] = "averaged (EMA)" if ema else "raw"
    if ema:
        result.ignore([UNET_PREFIX + key for key in unet], "raw U-Net weights, the averaged were asked for")
    else:
        result.ignore([EMA_PREFIX + key for key in averaged], "averaged U-Net weights, not asked for (--ema)")
    result.ignore(SCHEDULE_BUFFERS & set(state), "noise schedule, recomputed from its settings")
    return result


def _check_unconditional(state: Mapping[str, Tensor], source: object) -> None:
    conditional = [key for key in state if key.startswith("cond_stage_model.")]
    if conditional:
        problem = f"a conditional model ({summarise_keys(conditional)}); only unconditional ones are supported"
        raise CheckpointError(source, problem)
    parts = (UNET_PREFIX, EMA_PREFIX, FIRST_STAGE_PREFIX)
    check_no_unknown_keys(
        [key for key in state if not key.startswith(parts)], SCHEDULE_BUFFERS | {"scale_factor"}, source
    )


def convert_entries(
    entries: list[Entry], state: Mapping[str, Tensor], source: object, prefix: str, check_values: bool
) -> dict[str, Tensor]:
    """Published tensors under our names. The layout is checked, then (with `check_values`) every value."""
    check_layout(entries, state, source, prefix)
    return ldm_to_diffusers(entries, clean_tensors(state, source, prefix) if check_values else state, source)


def _add_first_stage(
    result: Conversion,
    state: Mapping[str, Tensor],
    source: object,
    params: Mapping[str, Any] | None,
    prefix: str,
    check_values: bool,
) -> None:
    losses = {key for key in state if key.startswith("loss.")}
    averaged = {key for key in state if key.startswith("model_ema.")}
    needed = {key: value for key, value in state.items() if key not in losses | averaged}
    with as_checkpoint_error(source, "the first stage's sizes"):
        config = infer_first_stage_config(needed, source)
        if params is not None and "first_stage_config" in params:
            params = params["first_stage_config"]["params"]
        if params is not None and "ddconfig" in params:
            config = first_stage_config(params, config["kind"], source)
        entries = first_stage_table(config)
    converted = convert_entries(entries, needed, source, prefix, check_values)
    result.add("first_stage", converted, config)
    result.ignore([prefix + key for key in losses], "losses of first-stage training")
    result.ignore([prefix + key for key in averaged], "averaged first-stage weights")


def convert_first_stage(
    state: Mapping[str, Tensor], source: object, params: Mapping[str, Any] | None = None, check_values: bool = True
) -> Conversion:
    """Convert a separate first stage (vq-f4, kl-f8): the same networks without a prefix."""
    result = Conversion()
    _add_first_stage(result, state, source, params, "", check_values)
    return result


def convert_vgg(state: Mapping[str, Tensor], source: object) -> Conversion:
    """Convert CoCosNet's `vgg19_conv.pth`: 16 convolutions, whose names `conv1_1` to `conv5_4` are kept."""
    expected = {f"{name}.{kind}" for name in VGG_CONVS for kind in ("weight", "bias")}
    missing = expected - set(state)
    if missing:
        raise CheckpointError(source, f"{len(missing)} key(s) missing: {summarise_keys(missing)}")
    check_no_unknown_keys(state, expected, source)
    cleaned, channels = clean_tensors(state, source), 3
    for name in VGG_CONVS:
        out = min(64 * 2 ** (int(name[4]) - 1), 512)
        if tuple(cleaned[f"{name}.weight"].shape) != (out, channels, 3, 3):
            got = tuple(cleaned[f"{name}.weight"].shape)
            raise CheckpointError(source, f"{name}.weight has shape {got}, expected {(out, channels, 3, 3)}")
        channels = out
    result = Conversion()
    result.add("vgg19", cleaned, {"weights": "caffe"})
    return result
