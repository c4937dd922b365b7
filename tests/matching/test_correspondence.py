"""Matching: solvable cases, masks, several exemplars, precision and error texts. Backends: see test_streaming.py."""

from typing import Any

import pytest
import torch
from torch import Tensor

from midms.matching.correspondence import (
    Backend,
    argmax_correspondence,
    coordinate_grid,
    correlation,
    match,
    normalize_features,
    soft_warp,
)

BACKENDS: tuple[Backend, ...] = ("dense", "streaming")


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_normalized_features_are_centred_unit_vectors() -> None:
    unit = normalize_features(3.0 + 2.0 * draw(2, 16, 3, 5))
    assert torch.allclose(unit.mean(dim=1), torch.zeros(2, 3, 5, dtype=unit.dtype), atol=1e-14)
    assert torch.allclose(unit.norm(dim=1), torch.ones(2, 3, 5, dtype=unit.dtype))


def test_constant_feature_becomes_zero_with_finite_gradient() -> None:
    features = draw(1, 8, 2, 2)
    features[:, :, 0, 0] = 4.0
    features.requires_grad_()
    unit = normalize_features(features)
    unit.sum().backward()
    assert torch.equal(unit[:, :, 0, 0], torch.zeros(1, 8, dtype=unit.dtype))
    assert features.grad is not None and features.grad.isfinite().all()


def test_correlation_is_the_cosine_on_grids_of_any_two_sizes() -> None:
    query, key = draw(2, 8, 3, 4), draw(2, 8, 5, 2, seed=1)
    matrix = correlation(query, key)
    assert matrix.shape == (2, 3, 4, 5, 2)
    expected = torch.cosine_similarity(query[1, :, 2, 3], key[1, :, 4, 0], dim=0)
    assert torch.allclose(matrix[1, 2, 3, 4, 0], expected)
    assert torch.equal(correlation(query, key, clamp=True), matrix.clamp_min(0.0))


def test_grid_spans_minus_one_to_one_as_grid_sample_reads_it() -> None:
    grid = coordinate_grid(3, 5, dtype=torch.float64)
    image = draw(1, 2, 3, 5)
    read = torch.nn.functional.grid_sample(image, grid.permute(1, 2, 0)[None], align_corners=True)
    assert torch.allclose(read, image)
    assert grid[:, 0, 0].tolist() == [-1.0, -1.0] and grid[:, 2, 4].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_permuted_exemplar_is_put_back_in_place(backend: Backend) -> None:
    key, values = draw(2, 32, 6, 5), draw(2, 3, 6, 5, seed=1)
    query = key.roll((2, 1), (2, 3))  # query at (i, j) is key at (i - 2, j - 1)
    matched = match(query, key, values, 0.001, cycle=True, backward=True, backend=backend)
    grid = coordinate_grid(6, 5, dtype=torch.float64)
    assert torch.allclose(matched.warp, values.roll((2, 1), (2, 3)), atol=1e-8)
    assert torch.allclose(matched.forward_maps[0], grid.roll((2, 1), (1, 2)).expand(2, -1, -1, -1), atol=1e-8)
    assert torch.allclose(matched.backward_maps[0], grid.roll((-2, -1), (1, 2)).expand(2, -1, -1, -1), atol=1e-8)
    assert torch.allclose(matched.cycles[0], values, atol=1e-8)
    assert torch.allclose(argmax_correspondence(query, key, rows=7), matched.forward_maps[0], atol=1e-8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_constant_values_stay_constant_and_only_what_is_asked_is_returned(backend: Backend) -> None:
    values = torch.full((1, 2, 4, 3), 0.25)
    matched = match(draw(1, 8, 3, 5), draw(1, 8, 4, 3, seed=1), values, 0.01, backend=backend)
    assert torch.allclose(matched.warp, torch.full((1, 2, 3, 5), 0.25, dtype=torch.float64))
    assert matched.backward_maps == matched.cycles == () and len(matched.forward_maps) == 1
    assert torch.equal(matched.share, torch.ones(1, 1, 3, 5, dtype=torch.float64))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_masked_key_counts_as_absent(backend: Backend) -> None:
    query, key, values = draw(1, 8, 3, 4), draw(1, 8, 4, 5, seed=1), draw(1, 2, 4, 5, seed=2)
    mask = torch.zeros(1, 4, 5, dtype=torch.bool)
    mask[:, :3] = True  # the first three rows of keys: also expressible by cutting the grid
    masked = match(query, key, values, 0.05, key_mask=mask, backend=backend)
    cut = match(query, key[:, :, :3], values[:, :, :3], 0.05, backend=backend)
    assert torch.allclose(masked.warp, cut.warp, atol=1e-12)
    as_real = match(query, key, values, 0.05, key_mask=mask[:, None].float(), backend=backend)
    assert torch.equal(masked.warp, as_real.warp)


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_exemplars_are_one_softmax_over_all_their_keys(backend: Backend) -> None:
    query, key, values = draw(2, 8, 3, 4), draw(2, 8, 4, 6, seed=1), draw(2, 2, 4, 6, seed=2)
    whole = match(query, key, values, 0.05, cycle=True, backward=True, backend=backend)
    keys, parts = key.split([2, 4], dim=3), values.split([2, 4], dim=3)
    matched = match(query, keys, parts, 0.05, cycle=True, backward=True, backend=backend)
    assert matched.share.shape == (2, 2, 3, 4)
    assert torch.allclose(matched.share.sum(dim=1), torch.ones(2, 3, 4, dtype=torch.float64))
    assert torch.allclose(matched.warp, whole.warp, atol=1e-12)
    for index in range(2):
        alone = match(query, keys[index], parts[index], 0.05, cycle=True, backward=True, backend=backend)
        for name in ("forward_maps", "backward_maps", "cycles"):
            assert torch.equal(getattr(matched, name)[index], getattr(alone, name)[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_exemplar_masked_away_gives_nothing(backend: Backend) -> None:
    query, keys = draw(1, 8, 3, 3), [draw(1, 8, 2, 3, seed=1), draw(1, 8, 4, 2, seed=2)]
    values = [draw(1, 2, 2, 3, seed=3), draw(1, 2, 4, 2, seed=4)]
    nothing = torch.zeros(1, 2, 3, dtype=torch.bool)
    matched = match(query, keys, values, key_mask=[nothing, None], backend=backend)
    alone = match(query, keys[1], values[1], backend=backend)
    assert matched.share[:, 0].max() == 0.0
    assert torch.allclose(matched.warp, alone.warp, atol=1e-12)


def test_float32_results_whatever_autocast_and_matmul_precision_say() -> None:
    query, key = draw(1, 64, 20, 16).bfloat16(), draw(1, 64, 20, 16, seed=1).bfloat16()
    values = draw(1, 3, 20, 16, seed=2).bfloat16()
    expected = match(query.float(), key.float(), values.float())
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            matched = match(query, key, values)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert matched.warp.dtype == torch.float32
    assert torch.equal(matched.warp, expected.warp)


def test_argmax_respects_the_mask() -> None:
    key = draw(1, 16, 3, 4)
    mask = torch.ones(1, 3, 4, dtype=torch.bool)
    mask[0, 1, 2] = False
    matched = argmax_correspondence(key, key, mask)
    grid = coordinate_grid(3, 4, dtype=torch.float64)
    same = (matched[0] - grid).abs().amax(dim=0) < 1e-12
    assert torch.equal(same, mask[0])


def test_soft_warp_at_high_temperature_is_the_mean() -> None:
    values = draw(1, 2, 3, 4)
    warped = soft_warp(values, correlation(draw(1, 8, 2, 2), draw(1, 8, 3, 4, seed=1)), 1e9)
    assert torch.allclose(warped, values.mean(dim=(2, 3), keepdim=True).expand(1, 2, 2, 2), atol=1e-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "fast"}, "backend is 'fast', expected 'auto', 'dense' or 'streaming'"),
        ({"temperature": 0.0}, "temperature is 0.0, expected a number > 0"),
        ({"query": torch.zeros(8, 3, 4)}, r"query has shape \(8, 3, 4\), expected \(B, C, H, W\)"),
        ({"key": torch.zeros(2, 7, 3, 4)}, r"key 0 has shape \(2, 7, 3, 4\), expected .* B, C = \(2, 8\)"),
        (
            {"values": torch.zeros(2, 3, 4, 3)},
            r"values 0 have shape \(2, 3, 4, 3\), expected batch 2 and grid \(3, 4\)",
        ),
        ({"key_mask": torch.ones(2, 4, 4)}, r"key_mask 0 has shape \(2, 4, 4\), expected \(2, 3, 4\)"),
        ({"key_mask": torch.zeros(2, 3, 4)}, "sample 0 has all its keys masked"),
        ({"key": [torch.zeros(2, 8, 3, 4)] * 2}, "got 2 key, 1 values and 2 mask tensors"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "query": torch.zeros(2, 8, 3, 4),
        "key": torch.zeros(2, 8, 3, 4),
        "values": torch.zeros(2, 3, 3, 4),
    }
    with pytest.raises(ValueError, match=message):
        match(**(arguments | change))


def test_clamped_cosines_are_the_released_ones() -> None:
    """At a high temperature the negative cosines weigh in, so that the clamp is seen."""
    generator = torch.Generator().manual_seed(7)
    query, key, values = (torch.randn(1, 3, 5, 6, generator=generator) for _ in range(3))
    cosine = correlation(normalize_features(query), normalize_features(key), clamp=True)
    matched = match(query, key, values, 1.0, cycle=True, clamp=True)
    torch.testing.assert_close(matched.warp, soft_warp(values, cosine, 1.0))
    torch.testing.assert_close(matched.cycles[0], soft_warp(matched.warp, cosine.permute(0, 3, 4, 1, 2), 1.0))
    assert not torch.allclose(matched.warp, match(query, key, values, 1.0).warp)
    with pytest.raises(ValueError, match="needs the dense form"):
        match(query, key, values, clamp=True, backend="streaming")


def test_an_unknown_option_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        TypeError, match="match: got an unknown argument 'cycles', expected some of backend, backward, cla"
    ):
        match(*torch.zeros(3, 1, 2, 3, 3), cycles=True)  # type: ignore[call-arg]
