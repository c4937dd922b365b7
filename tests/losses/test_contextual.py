"""Contextual loss: hand-solved cases, invariances, and that blocks change nothing."""

import pytest
import torch

from midms.losses import contextual
from midms.losses.contextual import contextual_loss, style_loss


def maps(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_equal_maps_cost_almost_nothing_and_others_cost_something():
    x, y = maps(0, 2, 16, 5, 7), maps(1, 2, 16, 5, 7)
    assert contextual_loss(x, x) < 1e-4
    assert contextual_loss(x, y, threshold=0.0) > 0.3


def test_style_has_no_place_when_nothing_is_centred():
    x = maps(0, 1, 16, 6, 4)
    turned = x.flip(2, 3)
    noisy = x + 0.3 * maps(1, 1, 16, 6, 4)
    torch.testing.assert_close(contextual_loss(noisy, x, centre=False), contextual_loss(noisy, turned, centre=False))


def test_maps_of_other_sizes_compare_when_nothing_is_centred():
    loss = contextual_loss(maps(0, 1, 8, 4, 5), maps(1, 1, 8, 3, 9), centre=False, threshold=0.0)
    assert torch.isfinite(loss)
    with pytest.raises(ValueError, match="centre=True"):
        contextual_loss(maps(0, 1, 8, 4, 5), maps(1, 1, 8, 3, 9))


def test_no_similar_position_gives_zero_and_no_gradient():
    x = maps(0, 1, 256, 12, 12).requires_grad_()
    loss = contextual_loss(x, maps(1, 1, 256, 12, 12))
    loss.backward()
    assert loss == 0 and not x.grad.any()


def test_a_sample_counts_the_same_in_any_batch():
    """Per sample the loss is a mean over the samples; over the whole batch it is not."""
    x, y = maps(0, 3, 8, 5, 6), maps(1, 3, 8, 5, 6)
    alone = torch.stack([contextual_loss(x[k : k + 1], y[k : k + 1], threshold=0.05) for k in range(3)]).mean()
    torch.testing.assert_close(contextual_loss(x, y, threshold=0.05, per_sample=True), alone)
    assert not torch.isclose(contextual_loss(x, y, threshold=0.05), alone, rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_blocks_give_the_same_loss_and_gradient(monkeypatch, threshold):
    y = maps(1, 2, 12, 6, 8)
    results = []
    for entries in (2**22, 2 * 48 * 5):
        monkeypatch.setattr(contextual, "_BLOCK_ENTRIES", entries)
        x = (y + 0.5 * maps(0, 2, 12, 6, 8)).requires_grad_()
        loss = contextual_loss(x, y, threshold=threshold)
        loss.backward()
        results.append((loss.detach(), x.grad))
    torch.testing.assert_close(results[0], results[1])


def test_the_textbook_form_of_the_similarity():
    x, y, h = maps(0, 1, 6, 3, 3), maps(1, 1, 6, 3, 3), 0.5
    a, b = (torch.nn.functional.normalize(z.flatten(2), dim=1) for z in (x, y))
    d = 1 - a.transpose(1, 2) @ b
    w = torch.exp((1 - d / (d.min(dim=2, keepdim=True).values + 1e-3)) / h)
    similarity = (w / w.sum(dim=2, keepdim=True)).max(dim=2).values
    expected = -similarity.mean().log()
    torch.testing.assert_close(contextual_loss(x, y, h, centre=False, threshold=0.0), expected)


def test_style_loss_sums_layers_and_names_a_missing_one():
    x, y = {"a": maps(0, 1, 8, 8, 8), "b": maps(1, 1, 8, 4, 4)}, {"a": maps(2, 1, 8, 8, 8), "b": maps(1, 1, 8, 4, 4)}
    pooled = [torch.nn.functional.avg_pool2d(m["a"], 2) for m in (x, y)]
    expected = 3 * contextual_loss(*pooled) + contextual_loss(x["b"], y["b"])
    torch.testing.assert_close(style_loss(x, y, {"a": 3.0, "b": 1.0}, {"a": 2}), expected)
    with pytest.raises(ValueError, match="'c'"):
        style_loss(x, y, {"c": 1.0})
