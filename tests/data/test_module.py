"""The training order: a function of the seed, shared out over ranks, and resumable anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midms.data.module import ShardSampler, StepSampler


@given(st.integers(1, 13), st.integers(1, 40), st.integers(0, 40), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_starting_later_skips_just_what_was_used(length, samples, start, seed):
    whole = list(StepSampler(length, samples, seed))
    assert list(StepSampler(length, samples, seed, start=min(start, samples))) == whole[start:]
    assert len(whole) == samples and sorted(whole[:length]) == sorted(set(whole[:length]))


def test_ranks_share_one_order():
    ranks = [list(StepSampler(7, 10, rank=rank, ranks=2)) for rank in (0, 1)]
    together = [index for pair in zip(*ranks, strict=True) for index in pair]
    assert together == list(StepSampler(7, 20))


def test_draws_are_the_epoch_and_survive_a_start():
    """A data set that draws views is told which draw: each index once a draw, the same from any start."""
    whole = list(StepSampler(5, 12, draws=True))
    assert [draw for _, draw in whole] == [0] * 5 + [1] * 5 + [2] * 2
    assert [index for index, _ in whole] == list(StepSampler(5, 12))
    assert list(StepSampler(5, 12, start=7, draws=True)) == whole[7:]


@given(st.integers(1, 12), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_ranks_share_the_validation_set(length, ranks):
    """Each item once, and no rank without any (it would wait for the others for ever)."""
    shares = [list(ShardSampler(length, rank, ranks)) for rank in range(ranks)]
    assert all(shares) and set().union(*shares) == set(range(length))
    assert sum(map(len, shares)) == max(length, ranks)


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="empty"):
        StepSampler(0, 4)
