"""The forward pass of stage 3: the released iteration with its golden values, and the number of U-Net calls."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from midms.checkpoints.loading import load_denoiser, load_first_stage
from midms.diffusion.schedule import sample_noise
from midms.diffusion.settings import InterleaveSettings
from midms.losses.objective import RELEASED_LOSS_WEIGHTS, ReleasedLossWeights
from midms.losses.perceptual import FirstStageFeatures
from midms.models.encoders import CorrespondenceEncoders
from midms.models.midms import MIDMs
from midms.training.objectives import PaperTrainingObjective, ReleasedTrainingObjective
from midms.training.optimisation import sample_generators
from midms.training.terms import FeatureTerms

ENCODERS = {"latent_channels": 3, "condition_channels": 15, "widths": [8, 8, 16], "out_channels": 16, "hidden": 8,
            "padding_mode": "reflect", "form": "released"}  # fmt: skip
#: Names of the terms in the golden cases.
TERMS = {"domain": "dom", "fb": "cycle", "fb_iterative": "rewarp_cycle", "feat": "src", "perc": "perc",
         "context": "style", "original_loss": "diff", "total": "loss"}  # fmt: skip
#: Names of the noises there.
NOISES = {"exemplar_start": "ref_start", "source_start": "src_start", "fresh": "orig_start",
          "exemplar_posterior": "ref_posterior", "source_posterior": "src_posterior"}  # fmt: skip


class Phi(torch.nn.Module):
    """A stand-in for VGG-19 with the five maps of the released loss."""

    def forward(self, images):
        maps = [torch.nn.functional.avg_pool2d(images, 2**k) if k else images for k in range(4)]
        maps = [torch.cat([x, x**2, x.roll(1, 3)], dim=1) for x in (*maps, maps[3])]
        return {f"relu{k}_2": x for k, x in enumerate(maps, start=1)}


@pytest.fixture
def model(tiny_weights):
    torch.manual_seed(1)
    encoders = CorrespondenceEncoders(**ENCODERS)
    return MIDMs(load_first_stage(tiny_weights), encoders, load_denoiser(tiny_weights), temperature=0.05)


def batch_of(count, maps=15):
    rng = torch.Generator().manual_seed(2)
    shapes = {"condition": maps, "exemplar_condition": maps, "source": 3, "exemplar": 3}
    return {name: torch.rand(count, channels, 32, 32, generator=rng) for name, channels in shapes.items()}


def noise_of(count, first=0):
    generators = sample_generators(0, 5, range(first, first + count))
    return lambda name, shape: sample_noise(shape, generators)


def released(model):
    settings = InterleaveSettings.released().replace(refine_steps=0)
    return ReleasedTrainingObjective(model, settings, Phi(), ReleasedLossWeights(warp=0.0), lambda step: 2)


def paper(model):
    settings = InterleaveSettings(num_inference_steps=16, num_interleaved_steps=4, refine_steps=0)
    weights = {"dom": 10.0, "cycle": 1.0, "src": 1.0, "perc": 0.002, "style": 1.0, "diff": 1.0, "warp": 1.0}
    features = FirstStageFeatures(model.first_stage.model)
    terms = FeatureTerms(features, {"down1": 0.5, "mid": 1.0}, {"mid": 1.0}, "mid")
    return PaperTrainingObjective(model, settings, terms, weights)


@pytest.mark.parametrize(("make", "sizes"), [(paper, [4, 4, 4, 4]), (released, [4, 4, 6, 4])])
def test_the_unet_is_called_once_per_step_where_the_release_calls_it_twice(model, make, sizes):
    """N = 4: exemplar and source branch go together; the released diffusion term joins the call of its time."""
    calls = []
    model.denoiser.register_forward_hook(lambda module, args, out: calls.append(len(args[0])))
    make(model)(batch_of(2), noise_of(2), number=11, warmup=10)
    assert calls == sizes
    assert released(model)(batch_of(2), noise_of(2), number=9, warmup=10)["loss"].isfinite()
    assert calls == sizes, "no call in the warm-up"


def test_the_papers_loss_is_a_mean_over_samples(model):
    """So that ranks and parts of a batch add up: each sample alone, with its own random numbers."""
    model.eval()  # the spectral norms' iteration would change the weights from call to call
    whole = paper(model)(batch_of(2), noise_of(2), 11, 10)
    alone = [paper(model)({k: v[i : i + 1] for k, v in batch_of(2).items()}, noise_of(1, i), 11, 10) for i in range(2)]
    assert set(whole) == {"dom", "cycle", "warp", "diff", "src", "perc", "style", "loss"}
    for name, value in whole.items():
        torch.testing.assert_close(value, (alone[0][name] + alone[1][name]) / 2, rtol=1e-4, atol=1e-6)


def test_the_second_match_of_the_warm_up_teaches_f_iter_by_the_warped_maps(model):
    """The term "warp" counts both matches; without the second one F_iter gets no gradient from it."""
    model.eval()
    plain, f_iter = paper(model), model.encoders.iter_enc
    values, taught = [], []
    for rematch in (False, True):
        term = dataclasses.replace(plain, warmup_space="latent", warmup_rematch=rematch).terms(
            batch_of(2), noise_of(2), True
        )["warp"]
        values.append(float(term.detach()))
        gradients = torch.autograd.grad(term, list(f_iter.parameters()), allow_unused=True)
        taught.append(any(g is not None and bool(g.abs().max() > 0) for g in gradients))
    assert taught == [False, True] and values[1] > values[0] > 0


def test_released_labels_count_in_the_warm_up_only(model):
    """Churches: one-hot maps; the label term is there, and in the sum before the warm-up's end alone."""
    objective = ReleasedTrainingObjective(
        model, released(model).settings, Phi(), ReleasedLossWeights(warp=100.0), lambda step: 2
    )
    batch = batch_of(2)
    for name in ("condition", "exemplar_condition"):
        batch[name] = torch.nn.functional.one_hot(batch[name].argmax(1), 15).permute(0, 3, 1, 2).float()
    model.eval()
    for number, weight in ((3, 100.0), (10, 0.0)):
        terms = objective(batch, noise_of(2), number, 10)
        rest = 10 * terms["dom"] + terms["cycle"] + terms["rewarp_cycle"] + terms["src"] + terms["diff"]
        torch.testing.assert_close(terms["loss"], rest + 0.002 * terms["perc"] + weight * terms["warp"])
        assert terms["warp"] > 0


@pytest.mark.parametrize("name", ["celeba_e2e_N2", pytest.param("celeba_e2e_eval", marks=pytest.mark.slow)])
def test_the_released_preset_gives_the_golden_terms(name, shared):
    """What `loss: released` trains on equals the released iteration, term by term (spectral norms at rest)."""
    from parity.cases import load_case
    from parity.pipeline import RELEASED_TEMPERATURE, released_model
    from parity.training import _vgg19

    path = shared / "goldens" / f"train_{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"no golden file {path}")
    case = load_case(path)
    parts, config = released_model(case), case.meta["config"]
    params = config["latent_diffusion"]
    schedule = {"start": params["linear_start"], "end": params["linear_end"]}
    model = MIDMs(parts.first_stage, parts.encoders, parts.denoiser, None, schedule, RELEASED_TEMPERATURE).eval()
    weights = dataclasses.replace(RELEASED_LOSS_WEIGHTS[config["dataset"]], warp=0.0)  # churches' alone
    objective = ReleasedTrainingObjective(model, parts.settings, _vgg19(case), weights, lambda step: config["rand_idx"])
    inputs = dict(case.inputs)
    for label in ("label", "label_ref"):  # stored at half the size of the images
        inputs[label] = torch.nn.functional.interpolate(inputs[label], inputs["image"].shape[-2:], mode="nearest")
    batch = {"condition": inputs["label"], "exemplar_condition": inputs["label_ref"], "source": inputs["image"],
             "exemplar": inputs["ref"]}  # fmt: skip
    terms = objective(
        batch, lambda name, shape: inputs[f"noise/{NOISES[name]}"], config["n_iter"], config["warmup_iter"]
    )  # fmt: skip
    for golden, term in TERMS.items():
        check = case.check(f"loss/{golden}", terms[term].detach()[None])
        assert check.passed, check
