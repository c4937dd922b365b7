"""The tables of published names and shapes against the real modules, and the ways there and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from midms.checkpoints.errors import CheckpointError
from midms.checkpoints.ldm import Entry, diffusers_to_ldm, first_stage_table, ldm_to_diffusers, select_ema, unet_table
from midms.checkpoints.ldm_config import (
    first_stage_config,
    infer_first_stage_config,
    infer_unet_config,
    read_ldm_yaml,
    schedule_settings,
    unet_config,
)
from midms.models.denoiser import CELEBAHQ_VQ4, CHURCHES_KL8, build_unet
from midms.models.denoiser import DEFAULTS as UNET_DEFAULTS
from midms.models.first_stage import KL_F8, VQ_F4, FirstStage

SMALL: dict[str, Any] = {"model_channels": 32, "num_res_blocks": 1, "attention_resolutions": [2]}
UNETS: dict[str, dict[str, Any]] = {
    "celebahq": CELEBAHQ_VQ4,
    "churches": CHURCHES_KL8,
    "two levels": {**SMALL, "channel_mult": [1, 2], "num_head_channels": 32},
    "one level": {**SMALL, "channel_mult": [1], "num_heads": 2},
    "resblocks without attention": {**SMALL, "channel_mult": [1, 1, 2], "num_heads": 2, "resblock_updown": True},
}
FIRST_STAGES: dict[str, dict[str, Any]] = {
    "vq-f4": VQ_F4,
    "kl-f8": KL_F8,
    "other sizes": {"ch": 32, "ch_mult": [1, 1, 2], "num_res_blocks": 1, "z_channels": 6, "embed_dim": 5, "n_embed": 7},
    "without attention": {"ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "n_embed": 7, "mid_attention": False},
}


def empty(entries: list[Entry]) -> dict[str, torch.Tensor]:
    return {entry.ldm: torch.empty(entry.shape, device="meta") for entry in entries}


def shapes(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("config", UNETS.values(), ids=UNETS.keys())
def test_unet_table_names_every_tensor_of_the_module(config: dict[str, Any]) -> None:
    with torch.device("meta"):
        module: Any = build_unet(config)
    entries = unet_table(config)
    assert shapes(ldm_to_diffusers(entries, empty(entries), "test")) == shapes(module.state_dict())


@pytest.mark.parametrize("config", FIRST_STAGES.values(), ids=FIRST_STAGES.keys())
def test_first_stage_table_names_every_tensor_of_the_module(config: dict[str, Any]) -> None:
    with torch.device("meta"):
        module = FirstStage(config).model
    entries = first_stage_table(config)
    assert shapes(ldm_to_diffusers(entries, empty(entries), "test")) == shapes(module.state_dict())


@pytest.mark.parametrize("entries", [unet_table(UNETS["two levels"]), first_stage_table(FIRST_STAGES["other sizes"])])
def test_there_and_back_is_the_identity(entries: list[Entry]) -> None:
    state = {entry.ldm: torch.randn(entry.shape) for entry in entries}
    back = diffusers_to_ldm(entries, ldm_to_diffusers(entries, state, "test"), "test")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("name", ["celebahq", "churches"])
def test_published_unets_are_known_by_their_shapes(name: str) -> None:
    full = {**UNET_DEFAULTS, **UNETS[name]}
    inferred = {**UNET_DEFAULTS, **infer_unet_config(empty(unet_table(full)), "test")}
    assert sorted(inferred.pop("attention_resolutions")) == sorted(full.pop("attention_resolutions"))
    assert inferred == full


def test_heads_of_other_unets_must_be_given() -> None:
    with pytest.raises(CheckpointError, match=r"do not tell its number of heads: give its YAML \(--config\)"):
        infer_unet_config(empty(unet_table(UNETS["two levels"])), "test")


@pytest.mark.parametrize("config", FIRST_STAGES.values(), ids=FIRST_STAGES.keys())
def test_first_stages_are_known_by_their_shapes(config: dict[str, Any]) -> None:
    table = first_stage_table(config)
    inferred = infer_first_stage_config(empty(table), "test")
    assert first_stage_table(inferred) == table
    assert all(inferred[key] == value for key, value in config.items())


def test_head_rule_of_the_published_configs() -> None:
    assert unet_config({"num_heads": 8, "num_head_channels": -1})["num_heads"] == 8
    both = unet_config({"num_heads": 1, "num_head_channels": 32})
    assert (both["num_heads"], both["num_head_channels"]) == (None, 32)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"use_spatial_transformer": True}, "use_spatial_transformer is True, only False"),
        ({"use_new_attention_order": True}, "use_new_attention_order"),
        ({"num_hedas": 8}, "unet_config.num_hedas is not known"),
    ],
)
def test_settings_that_we_do_not_have_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        unet_config(params)


def test_attention_outside_the_middle_is_refused() -> None:
    with pytest.raises(CheckpointError, match="attn_resolutions"):
        first_stage_config({"embed_dim": 4, "ddconfig": {"attn_resolutions": [16]}}, "kl")


def test_yaml_targets_are_never_run(tmp_path: Any) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "config.yaml"
    path.write_text(f"model: !!python/object/apply:pathlib.Path.touch [{marker}]\n")
    with pytest.raises(CheckpointError, match="not readable as YAML"):
        read_ldm_yaml(path)
    assert not marker.exists()


def test_schedule_from_stored_betas() -> None:
    betas = torch.linspace(0.0015**0.5, 0.0155**0.5, 1000, dtype=torch.float64).square().float()
    want = {"start": 0.0015, "end": 0.0155, "num_train_timesteps": 1000}
    assert schedule_settings(None, betas) == want
    params = {"linear_start": 0.0015, "linear_end": 0.0155, "timesteps": 1000, "other": 1}
    assert schedule_settings(params, None) == want


def test_averaged_names_have_no_dots() -> None:
    entries = unet_table(UNETS["one level"])
    averaged = {f"diffusion_model{entry.ldm.replace('.', '')}": torch.tensor(i) for i, entry in enumerate(entries)}
    selected = select_ema(averaged, entries, "test")
    assert [int(selected[entry.ldm]) for entry in entries] == list(range(len(entries)))
