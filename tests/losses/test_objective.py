"""The released sum: which term counts when, and with what weight."""

import pytest
import torch

from midms.losses.objective import (
    RELEASED_LOSS_WEIGHTS,
    Iteration,
    ReleasedLossWeights,
    Segmentation,
    released_objective,
)

LAYERS = [f"relu{k}_2" for k in range(1, 6)]


def features(images):
    """A stand-in for VGG-19: the image at five sizes, with channels enough to be told apart."""
    pooled = [torch.nn.functional.avg_pool2d(images, 2**k) if k else images for k in range(4)]
    maps = [torch.cat([x, x**2, x.roll(1, 3)], dim=1) for x in (*pooled, pooled[3])]
    return dict(zip(LAYERS, maps, strict=True))


@pytest.fixture
def iteration():
    rng = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.rand(*shape, generator=rng, requires_grad=True)

    latents = [draw(2, 3, 8, 8) for _ in range(6)]
    labels = torch.randint(0, 3, (2, 1, 16, 16), generator=rng)
    return Iteration(
        *(draw(2, 5, 8, 8) for _ in range(3)),
        source_latent=latents[0],
        exemplar_latent=latents[1],
        exemplar_cycle=latents[2],
        rewarp_cycles=[(latents[3], latents[1]), (latents[4], latents[0])],
        diffused=latents[5],
        source_result=draw(2, 3, 32, 32),
        exemplar_result=draw(2, 3, 32, 32),
        segmentation=Segmentation(draw(2, 3, 8, 8), labels, labels.flip(0)),
    )


def run(iteration, number, **changes):
    images = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    weights = ReleasedLossWeights(**changes) if changes else None
    return released_objective(iteration, images[0], images[1], features, number, warmup=10, weights=weights)


@pytest.mark.parametrize(("number", "style", "warp"), [(9, 0, 1), (10, 0, 0), (11, 1, 0)])
def test_style_starts_after_and_warp_stops_at_the_warmups_end(iteration, number, style, warp):
    terms = run(iteration, number)
    always = 10 * terms.dom + terms.cycle + terms.rewarp_cycle + terms.src + 0.002 * terms.perc + terms.diff
    torch.testing.assert_close(terms.total, always + style * terms.style + 100 * warp * terms.warp)


def test_the_first_cycle_counts_twice_without_rewarps(iteration):
    terms = run(iteration._replace(rewarp_cycles=[], segmentation=None), 3)
    assert terms.rewarp_cycle == terms.cycle and terms.warp is None


def test_weights_scale_their_terms(iteration):
    base, heavy = run(iteration, 11), run(iteration, 11, style=3.0, perc=1.0)
    torch.testing.assert_close(heavy.total - base.total, 2 * base.style + 0.998 * base.perc)


def test_churches_have_their_own_perceptual_term(iteration):
    churches = RELEASED_LOSS_WEIGHTS["churches"]
    assert (churches.perc, churches.perceptual_layer) == (0.05, "relu5_2")
    deeper = run(iteration, 11, perceptual_layer="relu5_2")
    assert run(iteration, 11, perceptual_layer="relu1_2").perc != deeper.perc


def test_gradients_reach_results_but_no_target(iteration):
    run(iteration, 11).total.backward()
    for name in ("condition_features", "source_features", "exemplar_cycle", "diffused", "exemplar_result"):
        assert getattr(iteration, name).grad is not None
    for name in ("exemplar_features", "source_latent", "exemplar_latent"):
        assert getattr(iteration, name).grad is None
