"""Encoded conditions and exemplars: joined, repeated, selected."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from midms.models.encoded import (
    Condition,
    Exemplar,
    join_conditions,
    join_exemplars,
    repeat_condition,
    repeat_exemplar,
)
from midms.models.encoders import ConditionFeatures


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exemplar(seed: int, count: int = 1, size: int = 4, masked: bool = False) -> Exemplar:
    latent, features, key = (draw(count, c, size, size, seed=seed + k) for k, c in enumerate((3, 8, 8)))
    return Exemplar(latent, features, key, (draw(count, 1, size, size, seed=seed + 3) > 0).float() if masked else None)


def condition(seed: int, size: int = 4, picture: tuple[int, int] | None = None) -> Condition:
    parts = (draw(1, c, size, size, seed=seed + c) for c in (8, 7, 5))
    return Condition(ConditionFeatures(*parts), (4 * size, 4 * size), picture)


def test_a_joined_batch_holds_each_exemplar_in_its_place() -> None:
    one, two = exemplar(0), exemplar(10, count=2)
    joined = join_exemplars([one, two])
    for field in ("latent", "features", "key"):
        assert torch.equal(getattr(joined, field), torch.cat([getattr(one, field), getattr(two, field)]))
    assert joined.mask is None


def test_an_exemplar_without_a_mask_is_allowed_everywhere_beside_one_with() -> None:
    free, masked = exemplar(0), exemplar(10, masked=True)
    joined = join_exemplars([free, masked])
    assert joined.mask is not None and masked.mask is not None
    assert torch.equal(joined.mask[:1], torch.ones(1, 1, 4, 4)) and torch.equal(joined.mask[1:], masked.mask)


@pytest.mark.parametrize("masked", [False, True])
def test_one_exemplar_serves_all_conditions(masked: bool) -> None:
    one = exemplar(0, masked=masked)
    repeated = repeat_exemplar(one, 3)
    for field, tensor in repeated._asdict().items():
        kept = getattr(one, field)
        assert (tensor is None) == (kept is None)
        if tensor is not None:
            assert tensor.shape[0] == 3 and all(torch.equal(row, kept[0]) for row in tensor)
    assert repeated.latent.untyped_storage().data_ptr() == one.latent.untyped_storage().data_ptr(), "no copies"


def test_as_many_exemplars_as_conditions_stay_and_other_numbers_are_refused() -> None:
    two = exemplar(0, count=2)
    assert repeat_exemplar(two, 2) is two
    with pytest.raises(ValueError, match="2 exemplars for 3 conditions: expected 1 or 3"):
        repeat_exemplar(two, 3)


def test_selecting_and_joining_again_changes_nothing() -> None:
    both = exemplar(0, count=4, masked=True)
    parts = [both.map(lambda tensor, part=part: tensor[part]) for part in (slice(0, 1), slice(1, 4))]
    again = join_exemplars(parts)
    assert all(torch.equal(a, b) for a, b in zip(again, both, strict=True) if a is not None and b is not None)
    assert again.mask is not None


def test_conditions_of_one_size_are_joined() -> None:
    joined = join_conditions([condition(0, picture=(30, 40)), condition(20, picture=(30, 40))])
    assert all(len(part) == 2 for part in joined.encoded) and joined.size == (16, 16)
    assert joined.picture == (30, 40)
    assert torch.equal(joined.encoded.raw[1:], condition(20).encoded.raw)
    mixed = join_conditions([condition(0, picture=(30, 40)), condition(20)])
    assert mixed.picture is None, "results of several pictures' sizes keep the maps' own"


def test_one_condition_serves_all_exemplars() -> None:
    one = condition(0)
    repeated = repeat_condition(one, 3)
    assert all(len(part) == 3 and torch.equal(part[2], part[0]) for part in repeated.encoded)
    assert (repeated.size, repeated.picture) == (one.size, one.picture)
    two = join_conditions([one, condition(20)])
    assert repeat_condition(two, 3) is two


def test_what_cannot_be_joined_is_named() -> None:
    with pytest.raises(ValueError, match=r"exemplars to be joined: .* got sizes \[\(4, 4\), \(5, 5\)\]"):
        join_exemplars([exemplar(0), exemplar(0, size=5)])
    with pytest.raises(ValueError, match=r"conditions to be joined: .* got sizes \[\(16, 16\), \(20, 20\)\]"):
        join_conditions([condition(0), condition(0, size=5)])
    with pytest.raises(ValueError, match=r"exemplars to be joined: expected at least one, .* got sizes \[\]"):
        join_exemplars([])
