"""Random damage to good files: they convert, or are refused in one line; nothing else ever escapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_ldm import LDM_YAML
from torch import Tensor

from midms.checkpoints.conversion import convert_ldm
from midms.checkpoints.errors import CheckpointError
from midms.checkpoints.released import convert_released

PARAMS: dict[str, Any] = LDM_YAML["model"]["params"]

QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
DAMAGE = st.sampled_from(["remove", "scalar", "empty", "transpose", "wider", "rename", "duplicate"])


def damaged(state: dict[str, Tensor], key: str, how: str) -> dict[str, Tensor]:
    result = dict(state)
    value = result.pop(key)
    shapes = {"scalar": (), "empty": (0, *value.shape[1:]), "transpose": value.shape[::-1], "wider": (*value.shape, 2)}
    if how in shapes:
        result[key] = torch.zeros(shapes[how])
    elif how == "rename":
        result[key.replace("0", "7")] = value
    elif how == "duplicate":
        result |= {key: value, f"{key}.again": value}
    return result


def converts_or_refuses(convert: Any, state: dict[str, Tensor], params: Any) -> None:
    try:
        convert(state, "file", params, check_values=False)
    except CheckpointError as error:
        assert str(error).startswith("file") and "\n" not in str(error)
    except Exception as error:  # without the 43,000 lines of tensors that a report of the arguments has
        pytest.fail(f"{type(error).__name__} escaped: {str(error)[:300]}", pytrace=False)


@QUIET
@given(data=st.data(), how=DAMAGE, with_config=st.booleans())
def test_latent_diffusion(ldm_state: dict[str, Tensor], data: st.DataObject, how: str, with_config: bool) -> None:
    key = data.draw(st.sampled_from(sorted(ldm_state)))
    converts_or_refuses(convert_ldm, damaged(ldm_state, key, how), PARAMS if with_config else None)


@QUIET
@given(data=st.data(), how=DAMAGE)
def test_released(released_state: dict[str, Tensor], data: st.DataObject, how: str) -> None:
    keys = [key for key in sorted(released_state) if not key.startswith("diff")]
    key = data.draw(st.sampled_from(keys))
    converts_or_refuses(convert_released, damaged(released_state, key, how), PARAMS)


@pytest.mark.parametrize("how", ["scalar", "empty", "transpose", "wider"])
@pytest.mark.parametrize("key", ["seg_enc.layer1.0.weight_orig", "real_enc.layer1.0.weight_orig", "theta.weight"])
def test_weights_that_tell_a_size(released_state: dict[str, Tensor], key: str, how: str) -> None:
    """Found at random: a scalar where the width is read was an IndexError."""
    with pytest.raises(CheckpointError):
        convert_released(damaged(released_state, key, how), "file", PARAMS, check_values=False)


@QUIET
@given(data=st.data(), value=st.sampled_from([None, 0, -1, "x", [], [0], {}, 10**9, 0.5]))
def test_configs(ldm_state: dict[str, Tensor], data: st.DataObject, value: Any) -> None:
    part = data.draw(st.sampled_from(["unet_config", "first_stage_config"]))
    inner = PARAMS[part]["params"]
    key = data.draw(st.sampled_from(sorted(inner)))
    params = {**PARAMS, part: {"params": {**inner, key: value}}}
    converts_or_refuses(convert_ldm, ldm_state, params)
