"""Time by part: what is counted, and that nothing stays behind on the model."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from benchmarks.networks import random_model, random_pairs
from benchmarks.parts import PARTS, PartClock, watching
from midms.diffusion.settings import InterleaveSettings
from midms.models.midms import MIDMs

SETTINGS = InterleaveSettings.released()


@pytest.fixture(scope="module")
def model() -> MIDMs:
    return random_model("tiny")


@torch.no_grad()
def translate(model: MIDMs) -> torch.Tensor:
    pairs = random_pairs(model, 32, 1)
    exemplar = model.encode_exemplar(pairs.exemplar, pairs.exemplar_condition)
    condition = model.encode_condition(pairs.condition)
    result = model.translate(condition, [exemplar], SETTINGS, [torch.Generator().manual_seed(0)])
    return model.decode(result.latent)


def test_calls_are_those_of_the_released_schedule(model: MIDMs) -> None:
    """N = 4 calls and 20 of the refinement; the first match and two re-warps; condition, exemplar and two iterates."""
    clock = PartClock()
    with watching(model, clock.wrap):
        translate(model)
    assert clock.calls == Counter(unet=24, decode=1, encode=1, encoders=4, matching=3)
    assert set(clock.milliseconds) == set(PARTS) and min(clock.milliseconds.values()) >= 0


def test_watching_changes_no_result_and_leaves_no_trace(model: MIDMs) -> None:
    plain, before = translate(model), [dict(part.__dict__) for part in model.modules()]
    with watching(model, PartClock().wrap):
        watched = translate(model)
    assert torch.equal(watched, plain)
    assert [set(part.__dict__) for part in model.modules()] == [set(kept) for kept in before]


def test_the_methods_come_back_after_an_error(model: MIDMs) -> None:
    with pytest.raises(RuntimeError, match="stopped"), watching(model, PartClock().wrap):
        raise RuntimeError("stopped")
    assert all("forward" not in part.__dict__ and "match" not in part.__dict__ for part in model.modules())


def test_a_call_that_fails_is_counted_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 3.5])
    clock = PartClock()
    monkeypatch.setattr(clock, "now", lambda: next(times))

    def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        clock.wrap("unet", broken)()
    assert clock.calls == {"unet": 1} and clock.milliseconds == {"unet": 2.5}


def test_arguments_and_results_pass_through() -> None:
    wrapped = PartClock().wrap("decode", lambda *args, **options: (args, options))
    assert wrapped(1, 2, size=3) == ((1, 2), {"size": 3})
