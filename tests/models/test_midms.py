"""The whole model: what is frozen, what a match is made of, and what a translation depends on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from midms.checkpoints.loading import load_denoiser, load_first_stage
from midms.diffusion.interleave import StepRecord
from midms.diffusion.settings import InterleaveSettings
from midms.matching.correspondence import match
from midms.models.denoiser import Denoiser
from midms.models.encoders import CorrespondenceEncoders
from midms.models.midms import MIDMs, Translation

ENCODERS = {"latent_channels": 3, "condition_channels": 15, "widths": [8, 8, 16], "out_channels": 16, "hidden": 8,
            "padding_mode": "reflect", "form": "paper", "condition_input": "unshuffle"}  # fmt: skip
SETTINGS = InterleaveSettings(num_inference_steps=16, num_interleaved_steps=4, refine_steps=3)


@pytest.fixture(scope="module")
def model(tiny_weights: Path) -> MIDMs:
    torch.manual_seed(1)
    refiner = load_denoiser(tiny_weights)
    torch.nn.init.normal_(refiner.unet.conv_out.weight, std=0.3)
    return MIDMs(load_first_stage(tiny_weights), CorrespondenceEncoders(**ENCODERS), load_denoiser(tiny_weights),
                 refiner).eval()  # fmt: skip


def maps(count: int, size: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 15, size, size, generator=torch.Generator().manual_seed(seed))


def photos(count: int, size: int = 32, seed: int = 1) -> Tensor:
    return 2 * torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) - 1


@torch.no_grad()
def translate(
    model: MIDMs, conditions: Tensor, exemplars: Tensor, seeds: list[int], settings: InterleaveSettings = SETTINGS
) -> Translation:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return model.translate(model.encode_condition(conditions), [model.encode_exemplar(exemplars)], settings, generators)


def test_first_stage_and_refiner_stay_frozen_and_in_evaluation_mode(model: MIDMs) -> None:
    model.train()
    frozen = (model.first_stage, model.refiner)
    assert all(part is not None and not part.training for part in frozen)
    assert model.encoders.training and model.denoiser.training
    assert not any(p.requires_grad for part in frozen if part is not None for p in part.parameters())
    assert all(p.requires_grad for p in model.encoders.parameters())
    model.eval()


def test_networks_for_other_latents_are_refused(tiny_weights: Path) -> None:
    stage, denoiser, encoders = load_first_stage(tiny_weights), load_denoiser(tiny_weights), CorrespondenceEncoders
    with pytest.raises(ValueError, match=r"encoders\.latent_channels: got 4, expected 3, the channels of the first"):
        MIDMs(stage, encoders(**ENCODERS | {"latent_channels": 4}), denoiser)
    other = Denoiser(denoiser.config | {"in_channels": 4, "out_channels": 4})
    for networks, name in (((other,), "denoiser"), ((denoiser, other), "refiner")):
        with pytest.raises(ValueError, match=rf"{name}\.in_channels: got 4, expected 3"):
            MIDMs(stage, encoders(**ENCODERS), *networks)


def test_the_schedule_is_no_part_of_the_weights(model: MIDMs) -> None:
    assert not any("betas" in key or "alphas" in key for key in model.state_dict())
    assert model.schedule.alphas_cumprod.shape == (1000,) and (model.schedule.alphas_cumprod.diff() < 0).all()


def test_a_pair_does_not_depend_on_its_batch(model: MIDMs) -> None:
    conditions, exemplars = maps(3), photos(3)
    whole = translate(model, conditions, exemplars, [5, 6, 7]).latent
    for row, seed in enumerate((5, 6, 7)):
        alone = translate(model, conditions[row : row + 1], exemplars[row : row + 1], [seed]).latent
        torch.testing.assert_close(alone[0], whole[row], rtol=0, atol=2e-4)
    other = translate(model, conditions[:1], exemplars[:1], [6]).latent
    assert not torch.allclose(other[0], whole[0], atol=1e-2), "another seed is another picture"


def test_two_halves_of_an_exemplar_compete_as_the_whole(model: MIDMs) -> None:
    """Several exemplars are one softmax over all their keys: an exemplar cut by masks into two is itself again."""
    left = torch.zeros(1, 1, 32, 32)
    left[..., :16] = 1
    with torch.no_grad():
        condition, whole = model.encode_condition(maps(1)), model.encode_exemplar(photos(1))
        halves = [model.encode_exemplar(photos(1), mask=mask) for mask in (left, 1 - left)]
        one, two = model.first_match(condition, [whole]), model.first_match(condition, halves)
    torch.testing.assert_close(two.warp, one.warp, rtol=0, atol=1e-5)
    assert one.share.shape == (1, 1, 8, 8) and two.share.shape == (1, 2, 8, 8)
    torch.testing.assert_close(two.share.sum(dim=1), torch.ones(1, 8, 8))
    assert len(one.forward_maps) == 1 and len(two.forward_maps) == 2


def test_the_first_match_is_of_the_conditions_and_the_exemplars_features(model: MIDMs) -> None:
    with torch.no_grad():
        condition, exemplar = model.encode_condition(maps(2)), model.encode_exemplar(photos(2))
        first = model.first_match(condition, [exemplar])
    expected = match(condition.features, exemplar.features, exemplar.latent, model.temperature)
    assert torch.equal(first.warp, expected.warp)


@pytest.mark.parametrize(("form", "backward"), [("paper", 1), ("released", 0), ("none", 0)])
def test_a_rewarp_asks_for_what_its_mask_needs(
    model: MIDMs, form: str, backward: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    plain = model.match

    def spy(*args, **options):
        asked.append(options)
        return plain(*args, **options)

    monkeypatch.setattr(model, "match", spy)
    with torch.no_grad():
        condition, exemplar = model.encode_condition(maps(1)), model.encode_exemplar(photos(1))
        rewarp = model.rematcher(condition, [exemplar], SETTINGS.replace(mask_form=form))(exemplar.latent)
    assert asked == [{"cycle": False, "backward": bool(backward), "clamp": False}]
    assert rewarp.cycles == () and rewarp.mask.shape == (1, 1, 8, 8)
    assert form != "none" or bool(rewarp.mask.all())


def test_training_gets_a_cycle_warp_for_each_exemplar(model: MIDMs) -> None:
    with torch.no_grad():
        condition = model.encode_condition(maps(1))
        exemplars = [model.encode_exemplar(photos(1, seed=seed)) for seed in (1, 2)]
        rewarp = model.rematcher(condition, exemplars, SETTINGS, cycle=True)(exemplars[0].latent)
    assert [cycle.shape for cycle in rewarp.cycles] == [(1, 3, 8, 8)] * 2


def test_steps_are_told_as_they_are_made(model: MIDMs) -> None:
    seen: list[StepRecord] = []
    with torch.no_grad():
        condition, exemplar = model.encode_condition(maps(1)), model.encode_exemplar(photos(1))
        result = model.translate(condition, [exemplar], SETTINGS, [torch.Generator().manual_seed(0)], seen.append)
    assert [step.n for step in seen] == [4, 3, 2, 1] and seen == result.loop.steps
    assert torch.equal(result.loop.latent, seen[-1].prediction)


def test_the_refinement_is_by_the_network_that_the_settings_name(model: MIDMs) -> None:
    results = {}
    for name in ("pretrained", "finetuned"):
        results[name] = translate(model, maps(1), photos(1), [0], SETTINGS.replace(refine_model=name))
    assert torch.equal(results["pretrained"].loop.latent, results["finetuned"].loop.latent)
    assert not torch.allclose(results["pretrained"].latent, results["finetuned"].latent, atol=1e-3)
    without = translate(model, maps(1), photos(1), [0], SETTINGS.replace(refine_steps=0))
    assert torch.equal(without.latent, without.loop.latent)


def test_without_steps_the_warp_is_the_result(model: MIDMs) -> None:
    result = translate(model, maps(1), photos(1), [0], SETTINGS.replace(num_interleaved_steps=0, refine_steps=0))
    assert torch.equal(result.latent, result.first.warp) and result.loop.steps == []


def test_odd_sizes_are_padded_to_whole_latents(model: MIDMs) -> None:
    with torch.no_grad():
        condition = model.encode_condition(maps(1, 30))
        assert condition.features.shape[-2:] == (8, 8)
        assert model.decode(torch.zeros(1, 3, 8, 8), size=(30, 30)).shape == (1, 3, 30, 30)
        assert model.decode(torch.full((1, 3, 8, 8), 50.0)).abs().max() <= 1


def test_maps_of_another_number_of_channels_are_named(model: MIDMs) -> None:
    with pytest.raises(ValueError, match="condition maps with 20 channels, these weights take 15"):
        model.encode_condition(torch.zeros(1, 20, 32, 32))


def test_components_are_the_networks_and_rebuild_from_their_configs(model: MIDMs) -> None:
    modules, configs = model.components()
    assert set(modules) == set(configs) == {"first_stage", "encoders", "denoiser", "refiner"}
    again = CorrespondenceEncoders(**configs["encoders"])
    again.load_state_dict(modules["encoders"].state_dict())
    lean = MIDMs(model.first_stage, model.encoders, model.denoiser)
    assert set(lean.components()[0]) == {"first_stage", "encoders", "denoiser"}
