"""Matching and then generation: shapes, what depends on what, how often what is called, and its own equations."""

from __future__ import annotations

import pytest
import torch

from midms.checkpoints.loading import load_first_stage
from midms.matching.correspondence import correlation, normalize_features, soft_warp
from midms.models.encoders import CorrespondenceEncoders
from midms.models.translation_gan import GANSettings, Generator, MatchingGAN, generator_config

ENCODERS = {"latent_channels": 3, "condition_channels": 15, "widths": [8, 8, 16], "out_channels": 16, "hidden": 8,
            "padding_mode": "reflect", "form": "paper", "condition_input": "unshuffle", "iterate": False}  # fmt: skip
GENERATOR = {"widths": [16, 16, 8], "hidden": 8, "condition_width": 2}


def build(weights, **changes):
    torch.manual_seed(3)
    encoders, stage = CorrespondenceEncoders(**ENCODERS), load_first_stage(weights)
    config = generator_config(encoders, stage.factor, GENERATOR | changes)
    return MatchingGAN(stage, encoders, Generator(config), temperature=0.05).eval()


@pytest.fixture
def model(tiny_weights):
    return build(tiny_weights)


def pair(count=2, height=32, width=32, seed=5):
    rng = torch.Generator().manual_seed(seed)
    condition = torch.rand(count, 15, height, width, generator=rng)
    return condition, torch.rand(count, 3, height, width, generator=rng) * 2 - 1


@torch.no_grad()
def translate(model, condition, exemplar, generations=1, **options):
    encoded = [model.encode_exemplar(exemplar)]
    return model.translate(model.encode_condition(condition), encoded, GANSettings(generations), **options)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40), (12, 20), (8, 8)])
def test_any_grid_gives_pictures_of_its_size(model, height, width):
    """Also where a size is no power of two."""
    condition, exemplar = pair(2, height, width)
    found = translate(model, condition, exemplar)
    assert found.latent.shape == (2, 48, height // 4, width // 4)
    image = model.decode(found.latent)
    assert image.shape == (2, 3, height, width) and image.abs().max() <= 1


def test_a_single_position_is_enough_for_the_generator(model):
    with torch.no_grad():
        assert model.generator(torch.rand(1, 48, 1, 1), torch.rand(1, 240, 1, 1)).shape == (1, 3, 4, 4)


def test_other_sizes_are_padded_and_cut(model):
    condition, exemplar = pair(1, 30, 45)
    _, other = pair(1, 21, 33)
    found = translate(model, condition, other)
    assert model.decode(found.latent, (30, 45)).shape == (1, 3, 30, 45)
    assert torch.equal(model.decode(model.encode_exemplar(exemplar).latent, (30, 45)), exemplar)


def test_a_picture_does_not_depend_on_its_batch(model):
    condition, exemplar = pair(3)
    together = translate(model, condition, exemplar, 2).latent
    alone = [translate(model, condition[i : i + 1], exemplar[i : i + 1], 2).latent for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_the_warp_is_the_mean_of_the_exemplars_blocks_by_similarity(model):
    """Eq. 5 and 6 in full, on the pixels; then again with the photo encoder's features of what was generated."""
    condition, exemplar = pair()
    found = translate(model, condition, exemplar, 2)
    blocks = torch.nn.functional.pixel_unshuffle(exemplar, 4)
    with torch.no_grad():
        encoders, features = model.encoders, model.encode_condition(condition)
        key = encoders.encode_exemplar(model.first_stage.encode(exemplar)).features

        def warp(query):
            cosines = correlation(normalize_features(query), normalize_features(key))
            return soft_warp(blocks, cosines, model.temperature)

        first = warp(features.features)
        generated = model.generate(first, features)
        again = warp(encoders.encode_exemplar(model.first_stage.encode(generated)).features)
        last = model.generate(again, features)
    torch.testing.assert_close(found.first.warp, first, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.decode(found.loop.predictions[0]), generated, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.loop.rewarps[0].warp, again, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.decode(found.latent), last, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("generations", [1, 3])
def test_one_generation_and_one_match_a_time(model, generations, monkeypatch):
    """The exemplar is encoded once; each picture but the last is encoded and matched again."""
    counts = {"generator": 0, "first stage": 0, "match": 0}

    def counting(name, function):
        def call(*arguments, **options):
            counts[name] += 1
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(model.generator, "forward", counting("generator", model.generator.forward))
    monkeypatch.setattr(model.first_stage, "encode", counting("first stage", model.first_stage.encode))
    monkeypatch.setattr(model, "match", counting("match", model.match))
    records = []
    found = translate(model, *pair(), generations, callback=records.append)
    assert counts == {"generator": generations, "first stage": generations, "match": generations}
    assert [record.n for record in records] == list(range(generations, 0, -1))
    assert [record.rewarp is not None for record in records] == [True] * (generations - 1) + [False]
    assert torch.equal(records[-1].prediction, found.latent) and len(found.loop.rewarps) == generations - 1


def test_what_the_generator_sees(tiny_weights):
    """The condition steers it, unless it is told to see the warp alone."""
    for width, differs in ((2, True), (0, False)):
        generator = build(tiny_weights, condition_width=width).generator
        warp, grid = torch.rand(1, 48, 8, 8), torch.rand(1, 240, 8, 8)
        with torch.no_grad():
            first, second = generator(warp, grid), generator(warp, 1 - grid)
            assert not torch.equal(first, generator(1 - warp, grid))
        assert torch.equal(first, second) != differs


def test_masks_and_several_exemplars(model):
    """Positions outside a mask give nothing; two exemplars compete for each position."""
    condition, exemplar = pair(1)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    with torch.no_grad():
        features = model.encode_condition(condition)
        left = model.encode_exemplar(exemplar, mask=mask)
        changed = exemplar.clone()
        changed[..., 16:] = -changed[..., 16:]
        one = model.first_match(features, [left]).warp
        two = model.first_match(features, [left._replace(latent=model.encode_exemplar(changed).latent)]).warp
        both = model.translate(features, [left, model.encode_exemplar(-exemplar)], GANSettings(2))
    assert torch.equal(one, two)
    assert both.first.share.shape == (1, 2, 8, 8)


def test_mistakes_say_what_was_expected(tiny_weights, model):
    released = CorrespondenceEncoders(**ENCODERS | {"form": "released", "condition_input": "nearest"})
    with pytest.raises(ValueError, match=r"form is 'released', expected 'paper'"):
        MatchingGAN(load_first_stage(tiny_weights), released, model.generator)
    with pytest.raises(ValueError, match=r"num_interleaved_steps: got 0, expected 1"):
        GANSettings(0)
    with pytest.raises(ValueError, match=r"no diffusion steps, got T = 16"):
        GANSettings().with_steps(16)
    assert GANSettings().with_steps(None, 3) == GANSettings(3) and GANSettings(2).with_steps() == GANSettings(2)
    with pytest.raises(ValueError, match=r"factor follow from the encoders"):
        generator_config(model.encoders, 4, {"factor": 8})
    with pytest.raises(ValueError, match=r"unknown key\(s\) width"):
        generator_config(model.encoders, 4, {"width": [8]})
    with pytest.raises(ValueError, match=r"have no F_iter"):
        model.encoders.encode_iterate(torch.zeros(1, 3, 8, 8), model.encode_condition(pair(1)[0]))
