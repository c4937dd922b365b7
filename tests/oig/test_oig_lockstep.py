"""Two calls per step, four sets of features, and the numbers of the plain way of doing it."""

from __future__ import annotations

import pytest
import torch
from tiny_stable_diffusion import tiny_components

from midms.oig.features import FeatureTap, structure_layers
from midms.oig.guidance import feature_distances, guided_noise
from midms.oig.lockstep import Conditions, Lockstep
from midms.oig.networks import NoisePredictor

COMPONENTS = tiny_components()
UNET = COMPONENTS["unet"].double().requires_grad_(False)
LAYERS = list(structure_layers(UNET).values())
MODEL = NoisePredictor(UNET, COMPONENTS["scheduler"].alphas_cumprod)
SCALE = 5.0


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_step(
    source: torch.Tensor, target: torch.Tensor, t: int, conditions: Conditions, previous: list[torch.Tensor] | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor, list[torch.Tensor]]:
    """One image, both halves in one call with gradient: noise, distances, the doubled leaf, features."""
    negative = conditions.negative
    assert negative is not None
    leaf = torch.cat([target, target]).requires_grad_()
    with torch.no_grad(), FeatureTap(LAYERS) as source_tap:
        MODEL(torch.cat([source, source]), t, torch.cat([negative, conditions.source]))
    with FeatureTap(LAYERS) as tap:
        halves = MODEL(leaf, t, torch.cat([negative, conditions.target])).chunk(2)
    to_source = feature_distances(tap.features, source_tap.features).mean(1)
    to_previous = None if previous is None else feature_distances(tap.features, previous).mean(1)
    return guided_noise(halves[0], halves[1], SCALE), to_source, to_previous, leaf, [f.detach() for f in tap.features]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("full", [True, False])
def test_it_equals_both_halves_in_one_call(full: bool, shared: bool) -> None:
    source_text, target_text, negative = (draw(1, 16, 24, seed=s) for s in range(3))
    conditions = Conditions(source_text, target_text, source_text if shared else negative)
    lockstep = Lockstep(MODEL, LAYERS, conditions, SCALE, full)
    previous = None
    for k, t in enumerate((801, 601, 401)):
        source, target = draw(1, 4, 8, 12, seed=10 + k), draw(1, 4, 8, 12, seed=20 + k)
        seen = lockstep(source, target, t)
        noise, to_source, to_previous, leaf, previous = plain_step(source, target, t, conditions, previous)
        torch.testing.assert_close(seen.target_noise, noise)
        assert seen.to_source is not None
        torch.testing.assert_close(seen.to_source[:, 0], to_source)
        loss, reference_loss = (
            seen.target_noise.square().sum() + seen.to_source.sum(),
            noise.square().sum() + to_source.sum(),
        )
        if to_previous is not None:
            assert seen.to_previous is not None
            torch.testing.assert_close(seen.to_previous[:, 0], to_previous)
            loss, reference_loss = loss - seen.to_previous.sum(), reference_loss - to_previous.sum()
        (gradient,) = torch.autograd.grad(loss, seen.leaf)
        (halves,) = torch.autograd.grad(reference_loss, leaf)
        torch.testing.assert_close(gradient, halves.sum(0, keepdim=True) if full else halves[:1])
        lockstep.memory.step_done()


def test_features_in_memory() -> None:
    """At most four one-branch sets, whatever the negative prompt; all storages together, not only the views."""
    text = [draw(1, 16, 24, seed=s) for s in range(3)]
    with torch.no_grad(), FeatureTap(LAYERS) as tap:
        MODEL(draw(1, 4, 8, 8, seed=3), 1, text[0])
    one_branch = sum(f.numel() * f.element_size() for f in tap.features)
    for negative in (text[0], text[2]):
        lockstep = Lockstep(MODEL, LAYERS, Conditions(text[0], text[1], negative), SCALE, full=False)
        for t in (801, 601, 401):
            seen = lockstep(draw(1, 4, 8, 8, seed=t), draw(1, 4, 8, 8, seed=t + 1), t)
            memory = lockstep.memory
            maps = [*memory.source, *memory.current, *memory.previous, *memory.previous_plain]
            storages = {m.untyped_storage().data_ptr(): m.untyped_storage().nbytes() for m in maps}
            assert sum(storages.values()) == memory.nbytes() <= 4 * one_branch
            assert seen.to_source is not None
            lockstep.memory.step_done()
        assert lockstep.memory.nbytes() == 2 * one_branch


def test_without_classifier_free_guidance() -> None:
    source_text, target_text = draw(1, 16, 24, seed=0), draw(1, 16, 24, seed=1)
    lockstep = Lockstep(MODEL, LAYERS, Conditions(source_text, target_text, None), 1.0, full=False)
    source, target = draw(1, 4, 8, 8, seed=2), draw(1, 4, 8, 8, seed=3)
    seen = lockstep(source, target, 301)
    torch.testing.assert_close(seen.source_noise, MODEL(source, 301, source_text))
    torch.testing.assert_close(seen.target_noise, MODEL(target, 301, target_text))
