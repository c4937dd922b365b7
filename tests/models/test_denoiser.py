"""Rules of the U-Net wrapper: head counts, sizes, times (numbers of the release: tests/parity)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from midms.models.denoiser import CELEBAHQ_VQ4, CHURCHES_KL8, Denoiser, build_unet

SMALL: dict[str, Any] = {
    "model_channels": 16,
    "channel_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "attention_resolutions": [2, 4],
    "norm_groups": 8,
}


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    return Denoiser({**SMALL, "num_head_channels": 8}).eval()


@pytest.mark.parametrize(("config", "expected"), [(CELEBAHQ_VQ4, 274_056_163), (CHURCHES_KL8, 294_966_916)])
def test_published_sizes(config: dict[str, Any], expected: int) -> None:
    with torch.device("meta"):
        unet: Any = build_unet(config)
    assert sum(parameter.numel() for parameter in unet.parameters()) == expected


def test_a_constant_head_count_holds_at_every_width() -> None:
    unet: Any = build_unet({**SMALL, "num_heads": 4, "use_scale_shift_norm": True, "resblock_updown": True})
    attentions = [module for module in unet.modules() if hasattr(module, "to_q")]
    assert len(attentions) == 7  # two levels down, the middle, two levels with one more block up
    for attention in attentions:
        assert attention.heads == 4
        assert attention.scale == pytest.approx((attention.to_q.out_features / 4) ** -0.5)
        assert attention.group_norm is not None


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_any_size_runs_as_its_padded_self(denoiser: Denoiser, size: tuple[int, int]) -> None:
    x = draw(2, 3, *size)
    padded = torch.nn.functional.pad(x, (0, -size[1] % 4, 0, -size[0] % 4), mode="replicate")
    times = torch.tensor([3, 500])
    want = denoiser.unet(padded, times).sample[..., : size[0], : size[1]]
    torch.testing.assert_close(denoiser(x, times), want)


@torch.no_grad()
def test_samples_do_not_see_each_other_and_one_time_serves_all(denoiser: Denoiser) -> None:
    x = draw(2, 3, 8, 8)
    together = denoiser(x, 7)
    torch.testing.assert_close(together, denoiser(x, torch.tensor([7, 7])))
    torch.testing.assert_close(together[1:], denoiser(x[1:], torch.tensor([7])), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("heads", [{}, {"num_heads": 8, "num_head_channels": 4}])
def test_exactly_one_head_setting(heads: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="give either num_head_channels or num_heads"):
        build_unet({**SMALL, **heads})


def test_unknown_key() -> None:
    with pytest.raises(ValueError, match=r"unknown key.* num_headz"):
        build_unet({"num_headz": 8})
