"""Retrieval of exemplars: exact against a plain search, and it finds the same style in the built-in benchmark."""

from __future__ import annotations

import pytest
import torch

from benchmarks.retrieval import style_hits
from midms.data.retrieval import group_numbers, module_features, nearest


def test_nearest_is_a_plain_cosine_search_without_the_own_group():
    numbers = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(7, 5, generator=numbers), torch.randn(30, 5, generator=numbers)
    query_groups, key_groups = torch.arange(7), torch.arange(30) // 3
    indices, cosines = nearest(queries, keys, 4, query_groups, key_groups, chunk=3)
    for row in range(7):
        plain = torch.cosine_similarity(queries[row][None], keys, dim=1)
        plain[key_groups == row] = -2
        best = plain.sort(descending=True)
        assert indices[row].tolist() == best.indices[:4].tolist()
        torch.testing.assert_close(cosines[row], best.values[:4])


def test_too_few_others_is_an_error():
    keys = torch.eye(3)
    with pytest.raises(ValueError, match="fewer than 2 others"):
        nearest(keys, keys, 2, torch.zeros(3), torch.tensor([0, 0, 1]))
    with pytest.raises(ValueError, match=r"4 nearest of 3 photos"):
        nearest(keys, keys, 4)
    with pytest.raises(ValueError, match="one side only"):
        nearest(keys, keys, 1, torch.zeros(3))


def test_group_numbers():
    first, second = group_numbers(["a", "b", "a"], ["b", "c"])
    assert first.tolist() == [0, 1, 0] and second.tolist() == [1, 2]


def test_features_by_a_module_are_averaged_over_places():
    batches = [torch.randn(2, 3, 4, 4), torch.randn(1, 3, 4, 4)]
    got = module_features(torch.nn.Identity(), batches)
    torch.testing.assert_close(got, torch.cat(batches).mean((2, 3)))


@pytest.mark.parametrize(("task", "factor"), [("faces", 60), ("figures", 35), ("churches", 25)])
def test_same_style_scenes_are_found_many_times_more_often_than_by_chance(task, factor):
    hits, chance = style_hits(task, styles=40)
    assert hits > factor * chance
