"""Small random models in the published layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_ldm import LDM_YAML, UNET, VQ
from torch import Tensor

from midms.checkpoints.ldm import Entry, first_stage_table, unet_table
from midms.models.encoders import CorrespondenceEncoders


def draw(entries: list[Entry], generator: torch.Generator) -> dict[str, Tensor]:
    """Random tensors for a layout."""
    return {entry.ldm: torch.randn(entry.shape, generator=generator) * 0.05 for entry in entries}


@pytest.fixture
def ldm_state() -> dict[str, Tensor]:
    """An LDM `state_dict`: raw and averaged U-Net, first stage with training losses, schedule buffers."""
    generator = torch.Generator().manual_seed(0)
    state = {f"model.diffusion_model.{key}": value for key, value in draw(unet_table(UNET), generator).items()}
    averaged = draw(unet_table(UNET), generator)
    state |= {f"model_ema.diffusion_model{key.replace('.', '')}": value for key, value in averaged.items()}
    state |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5, dtype=torch.int32)}
    state |= {f"first_stage_model.{key}": value for key, value in draw(first_stage_table(VQ), generator).items()}
    state["first_stage_model.loss.discriminator.main.0.weight"] = torch.zeros(4, 3, 4, 4)
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64).square().float()
    return state | {"betas": betas, "alphas_cumprod": torch.cumprod(1 - betas, 0)}


@pytest.fixture
def released_state(ldm_state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A released MIDMs `state_dict` with its duplicates."""
    torch.manual_seed(0)
    encoders = CorrespondenceEncoders(3, 5, widths=(8, 12, 16), out_channels=16, hidden=8)
    state = dict(encoders.state_dict())
    inner = {key: value for key, value in ldm_state.items() if ".loss." not in key}
    state |= {f"diff_model.{key}": value for key, value in inner.items()}
    state |= {f"diffusion_sampler.model.{key}": value for key, value in inner.items()}
    return state | {"diffusion_sampler.ddim_alphas": torch.ones(17)}


@pytest.fixture
def ldm_yaml(tmp_path: Path) -> Path:
    """The YAML published with `ldm_state`."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(LDM_YAML))
    return path


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Save an object with `torch.save` under a name."""

    def save(content: Any, name: str = "model.ckpt", **options: Any) -> Path:
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return save
