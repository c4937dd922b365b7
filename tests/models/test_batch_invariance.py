"""One sample, one result: in every batch and with every number of threads, and the result of PyTorch's own layers."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from midms.matching.correspondence import match
from midms.models.batch_invariance import make_batch_invariant
from midms.models.first_stage import FirstStage


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def attention(width: int = 32) -> Attention:
    return Attention(width, heads=1, dim_head=width, norm_num_groups=8, residual_connection=True, bias=True)


LAYERS = {
    "smallest map": (lambda: nn.Conv2d(96, 96, 3, padding=1), (96, 1, 1)),
    "block": (
        lambda: nn.Sequential(
            nn.Conv2d(48, 96, 3, padding=1), nn.GroupNorm(8, 96), nn.SiLU(), nn.Conv2d(96, 96, 3, 2, 1), attention(96)
        ),
        (48, 8, 8),
    ),
    "few channels": (lambda: nn.Conv2d(3, 32, 3, padding=1), (3, 16, 16)),
    "3 x 3": (lambda: nn.Conv2d(48, 96, 3, padding=1), (48, 8, 8)),
    "strided": (lambda: nn.Conv2d(16, 32, 3, stride=2, padding=1), (16, 32, 32)),
    "1 x 1": (lambda: nn.Conv2d(48, 96, 1), (48, 16, 16)),
    "no bias": (lambda: nn.Conv2d(8, 8, 3, bias=False), (8, 9, 7)),
    "reflected": (lambda: nn.Conv2d(3, 32, 3, padding=1, padding_mode="reflect"), (3, 16, 16)),
    "same": (lambda: nn.Conv2d(8, 8, 3, padding="same"), (8, 16, 16)),
    "grouped": (lambda: nn.Conv2d(8, 16, 1, groups=2), (8, 16, 16)),
    "large": (lambda: nn.Conv2d(16, 16, 3, padding=1), (16, 64, 64)),
    "time embedding": (lambda: nn.Linear(192, 96), (192,)),
    "tokens": (lambda: nn.Linear(32, 64), (16, 32)),
    "attention": (lambda: nn.Sequential(attention(), nn.GroupNorm(8, 32), nn.Conv2d(32, 32, 3)), (32, 16, 16)),
}


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in ("same", "grouped")])
def test_a_layer_gives_a_sample_the_same_bits_in_every_batch(name: str) -> None:
    make, shape = LAYERS[name]
    layer, x = make().eval(), torch.randn(8, *shape)
    make_batch_invariant(layer)
    with torch.no_grad():
        torch.set_num_threads(1)
        together = layer(x)
        for count in (1, 2):
            torch.set_num_threads(count)
            for size in (1, 2, 3, 5, 8):
                parts = torch.cat([layer(part) for part in x.split(size)])
                assert torch.equal(parts, together), (count, size)


@pytest.mark.parametrize("name", list(LAYERS))
def test_values_and_gradients_are_those_of_the_layer(name: str) -> None:
    make, shape = LAYERS[name]
    layer, x = make().eval(), torch.randn(3, *shape)
    changed = copy.deepcopy(layer)
    make_batch_invariant(changed)
    make_batch_invariant(changed)  # once more does nothing
    with torch.no_grad():
        torch.testing.assert_close(changed(x), layer(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(changed.double()(x.double()), layer.double()(x.double()))
    given = [x.double().requires_grad_() for _ in range(2)]
    for module, inputs in zip((layer, changed), given, strict=True):
        module(inputs).square().sum().backward()
    torch.testing.assert_close(given[1].grad, given[0].grad)
    assert copy.deepcopy(changed)(x.double()).shape == layer(x.double()).shape
    assert changed.state_dict().keys() == layer.state_dict().keys()


def test_a_copy_of_a_changed_layer_uses_its_own_weights() -> None:
    layer = nn.Conv2d(3, 4, 3)
    make_batch_invariant(layer)
    other = copy.deepcopy(layer)
    nn.init.zeros_(other.weight)
    with torch.no_grad():
        assert (other(torch.randn(1, 3, 8, 8)) == other.bias[:, None, None]).all()


def test_changed_weights_are_used_at_once() -> None:
    """The weights of a layer of small maps are kept in another order, which may never outlive a change."""
    layer, x = nn.Conv2d(16, 16, 3, padding=1), torch.randn(2, 16, 8, 8)
    make_batch_invariant(layer)
    other = nn.Conv2d(16, 16, 3, padding=1)

    def right() -> None:
        with torch.no_grad():
            expected = nn.functional.conv2d(x, layer.weight, layer.bias, padding=1)
            torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)

    right()
    with torch.no_grad():
        layer.weight.mul_(2)
    right()
    layer.load_state_dict(other.state_dict())
    right()
    layer.weight.data = torch.randn_like(layer.weight)
    right()
    layer.half().float()
    right()
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        copied.weight.zero_()
        assert (copied(x) == copied.bias[:, None, None]).all()
    right()


def test_layers_made_in_inference_mode_work() -> None:
    with torch.inference_mode():
        layer = nn.Conv2d(16, 16, 3, padding=1)
        make_batch_invariant(layer)
        x = torch.randn(3, 16, 8, 8)
        assert torch.equal(layer(x)[:1], layer(x[:1]))


@pytest.mark.parametrize("channels", [3, 4, 5])
def test_matching_does_not_depend_on_batch_or_threads(channels: int) -> None:
    query, key, values = torch.randn(4, 32, 16, 16), torch.randn(4, 32, 16, 16), torch.randn(4, channels, 16, 16)

    def matched(part: slice) -> list[Tensor]:
        found = match(query[part], key[part], values[part], backward=True, cycle=True, backend="streaming")
        return [found.warp, found.share, *found.forward_maps, *found.backward_maps, *found.cycles]

    torch.set_num_threads(1)
    together = matched(slice(None))
    for count in (1, 2):
        torch.set_num_threads(count)
        parts = [torch.cat(rows) for rows in zip(*(matched(slice(i, i + 1)) for i in range(4)), strict=True)]
        assert all(torch.equal(part, whole) for part, whole in zip(parts, together, strict=True)), count


def test_a_code_that_rounding_cannot_tell_is_decided_in_float64() -> None:
    """Two codes at nearly one distance, far from the origin, where float32 has no digits left for the difference."""
    stage = FirstStage({"ch": 8, "ch_mult": [1], "num_res_blocks": 1, "n_embed": 2, "norm_groups": 4})
    codes = torch.tensor([[100.0, 0.0, 0.0], [100.0, 2.0, 0.0]])
    stage.model.quantize.embedding.weight.data = codes
    rows = torch.stack([torch.full((64,), 100.0), 1 + torch.linspace(-1e-5, 1e-5, 64), torch.zeros(64)])
    latents = rows[None, :, None]  # (1, 3, 1, 64)
    exact = (latents.double()[0, :, 0].T[:, None] - codes.double()).square().sum(dim=2).argmin(dim=1)  # (64,)
    with torch.no_grad():
        found = stage.nearest_codes(latents)[0, 1, 0]
    assert torch.equal(found, codes[exact, 1]) and 0 < exact.sum() < 64
