"""The released inference in our words: what each branch of it gives."""

from __future__ import annotations

import pytest
import torch

from benchmarks.networks import Pairs, random_model, random_pairs
from benchmarks.released_sampling import (
    Branches,
    dense_match,
    dense_rematch,
    encode_branches,
    rematcher,
)
from benchmarks.released_training import plain_iteration
from midms.diffusion.settings import InterleaveSettings
from midms.matching.confidence import cycle_consistency_mask
from midms.models.midms import MIDMs
from parity.dense_matching import DenseMatching

SETTINGS = InterleaveSettings.released().replace(refine_steps=0)


@pytest.fixture(scope="module")
def model() -> MIDMs:
    return random_model("tiny")


@pytest.fixture(scope="module")
def pairs(model: MIDMs) -> Pairs:
    return random_pairs(model, 32, 2)


@pytest.fixture(scope="module")
def branches(model: MIDMs, pairs: Pairs) -> Branches:
    with torch.no_grad():
        return encode_branches(model, pairs)


def test_branches_are_what_the_model_encodes(model: MIDMs, pairs: Pairs, branches: Branches) -> None:
    with torch.no_grad():
        exemplar = model.encode_exemplar(pairs.exemplar, pairs.exemplar_condition)
        condition = model.encode_condition(pairs.condition)
    torch.testing.assert_close(branches.exemplar.latent, exemplar.latent)
    torch.testing.assert_close(branches.exemplar.features, exemplar.features)
    torch.testing.assert_close(branches.exemplar.key, exemplar.key)
    torch.testing.assert_close(branches.condition.features, condition.features)
    assert branches.labels.shape == (2, 15, 8, 8) and branches.source.latent.shape == exemplar.latent.shape


def test_the_first_match_is_the_models_with_clamped_cosines(model: MIDMs, branches: Branches) -> None:
    condition, exemplar, _, labels = branches
    with torch.no_grad():
        warp = dense_match(condition.features, exemplar.features, exemplar.latent, labels, model.temperature)
        own = model.first_match(condition, [exemplar], clamp=True).warp
    torch.testing.assert_close(warp, own, rtol=0, atol=2e-3)  # the release's 1e-5 in the norms is left out in `own`


def test_a_rewarp_has_a_mask_in_the_exemplar_branch_only(model: MIDMs, branches: Branches) -> None:
    condition, exemplar, source, labels = branches
    query = condition.features
    given = (query, exemplar.key, exemplar.latent)
    rewarp = dense_rematch(*given, labels, SETTINGS, model.temperature)
    matching = DenseMatching.of(query, exemplar.key, model.temperature)
    torch.testing.assert_close(rewarp.warp, matching.warp(exemplar.latent))
    torch.testing.assert_close(rewarp.cycles[0], matching.warp_back(rewarp.warp))
    expected = cycle_consistency_mask(matching.maps()[0], None, SETTINGS.threshold, "released")
    assert torch.equal(rewarp.mask, expected) and set(expected.unique().tolist()) <= {0.0, 1.0}
    other = dense_rematch(query, source.key, source.latent, None, SETTINGS, model.temperature)
    assert not other.mask.any() and len(other.cycles) == 1, "the source keeps its predictions"


def test_the_block_is_called_with_the_features_of_the_prediction(model: MIDMs, branches: Branches) -> None:
    condition, exemplar, _, labels = branches
    prediction = torch.zeros_like(exemplar.latent)
    seen: list[torch.Tensor] = []

    def block(query, key, latent, maps, settings, temperature):
        seen.extend([query, key, latent, maps])
        return dense_rematch(query, key, latent, maps, settings, temperature)

    with torch.no_grad():
        rematcher(model, condition, exemplar, labels, SETTINGS, block)(prediction)
        torch.testing.assert_close(seen[0], model.encoders.encode_iterate(prediction, condition))
    assert seen[1] is exemplar.key and seen[2] is exemplar.latent and seen[3] is labels


def test_a_plain_iteration_has_two_cycles_of_each_branch(model: MIDMs, pairs: Pairs) -> None:
    generator = torch.Generator().manual_seed(0)
    noises = {
        name: torch.randn(2, 3, 8, 8, generator=generator) for name in ("exemplar_start", "source_start", "fresh")
    }
    with torch.no_grad():
        iterations = [plain_iteration(model, pairs, SETTINGS, noises.__getitem__, index) for index in (0, 3)]
    first, last = iterations
    assert len(first.rewarp_cycles) == 2 * len(SETTINGS.rewarped_steps()) == 4
    exemplars, sources = first.rewarp_cycles[:2], first.rewarp_cycles[2:]
    assert all(torch.equal(latent, first.exemplar_latent) for _, latent in exemplars)
    assert all(torch.equal(latent, first.source_latent) for _, latent in sources)
    assert first.segmentation is None and first.exemplar_result.shape == (2, 3, 32, 32)
    assert torch.equal(first.exemplar_result, last.exemplar_result), "the drawn call changes the diffusion term alone"
    assert not torch.allclose(first.diffused, last.diffused)
