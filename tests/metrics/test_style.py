"""Style and semantic cosines: hand-solved values, regions, ranges."""

import pytest
import torch

from midms.metrics.style import COSINES, region_pooled_cosine, semantic_consistency, style_relevance


def maps(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", COSINES)
def test_every_cosine_is_one_at_home_and_below_elsewhere(name):
    a, b = maps(0, 2, 6, 5, 8), maps(1, 2, 6, 5, 8)
    cosine = COSINES[name]
    torch.testing.assert_close(cosine(a, 2 * a), torch.ones(2, dtype=torch.float64))
    assert (cosine(a, b) < 1 - 1e-4).all()


def test_regions_are_weighted_by_their_area():
    labels = torch.zeros(1, 4, 8, dtype=torch.int64)
    labels[..., 6:] = 3  # a quarter of the area; regions 1 and 2 are empty
    a = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 8)
    b = a.clone()
    b[..., 6:] = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    assert region_pooled_cosine(a, b, labels).item() == pytest.approx(0.75)
    assert region_pooled_cosine(a, b, labels, degrees=True).item() == pytest.approx(22.5)


def test_maps_are_enlarged_to_the_labels_by_nearest_neighbour():
    a, b = maps(0, 2, 5, 3, 4), maps(1, 2, 5, 3, 4)
    labels = torch.randint(0, 4, (2, 12, 20), generator=torch.Generator().manual_seed(2))
    large = [torch.nn.functional.interpolate(x, size=(12, 20), mode="nearest") for x in (a, b)]
    torch.testing.assert_close(region_pooled_cosine(a, b, labels), region_pooled_cosine(*large, labels))


def test_without_labels_the_image_is_one_region():
    a, b = maps(0, 2, 5, 3, 4), maps(1, 2, 5, 3, 4)
    torch.testing.assert_close(region_pooled_cosine(a, b), COSINES["channel-mean"](a, b))


def test_the_two_scores_take_the_papers_layers():
    layers = [f"relu{k}_2" for k in range(1, 6)]
    a = {name: maps(k, 1, 4, 8, 8) for k, name in enumerate(layers)}
    b = {name: maps(k + 9, 1, 4, 8, 8) for k, name in enumerate(layers)}
    relevance = style_relevance(a, b)
    torch.testing.assert_close(relevance.texture, COSINES["channel-mean"](a["relu2_2"], b["relu2_2"]))
    expected = sum(region_pooled_cosine(a[name], b[name]) for name in layers[2:]) / 3
    torch.testing.assert_close(semantic_consistency(a, b), expected)
