"""Schedules, per-step random numbers, and the average of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from midms.training.optimisation import (
    WeightAverage,
    adamw,
    multi_step,
    sample_generators,
    step_generator,
    warmup_cosine,
)


def rates(make, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule, seen = make(optimizer), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_warmup_rises_then_falls_to_nothing():
    seen = rates(lambda optimizer: warmup_cosine(optimizer, 4, 20), 21)
    assert seen[:4] == [0.5, 1.0, 1.5, 2.0] and seen[4] == 2.0
    assert seen[4:] == sorted(seen[4:], reverse=True)
    assert seen[12] == pytest.approx(1.0) and seen[20] == pytest.approx(0)


def test_multi_step_multiplies_at_each_milestone():
    assert rates(lambda optimizer: multi_step(optimizer, [2, 4], 0.3), 5) == pytest.approx([2, 2, 0.6, 0.6, 0.18])


def test_a_step_has_numbers_of_its_own():
    def draw(*key: int) -> float:
        return float(torch.rand((), generator=step_generator(*key)))

    assert draw(1, 5) == draw(1, 5)
    assert len({draw(1, 5), draw(1, 6), draw(2, 5), draw(1, 5, 1), draw(1, -5)}) == 5


def test_samples_keep_their_numbers_when_ranks_share_a_step():
    """One rank with four samples draws what two ranks with two each draw, taking turns."""

    def draw(places, rank=0, ranks=1):
        return [float(torch.rand((), generator=one)) for one in sample_generators(3, 7, places, rank, ranks)]

    alone = draw(range(4))
    assert alone[0::2] == draw(range(2), 0, 2) and alone[1::2] == draw(range(2), 1, 2)
    assert draw(range(2, 4)) == alone[2:], "a part of a batch draws its share"


def test_the_average_follows_the_weights():
    module = nn.Linear(2, 1)
    average = WeightAverage(module, decay=0.5)
    start = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1)
    average.update(module)
    weight = 1 - min(0.5, 2 / 11)
    torch.testing.assert_close(average.weights()["weight"], start + weight)
    other = nn.Linear(2, 1)
    average.copy_to(other)
    torch.testing.assert_close(other.weight.detach(), start + weight)
    assert WeightAverage(nn.Linear(2, 1)).load_state_dict(average.state_dict())


def test_one_kernel_gives_the_plain_steps():
    """The default on the CPU against torch's plain form, over steps with a gradient of their own each."""
    start = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = []
    for fused in (None, False):
        weight = nn.Parameter(start.clone())
        optimizer = adamw([weight], 1e-2, 0.05, fused, torch.device("cpu"))
        assert optimizer.param_groups[0]["fused"] is (fused is None)
        for step in range(20):
            weight.grad = torch.randn(50, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
            optimizer.step()
        weights.append(weight.detach())
    assert (weights[0] - weights[1]).abs().max() < 1e-12 < (weights[0] - start).abs().max()
