"""The released dense matching: known answers, and what it shares with `midms.matching`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from midms.matching.confidence import forward_backward_error
from midms.matching.correspondence import coordinate_grid, match
from parity.dense_matching import DenseMatching

RELEASED = 0.005


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 0.05, RELEASED])
@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_it_is_the_clamped_match_at_a_slightly_higher_temperature(temperature: float, size: tuple[int, int]) -> None:
    """The release adds 1e-5 to the norms of vectors that have unit length already, for queries and keys."""
    query, key, values = draw(2, 16, *size), draw(2, 16, *size, seed=1), draw(2, 3, *size, seed=2)
    matching = DenseMatching.of(query, key, temperature)
    matched = match(query, key, values, temperature * (1 + 1e-5) ** 2, cycle=True, backward=True, clamp=True)
    warp = matching.warp(values)
    torch.testing.assert_close(warp, matched.warp, rtol=0, atol=1e-10)
    torch.testing.assert_close(matching.warp_back(warp), matched.cycles[0], rtol=0, atol=1e-10)
    forward_map, backward_map = matching.maps()
    torch.testing.assert_close(forward_map, matched.forward_maps[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(backward_map, matched.backward_maps[0], rtol=0, atol=1e-10)


def test_a_permuted_exemplar_is_put_back_and_sent_back() -> None:
    key, values = draw(1, 64, 6, 6), draw(1, 3, 6, 6, seed=1)
    matching = DenseMatching.of(key.roll((1, 2), (2, 3)), key, RELEASED)
    warp = matching.warp(values)
    torch.testing.assert_close(warp, values.roll((1, 2), (2, 3)), rtol=0, atol=1e-8)
    torch.testing.assert_close(matching.warp_back(warp), values, rtol=0, atol=1e-8)
    forward_map, backward_map = matching.maps()
    grid = coordinate_grid(6, 6, dtype=torch.float64)
    torch.testing.assert_close(forward_map[0], grid.roll((1, 2), (1, 2)), rtol=0, atol=1e-8)
    torch.testing.assert_close(backward_map[0], grid.roll((-1, -2), (1, 2)), rtol=0, atol=1e-8)
    assert forward_backward_error(forward_map, backward_map).max() < 1e-12


def test_the_matrix_holds_cosines_without_negative_ones() -> None:
    query = draw(1, 8, 3, 4)
    matrix = DenseMatching.of(query, -query, RELEASED).matrix
    assert matrix.shape == (1, 3, 4, 3, 4) and matrix.min() == 0 and matrix.max() <= 1
    assert torch.equal(torch.einsum("bijij->bij", matrix), torch.zeros(1, 3, 4, dtype=torch.float64)), "opposites"
    own = torch.einsum("bijij->bij", DenseMatching.of(query, query, RELEASED).matrix)
    torch.testing.assert_close(own, torch.full_like(own, (1 + 1e-5) ** -2), rtol=0, atol=1e-12)


def test_raw_features_are_centred_and_scaled_first() -> None:
    query, key = draw(1, 8, 3, 3), draw(1, 8, 3, 3, seed=1)
    plain = DenseMatching.of(query, key, RELEASED).matrix
    torch.testing.assert_close(DenseMatching.of(5 * query + 3, 0.1 * key - 2, RELEASED).matrix, plain)


def test_gradients_reach_both_features_through_warp_and_cycle() -> None:
    query, key, values = (draw(1, 8, 2, 3, seed=seed).requires_grad_() for seed in range(3))

    def both(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
        matching = DenseMatching.of(query, key, 0.5)
        return matching.warp_back(matching.warp(values[:, :2]))

    assert torch.autograd.gradcheck(both, (query, key, values), fast_mode=True)
