"""The GAN baseline's training: its loss term by term, who gets a gradient, and the real program."""

from __future__ import annotations

import pytest
import torch
from small_runs import checkpoint, curve, gradients, matching_gan, program

from midms.checkpoints.folder import load_folder
from midms.data.procedural.dataset import ProceduralPairs
from midms.losses.contextual import contextual_loss
from midms.matching.correspondence import correlation, normalize_features, soft_warp
from midms.pipelines.midms import MIDMsPipeline
from midms.training.optimisation import sample_generators
from midms.training.translation_gan import MatchingGANTraining, distort

ENCODERS = {"latent_channels": 3, "condition_channels": 15, "widths": [8, 8, 16], "out_channels": 16, "hidden": 8,
            "padding_mode": "reflect", "form": "paper", "condition_input": "unshuffle"}  # fmt: skip
WEIGHTS = {"feat": 2.0, "perc": 0.3, "style": 0.7, "adv": 0.4, "cycle": 0.9, "dom": 5.0, "warp": 3.0}
LAYERS = {"down0": 0.5, "mid": 1.0}
DOUBLE, NO_VALIDATION = "trainer.precision=64-true", "trainer.limit_val_batches=0"


@pytest.fixture
def training(tiny_weights):
    torch.manual_seed(2)
    return MatchingGANTraining(
        str(tiny_weights),
        ENCODERS,
        generator={"widths": [16, 16, 8], "hidden": 8, "condition_width": 2},
        discriminator={"scales": 2, "width": 8, "num_layers": 2},
        temperature=0.05,
        loss_weights=WEIGHTS,
        feature_layers=LAYERS,
        perceptual_layer="down1",
        style_layers={"mid": 1.5},
    )


def batch_of(count):
    rng = torch.Generator().manual_seed(2)
    shapes = {"condition": 15, "exemplar_condition": 15, "source": 3, "exemplar": 3}
    return {name: torch.rand(count, channels, 32, 32, generator=rng) for name, channels in shapes.items()}


def rng_of(count, first=0):
    return sample_generators(0, 5, range(first, first + count))


def test_every_term_is_its_formula(training):
    training.eval()  # the spectral norms stand still
    batch, model = batch_of(2), training.model
    found = training.objective(batch, rng_of(2))
    phi, stage, encoders = training.features, model.first_stage, model.encoders
    with torch.no_grad():
        source, exemplar = batch["source"], batch["exemplar"]
        pseudo = distort(source, rng_of(2))
        condition = model.encode_condition(batch["condition"])
        keys = {n: encoders.encode_exemplar(stage.encode(x)).features
                for n, x in (("exemplar", exemplar), ("pseudo", pseudo), ("source", source))}  # fmt: skip
        query = normalize_features(condition.features)
        cosines = {name: correlation(query, normalize_features(key)) for name, key in keys.items()}
        blocks = {n: torch.nn.functional.pixel_unshuffle(x, 4) for n, x in (("exemplar", exemplar), ("pseudo", pseudo))}
        warps = {name: soft_warp(blocks[name], cosines[name], 0.05) for name in blocks}
        images = {name: model.generate(warps[name], condition) for name in blocks}
        maps = {"exemplar": phi(exemplar), "source": phi(source)} | {f"to {n}": phi(x) for n, x in images.items()}
        back = soft_warp(warps["exemplar"], cosines["exemplar"].permute(0, 3, 4, 1, 2), 0.05)
        labels = {n: torch.nn.functional.avg_pool2d(batch[n], 4) for n in ("condition", "exemplar_condition")}
        moved = soft_warp(labels["exemplar_condition"], cosines["exemplar"], 0.05)
        unit = [x / x.norm(dim=1, keepdim=True) for x in (condition.features, keys["source"])]
        logits = training.discriminator(images["exemplar"])
        expected = {
            "feat": sum(w * (maps["to pseudo"][k] - maps["source"][k]).abs().mean() for k, w in LAYERS.items()),
            "perc": (maps["to exemplar"]["down1"] - maps["source"]["down1"]).abs().mean(),
            "style": 1.5 * torch.stack([contextual_loss(maps["to exemplar"]["mid"][i : i + 1],
                                                        maps["exemplar"]["mid"][i : i + 1]) for i in range(2)]).mean(),
            "adv": -(logits[0].mean() + logits[1].mean()) / 2,
            "cycle": (back - blocks["exemplar"]).abs().mean(),
            "dom": (unit[0] - unit[1]).abs().mean(),
            "warp": (moved - labels["condition"]).abs().mean(),
        }  # fmt: skip
        expected["loss"] = sum(WEIGHTS[name] * value for name, value in expected.items())
    assert set(found.terms) == set(expected)
    for name, value in expected.items():
        assert float(found.terms[name].detach()) == pytest.approx(float(value), rel=1e-3, abs=1e-6), name
    torch.testing.assert_close(found.images, images["exemplar"], atol=1e-3, rtol=1e-3)


def test_gradients_reach_every_part_and_no_other(training):
    training.train()
    training.discriminator.requires_grad_(False)
    training.objective(batch_of(2), rng_of(2)).terms["loss"].backward()
    silent = [name for name, p in training.trained.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a convolution's bias before an instance norm changes nothing
    assert all(name.endswith(("conv1.bias", "conv2.bias")) and ".layer." in name for name in silent)
    frozen = [*training.model.first_stage.parameters(), *training.discriminator.parameters()]
    assert all(p.grad is None for p in frozen)
    training.discriminator.requires_grad_(True)
    torch.stack([scale.square().mean() for scale in training.discriminator(torch.rand(2, 3, 32, 32))]).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in training.discriminator.parameters())


def test_one_call_of_each_network(training, monkeypatch):
    """Both branches go through the generator as one batch of 2B, and the encoders' three photos as one of 3B."""
    sizes = {}
    networks = {"generator": training.model.generator, "discriminator": training.discriminator,
                "features": training.features}  # fmt: skip
    for name, network in networks.items():
        network.register_forward_hook(lambda _, args, out, name=name: sizes.setdefault(name, []).append(len(args[0])))
    encode = training.model.first_stage.encode

    def counting(images, **options):
        sizes.setdefault("encode", []).append(len(images))
        return encode(images, **options)

    monkeypatch.setattr(training.model.first_stage, "encode", counting)
    training.objective(batch_of(2), rng_of(2))
    assert sizes == {"encode": [6], "generator": [4], "discriminator": [2], "features": [4, 4]}


def test_a_distortion_belongs_to_its_sample(monkeypatch):
    images = torch.rand(6, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    whole = distort(images, rng_of(6))
    assert torch.equal(whole[4:], distort(images[4:], rng_of(2, first=4)))
    torch.testing.assert_close(distort(torch.ones(2, 3, 24, 32), rng_of(2)), torch.ones(2, 3, 24, 32))
    assert (whole - images).flatten(1).abs().mean(dim=1).min() > 0.05
    monkeypatch.setattr(torch, "rand", lambda *size, generator: torch.full(size, 0.5))
    torch.testing.assert_close(distort(images, rng_of(6)), images, atol=1e-5, rtol=0)
    turned = torch.tensor([1.0, 0.5, 0.5, 0.5, 0.5])
    monkeypatch.setattr(torch, "rand", lambda *size, generator: turned)
    square = torch.zeros(1, 1, 60, 120)
    square[..., 20:40, 50:70] = 1  # a turn keeps its area, and so its sides, in a picture of any shape
    assert float(distort(square, rng_of(1)).sum()) == pytest.approx(400, rel=0.01)
    spread = (
        distort(square, rng_of(1))[0, 0].sum(dim=0).gt(0.5).sum(),
        distort(square, rng_of(1))[0, 0].sum(dim=1).gt(0.5).sum(),
    )
    assert abs(int(spread[0]) - int(spread[1])) <= 1


def test_resume_equals_uninterrupted(tmp_path, tiny_weights):
    """Equal losses and equal weights, bit for bit, those of the discriminator and both optimisers included."""
    main, more = program(), ["model.params.ema_decay=0.9", "run.keep=9", "trainer.val_check_interval=2"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(matching_gan(tiny_weights, whole, 3, *more)) == 0
    start = parts / "checkpoints/step_00000001.ckpt"
    start.parent.mkdir(parents=True)
    start.write_bytes((whole / "checkpoints/step_00000001.ckpt").read_bytes())
    assert main(matching_gan(tiny_weights, None, 3, *more, "--resume", str(parts))) == 0
    before, after = curve(whole), curve(parts)
    assert set(after) == {1, 2} and all(before[step] == value for step, value in after.items())
    one, two = checkpoint(whole, 3), checkpoint(parts, 3)
    assert all(torch.equal(value, two["state_dict"][key]) for key, value in one["state_dict"].items())
    for ours, theirs in zip(one["optimizer_states"], two["optimizer_states"], strict=True):
        assert all(torch.equal(m["exp_avg_sq"], theirs["state"][k]["exp_avg_sq"]) for k, m in ours["state"].items())
    assert len(one["optimizer_states"]) == 2 and len(one["optimizer_states"][1]["state"]) > 0
    assert set(curve(whole, "val/psnr")) == set(curve(whole, "val/psnr_warp")) == {1}
    exported = load_folder(whole / "weights")
    assert set(exported.states) == {"first_stage", "encoders", "generator"}
    averages = {key: value for key, value in one["state_dict"].items() if key.startswith("average.generator/")}
    assert averages and all(
        torch.equal(exported.states["generator"][key.removeprefix("average.generator/").replace("/", ".")], value)
        for key, value in averages.items()
    )
    pipe = MIDMsPipeline.from_pretrained(whole / "weights")
    assert pipe.kind == "matching_gan" and pipe.info["task"] == "faces"
    assert pipe(torch.rand(15, 32, 32), torch.zeros(3, 32, 32)).images[0].size == (32, 32)


def test_parts_of_a_batch_give_the_gradient_of_the_whole(tmp_path, tiny_weights):
    main = program()
    for name, more in (("whole", []), ("parts", ["model.params.accumulation=2"])):
        assert main(matching_gan(tiny_weights, tmp_path / name, 1, DOUBLE, NO_VALIDATION, *more)) == 0
    expected, found = gradients(tmp_path / "whole"), gradients(tmp_path / "parts")
    scale = max(float(gradient.abs().max()) for gradient in expected)
    assert max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True)) <= 1e-8 * scale
    states = [checkpoint(tmp_path / name, 1)["state_dict"] for name in ("whole", "parts")]
    vectors = [key for key in states[0] if key.endswith("_u")]
    assert vectors and all(torch.equal(states[0][key], states[1][key]) for key in vectors)


def test_a_broken_step_touches_nothing(tmp_path, tiny_weights, monkeypatch, capsys):
    """The second of three batches holds a NaN: all networks and moments stay as after the first step."""
    original, places = ProceduralPairs.__getitem__, iter(range(10**6))

    def item(self, index):
        found = original(self, index)
        if self.split == "train" and next(places) == 3:
            found["source"] = torch.full_like(found["source"], float("nan"))
        return found

    monkeypatch.setattr(ProceduralPairs, "__getitem__", item)
    run = tmp_path / "run"
    assert program()(matching_gan(tiny_weights, run, 3, NO_VALIDATION, "run.keep=9")) == 0
    assert "step 1: skipped, loss nan" in capsys.readouterr().out
    states = [checkpoint(run, step) for step in (1, 2, 3)]
    trained = [key for key in states[0]["state_dict"] if not key.endswith(("_u", "_v"))]
    changed = [[key for key in trained if not torch.equal(a["state_dict"][key], b["state_dict"][key])]
               for a, b in ((states[0], states[1]), (states[1], states[2]))]  # fmt: skip
    assert not changed[0] and any(key.startswith("discriminator.") for key in changed[1])
    assert all(value.isfinite().all() for value in states[2]["state_dict"].values())


def test_encoders_can_go_on_from_other_weights(tiny_pipeline_folder, tiny_weights):
    layers = {"feature_layers": {"mid": 1.0}, "style_layers": {"mid": 1.0}, "perceptual_layer": "mid"}
    training = MatchingGANTraining(str(tiny_weights), ENCODERS, encoders_from=str(tiny_pipeline_folder), **layers)
    state = load_folder(tiny_pipeline_folder).states["encoders"]
    ours = training.model.encoders.state_dict()
    assert {*state} - {*ours} == {key for key in state if key.startswith("iter_enc.")}
    assert all(torch.equal(value, state[key]) for key, value in ours.items())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["model.params.loss_weights.diff=1"], "unknown ['diff']"),
        (["model.params.generator.width=[8]"], "unknown key model.params.generator.width"),
        (["model.params.discriminator.scales=3"], "pictures of 32 pixels, expected 48 or more"),
        (
            ["model.params.feature_layers=null"],
            "it has no layer relu1_2, relu2_2, relu3_2, relu4_2, relu5_2 (only down0",
        ),
        (["model.params.discriminator.scales=0"], "scales: got 0, expected a whole number"),
        (["model.params.encoders.form=released", "model.params.encoders.condition_input=nearest"], "expected 'paper'"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(tmp_path, tiny_weights, capsys, more, message):
    assert program()(matching_gan(tiny_weights, tmp_path / "run", 1, *more)) == 2
    error = capsys.readouterr().err
    assert message in error and error.rstrip().count("\n") == 0
