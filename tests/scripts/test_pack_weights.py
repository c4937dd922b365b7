"""Shipping weights, and latents of unit variance for stage 2, through the program."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from programs import load_program

from midms.checkpoints.folder import load_folder, save_folder, save_states
from midms.checkpoints.loading import load_encoders, load_first_stage, load_pretrained
from midms.data.procedural.dataset import ProceduralImages
from midms.models.first_stage import FirstStage
from midms.pipelines.midms import MIDMsPipeline

CONFIG = """
data:
  target: midms.data.module.DataModule
  params:
    train: {target: midms.data.procedural.dataset.ProceduralImages, params: {task: churches, size: 32, length: 12}}
"""


def program():
    return load_program("scripts/pack_weights.py").main


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_standardised_latents_are_white_and_decode_to_the_same_images(tmp_path, kind):
    torch.manual_seed(0)
    keys = {"kind": kind, "ch": 8, "ch_mult": [1, 2], "num_res_blocks": 1, "norm_groups": 4, "z_channels": 4}
    stage = FirstStage(keys).eval().requires_grad_(False)
    stage.model.quant_conv.bias[:4] += 3  # a spread and a mean far from 1 and 0
    stage.model.quant_conv.weight[:4] *= 5
    save_folder(tmp_path / "first", {"first_stage": stage.model}, {"first_stage": stage.config}, {"task": "churches"})
    (tmp_path / "data.yaml").write_text(CONFIG)
    paths = [str(tmp_path / "first"), str(tmp_path / "unit")]
    assert program()([*paths, "--standardise", str(tmp_path / "data.yaml")]) == 0
    unit = load_first_stage(tmp_path / "unit")
    data = ProceduralImages("churches", 32, length=12)
    images = torch.stack([data[index]["image"] for index in range(12)])
    latents = unit.encode(images)
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    covariance = torch.cov(latents.movedim(1, -1).flatten(0, 2).mT)
    torch.testing.assert_close(covariance, torch.eye(4), atol=1e-3, rtol=0)
    before = stage.encode(images)
    assert before.mean().abs() > 1
    torch.testing.assert_close(
        unit.decode(latents, quantise=False), stage.decode(before, quantise=False), atol=1e-4, rtol=0
    )
    if kind == "vq":  # the codes move with the latents
        info = load_folder(tmp_path / "unit").info["standardised"]
        mean, whitening = torch.tensor(info["mean"]), torch.tensor(info["whitening"])
        old, new = (part.model.quantize.embedding.weight for part in (stage, unit))
        torch.testing.assert_close(new, (old - mean) @ whitening.mT, atol=2e-3, rtol=1e-2)
    if kind == "kl":  # each channel's noise is scaled as the channel is
        whitening = torch.tensor(load_folder(tmp_path / "unit").info["standardised"]["whitening"])
        expected = stage.moments(images)[1] * torch.diag(whitening).view(1, -1, 1, 1)
        torch.testing.assert_close(unit.moments(images)[1], expected, atol=0, rtol=1e-2)
    info = load_folder(tmp_path / "unit").info
    assert info["task"] == "churches" and info["standardised"]["images"] == 12


def test_shipping_halves_the_precision(tmp_path):
    assert program()(["demo-64", str(tmp_path / "packed")]) == 0
    states = load_folder(tmp_path / "packed").states
    assert {value.dtype for state in states.values() for value in state.values()} == {torch.float16}


def test_mistakes_are_one_line(tmp_path, tiny_weights, capsys):
    (tmp_path / "data.yaml").write_text(CONFIG)
    arguments = [str(tiny_weights), str(tmp_path / "out"), "--standardise", str(tmp_path / "data.yaml")]
    assert program()(arguments) == 2
    error = capsys.readouterr().err
    assert "only a first stage alone" in error and error.count("\n") == 1
    assert program()(["nowhere", str(tmp_path / "out")]) == 2
    with pytest.raises(SystemExit, match="2"):
        program()([*arguments, "--images", "0"])


def test_weights_are_not_packed_over_themselves(tmp_path, weights, capsys, monkeypatch):
    """Which would leave half of their precision, or the wrong latents for a denoiser."""
    copied = shutil.copytree(weights, tmp_path / "mine")
    before = {file.name: file.read_bytes() for file in copied.iterdir()}
    monkeypatch.setattr("midms.io.provenance.SHIPPED", tmp_path)  # of which a name alone is enough
    for source, target in ((copied, copied), (copied, tmp_path / "x" / ".." / "mine"), ("mine", copied)):
        assert program()([str(source), str(target), "--dtype", "bfloat16"]) == 2
        error = capsys.readouterr().err
        assert "is also read, and would be overwritten" in error and error.count("\n") == 1
    for option in (["--first-stage", str(copied)], ["--interpolate-encoders", str(copied), "0.5"]):
        assert program()([weights, str(copied), *option]) == 2
        assert "is also read, and would be overwritten" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in copied.iterdir()} == before


def test_settings_of_the_weights_are_changed_alone(tmp_path, weights, capsys):
    words = ["num_inference_steps=36", "num_interleaved_steps=2", "solver=dpm1", "skip_last_warp=false"]
    assert program()([weights, str(tmp_path / "out"), "--dtype", "float32", "--settings", *words]) == 0
    before, after = load_folder(Path(weights)), load_folder(tmp_path / "out")
    changed = {"num_inference_steps": 36, "num_interleaved_steps": 2, "solver": "dpm1", "skip_last_warp": False}
    assert after.info["settings"] == before.info["settings"] | changed
    assert after.info | {"settings": 0} == before.info | {"settings": 0}
    assert all(torch.equal(before.states[part][key], value) for part in before.states
               for key, value in after.states[part].items())  # fmt: skip
    for wrong, message in (
        ("solver=euler", "--settings.solver: got 'euler'"),
        ("solvers=ddim", "solvers"),
        ("num_interleaved_steps=99", "num_interleaved_steps: got 99"),
        ("solver", "expected key.path=value"),
    ):
        assert program()([weights, str(tmp_path / "wrong"), "--settings", wrong]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1 and not (tmp_path / "wrong").exists()
    with pytest.raises(SystemExit, match="2"):
        program()([weights, str(tmp_path / "wrong"), "--standardise", "data.yaml", "--settings", "solver=ddim"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_packed_weights_translate_in_float32_like_any_others(tmp_path, weights, dtype):
    """A lower precision saves disk space. Networks in half precision would not even run beside float32 pictures."""
    assert program()([weights, str(tmp_path / "out"), "--dtype", dtype]) == 0
    packed = MIDMsPipeline.from_pretrained(tmp_path / "out")
    assert {weight.dtype for part in packed.model.components()[0].values() for weight in part.parameters()} == {
        torch.float32
    }
    stored = load_folder(tmp_path / "out").states["encoders"]
    assert {value.dtype for value in stored.values()} == {getattr(torch, dtype)}
    picture = torch.zeros(1, 3, 32, 32)
    maps = torch.zeros(1, packed.condition_spec().channels, 32, 32)
    assert packed(maps, picture, output_type="pt").images.isfinite().all()


def test_the_temperature_of_the_weights_is_changed_alone(tmp_path, weights, capsys):
    assert program()([weights, str(tmp_path / "out"), "--dtype", "float32", "--temperature", "0.0025"]) == 0
    before, after = load_folder(Path(weights)), load_folder(tmp_path / "out")
    assert after.info == before.info | {"temperature": 0.0025}
    assert all(torch.equal(before.states[part][key], value) for part in before.states
               for key, value in after.states[part].items())  # fmt: skip
    for wrong in (["--temperature", "0"], ["--temperature", "nan"], ["--temperature", "1", "--standardise", "a.yaml"]):
        with pytest.raises(SystemExit, match="2"):
            program()([weights, str(tmp_path / "wrong"), *wrong])
        assert "temperature" in capsys.readouterr().err and not (tmp_path / "wrong").exists()


def test_encoders_between_two_trainings(tmp_path, weights, capsys):
    """Share 0 is the source, 1 the other folder, and between them each weight is on the straight line."""
    torch.manual_seed(1)
    other = tmp_path / "other"
    loaded = load_folder(Path(weights))
    moved = {key: value + torch.randn_like(value) for key, value in loaded.states["encoders"].items()}
    for key in [key for key in moved if key.endswith((".weight_u", ".weight_v"))]:
        moved[key] = torch.nn.functional.normalize(moved[key], dim=0)
    save_states(other, loaded.states | {"encoders": moved}, loaded.configs, loaded.info)
    found = {}
    for share in ("0", "0.25", "1"):
        mixed = ["--dtype", "float32", "--interpolate-encoders", str(other), share]
        assert program()([weights, str(tmp_path / share), *mixed]) == 0
        found[share] = load_folder(tmp_path / share).states
        assert all(
            torch.equal(found[share]["denoiser"][key], value) for key, value in loaded.states["denoiser"].items()
        )
    record = {"encoders_interpolated": {"other": loaded.info.get("name"), "share_of_other": 0.25}}
    assert load_folder(tmp_path / "0.25").info == loaded.info | record
    for key, own in loaded.states["encoders"].items():
        expected = 0.75 * own + 0.25 * moved[key]
        if key.endswith((".weight_u", ".weight_v")):
            expected = expected / expected.norm()
        for share, value in (("0", own), ("0.25", expected), ("1", moved[key])):
            torch.testing.assert_close(found[share]["encoders"][key], value, atol=1e-6, rtol=1e-5)
    assert program()([weights, str(tmp_path / "wrong"), "--interpolate-encoders", "demo-64", "0.5"]) == 2
    error = capsys.readouterr().err
    assert "another shape or is missing" in error and error.count("\n") == 1
    for wrong in (["2"], ["much"], ["0.5", "--standardise", "a.yaml"]):
        with pytest.raises(SystemExit, match="2"):
            program()([weights, str(tmp_path / "wrong"), "--interpolate-encoders", str(other), *wrong])
        assert "interpolate-encoders" in capsys.readouterr().err and not (tmp_path / "wrong").exists()


def test_weights_without_a_refiner_are_smaller_and_their_training_starts_from_the_denoiser(tmp_path, weights):
    whole, less = tmp_path / "whole", tmp_path / "less"
    assert program()([weights, str(whole)]) == 0
    assert program()([weights, str(less), "--without-refiner"]) == 0
    before, after = (load_folder(path).states for path in (whole, less))
    assert set(before) - set(after) == {"refiner"}
    assert all(torch.equal(before["denoiser"][key], value) for key, value in after["denoiser"].items())
    start = load_pretrained(less).unet.state_dict()
    assert all(torch.equal(value.half(), after["denoiser"][key]) for key, value in start.items())
    with pytest.raises(SystemExit, match="2"):
        program()([weights, str(less), "--without-refiner", "--standardise", "data.yaml"])


def test_a_part_alone_is_what_a_training_starts_from(tmp_path, weights, capsys):
    assert program()([weights, str(tmp_path / "part"), "--only", "encoders", "--dtype", "float32"]) == 0
    part, whole = load_folder(tmp_path / "part"), load_folder(Path(weights))
    assert list(part.states) == ["encoders"] and part.configs["encoders"] == whole.configs["encoders"]
    state = load_encoders(tmp_path / "part").state_dict()
    assert all(torch.equal(state[key], value) for key, value in whole.states["encoders"].items())
    assert program()([weights, str(tmp_path / "none"), "--only", "generator"]) == 2
    assert "--only generator: " in capsys.readouterr().err and not (tmp_path / "none").exists()
    with pytest.raises(SystemExit, match="2"):
        program()([weights, str(tmp_path / "none"), "--only", "encoders", "--without-refiner"])


def test_a_decoder_that_was_trained_further_takes_the_place_of_the_old_one(tmp_path, weights, capsys):
    stage = load_first_stage(weights)
    stage.model.decoder.conv_out.bias.data += 1
    save_folder(tmp_path / "new", {"first_stage": stage.model}, {"first_stage": stage.config}, {})
    words = [weights, str(tmp_path / "out"), "--dtype", "float32", "--first-stage"]
    assert program()([*words, str(tmp_path / "new")]) == 0
    before, after = load_folder(Path(weights)).states, load_folder(tmp_path / "out").states
    changed = {key for key, value in after["first_stage"].items() if not torch.equal(value, before["first_stage"][key])}
    assert changed == {"decoder.conv_out.bias"}
    assert all(torch.equal(value, before["encoders"][key]) for key, value in after["encoders"].items())
    stage.model.encoder.conv_in.bias.data += 1
    save_folder(tmp_path / "other", {"first_stage": stage.model}, {"first_stage": stage.config}, {})
    assert program()([*words, str(tmp_path / "other")]) == 2
    assert "encoder.conv_in.bias differs" in capsys.readouterr().err
