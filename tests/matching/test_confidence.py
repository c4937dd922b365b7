"""The confidence mask: hand-made round trips, the two forms, several exemplars."""

import pytest
import torch
from torch import Tensor

from midms.matching.confidence import (
    cycle_consistency_mask,
    forward_backward_error,
    match_confidence,
    self_composition_error,
)
from midms.matching.correspondence import Match, coordinate_grid, match


def grid(height: int, width: int) -> Tensor:
    return coordinate_grid(height, width, dtype=torch.float64)[None]


def test_identity_maps_are_consistent_on_grids_of_different_sizes() -> None:
    error = forward_backward_error(grid(4, 6), grid(3, 5))  # both maps: the same place in the picture
    assert error.shape == (1, 1, 4, 6)
    assert torch.allclose(error, torch.zeros_like(error), atol=1e-12)


def test_error_is_the_squared_distance_of_the_round_trip() -> None:
    back = grid(5, 5) + torch.tensor([0.3, -0.4], dtype=torch.float64)[None, :, None, None]
    error = forward_backward_error(grid(5, 5), back)
    assert torch.allclose(error, torch.full_like(error, 0.25))
    assert (
        cycle_consistency_mask(grid(5, 5), back, 0.26).all()
        and not cycle_consistency_mask(grid(5, 5), back, 0.24).any()
    )


@pytest.mark.parametrize("moved", ["mirrored", "shifted"])
def test_a_perfect_match_passes_the_paper_check_but_not_always_the_released_one(moved: str) -> None:
    """There and back is home for both; the flow added to itself is zero for a mirror only, being its own inverse."""
    key = torch.randn(1, 64, 8, 8, generator=torch.Generator().manual_seed(0))
    matched = match(key.flip(3) if moved == "mirrored" else key.roll(3, 3), key, key[:, :2], backward=True)
    assert cycle_consistency_mask(matched.forward_maps[0], matched.backward_maps[0], 0.3).all()
    released = cycle_consistency_mask(matched.forward_maps[0], None, 0.5, "released").mean()
    assert released == 1.0 if moved == "mirrored" else released < 0.5


def test_released_form_keeps_a_cell_where_three_of_four_pass() -> None:
    forward = grid(4, 4).clone()
    far = torch.tensor(
        [5.0, 5.0], dtype=torch.float64
    )  # outside: its flow is read as zero there, so the error is large
    forward[0, :, 0, 0] = far  # one of the first cell fails: kept
    forward[0, :, 2, 2] = forward[0, :, 3, 3] = far  # two of the last cell fail: dropped
    assert int((self_composition_error(forward) > 0.5).sum()) == 3
    mask = cycle_consistency_mask(forward, None, 0.5, "released")
    expected = torch.ones(4, 4, dtype=torch.float64)
    expected[2:, 2:] = 0.0
    assert torch.equal(mask[0, 0], expected)


def test_no_gradient_and_no_mask() -> None:
    forward = grid(4, 4).requires_grad_()
    assert not cycle_consistency_mask(forward, grid(4, 4), 0.3).requires_grad
    assert torch.equal(cycle_consistency_mask(forward, None, 0.3, "none"), torch.ones(1, 1, 4, 4, dtype=torch.float64))


def test_with_several_exemplars_the_giver_decides() -> None:
    good, bad = grid(4, 4), grid(4, 4) + 0.9
    share = torch.tensor([0.7, 0.3], dtype=torch.float64)[None, :, None, None].repeat(1, 1, 4, 4)
    share[..., 2:] = share[..., 2:].flip(1)  # the right half comes from the second exemplar
    matched = Match(good, share, (good, good), (good, bad))
    mask = match_confidence(matched, 0.3)
    assert mask[0, 0, :, :2].all() and not mask[0, 0, :, 2:].any()


@pytest.mark.parametrize(
    ("size", "form", "message"),
    [
        (4, "paper", "needs the backward map"),
        (4, "strict", "form is 'strict', expected one of paper, released, none"),
        (5, "released", "odd grid 5x5; use form 'paper'"),
    ],
)
def test_errors(size: int, form: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cycle_consistency_mask(grid(size, size), None, 0.3, form)
