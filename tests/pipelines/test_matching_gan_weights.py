"""Weights of the baseline through the pipeline, the programs, the tables and the app, like any others."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from programs import load_program

from midms import cli
from midms.app import actions, record
from midms.checkpoints.folder import load_folder, save_states
from midms.config import ConfigError
from midms.diffusion.settings import InterleaveSettings
from midms.models.translation_gan import GANSettings
from midms.pipelines.midms import MIDMsPipeline
from midms.visualize import to_pixels


@pytest.fixture(scope="module")
def gan(tiny_gan_folder: Path) -> MIDMsPipeline:
    return MIDMsPipeline.from_pretrained(tiny_gan_folder)


def test_the_kind_is_read_from_the_folder(gan, tiny_pipeline_folder, tiny_gan_folder, tmp_path):
    assert gan.kind == "matching_gan" and gan.settings == GANSettings()
    assert MIDMsPipeline.from_pretrained(tiny_pipeline_folder).kind == "midms"
    loaded = load_folder(tiny_gan_folder)
    other = loaded.info | {"settings": {"threshold": 0.3}}
    save_states(tmp_path / "other", loaded.states, loaded.configs, other)
    with pytest.raises(ConfigError, match=r"config.json: unknown key info.settings.threshold"):
        MIDMsPipeline.from_pretrained(tmp_path / "other")
    assert set(loaded.configs) == {"first_stage", "encoders", "generator"} and loaded.info["kind"] == "matching_gan"
    less = {name: loaded.states[name] for name in ("first_stage", "generator")}
    save_states(tmp_path / "less", less, {name: loaded.configs[name] for name in less}, {})
    with pytest.raises(ConfigError, match=r"no encoders; a pipeline needs \('first_stage', 'encoders', 'generator'\)"):
        MIDMsPipeline.from_pretrained(tmp_path / "less")


def test_a_call_takes_what_any_call_takes(gan, inputs):
    conditions, exemplars = inputs
    output = gan(conditions[:3], exemplars[0], num_interleaved_steps=3, return_intermediates=True, output_type="pt")
    assert output.images.shape == output.warps.shape == (3, 3, 32, 32) and len(output.predictions) == 3
    assert [mask.shape for mask in output.masks] == [(3, 1, 8, 8)] * 2
    assert output.correspondence.shape == (3, 2, 8, 8)
    torch.testing.assert_close(output.predictions[-1], output.images)
    once = gan(conditions[:3], exemplars[0], seed=9, output_type="pt").images
    torch.testing.assert_close(output.predictions[0], once)
    ready = gan.encode_exemplar(exemplars[0]), gan.encode_exemplar(exemplars[1])
    several = gan(gan.encode_condition(conditions[0]), list(ready), output_type="pt").images
    assert several.shape == (1, 3, 32, 32)
    assert gan(torch.rand(15, 30, 45), torch.zeros(3, 33, 27), return_intermediates=True).images[0].size == (45, 30)


def test_settings_of_a_diffusion_are_refused(gan, inputs):
    with pytest.raises(ValueError, match=r"no diffusion steps, got T = 20"):
        gan(inputs[0][0], inputs[1][0], num_inference_steps=20)
    with pytest.raises(ValueError, match=r"got InterleaveSettings, weights of the kind matching_gan take GANSettings"):
        gan(inputs[0][0], inputs[1][0], settings=InterleaveSettings())


def test_saved_halved_and_fast_it_stays_what_it_was(gan, inputs, tmp_path):
    first = gan(inputs[0][0], inputs[1][0], output_type="pt").images
    again = MIDMsPipeline.from_pretrained(gan.save_pretrained(tmp_path / "copy"))
    assert torch.equal(again(inputs[0][0], inputs[1][0], output_type="pt").images, first)
    assert again.info == gan.info | {"settings": {"num_interleaved_steps": 1}}
    fast = again.fast()(inputs[0][0], inputs[1][0], output_type="pt").images
    torch.testing.assert_close(fast, first, atol=1e-4, rtol=1e-4)
    half = MIDMsPipeline.from_pretrained(tmp_path / "copy", dtype=torch.bfloat16)
    assert half.model.generator.code.dtype == torch.bfloat16 and half.model.encoders.theta.weight.dtype == torch.float32
    assert half(inputs[0][0], inputs[1][0], output_type="pt").images.isfinite().all()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where a program runs, with maps and a photo."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "maps.npy", rng.integers(0, 256, (15, 32, 32), dtype=np.uint8))
    Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_program_translates_and_says_the_kind(place, gan, tiny_gan_folder, capsys):
    words = ["translate", "--condition", "maps.npy", "--exemplar", "photo.png", "--weights", str(tiny_gan_folder)]
    extras = ["--steps-picture", "steps.png", "--predictions-picture", "p.png", "--correspondence-picture", "c.png"]
    assert cli.main([*words, "--calls", "2", "--out", "out.png", *extras, "--animation", "loop.gif"]) == 0
    expected = gan("maps.npy", "photo.png", num_interleaved_steps=2, output_type="pt").images
    assert np.array_equal(np.asarray(Image.open("out.png")), to_pixels(expected)[0])
    assert all((place / name).is_file() for name in ("steps.png", "p.png", "c.png", "loop.gif"))
    first = Path("out.png").read_bytes()
    capsys.readouterr()
    assert cli.main(["show", "out.png"]) == 0
    shown = capsys.readouterr().out
    assert "--calls 2" in shown and "--steps" not in shown and "--threshold" not in shown
    assert cli.main(shlex.split(shown)[1:]) == 0 and Path("out.png").read_bytes() == first
    assert cli.main([*words, "--out", "one.png"]) == 0  # without re-matching
    capsys.readouterr()
    assert cli.main(["info", str(tiny_gan_folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "matching_gan" and set(told["parameters"]) == {"first stage", "encoders", "generator"}


@pytest.mark.parametrize("more", [["--steps", "20"], ["--protocol", "paper"], ["--threshold", "0.3"], ["--calls", "0"]])
def test_options_of_a_diffusion_are_one_line(place, tiny_gan_folder, capsys, more):
    words = ["translate", "--condition", "maps.npy", "--exemplar", "photo.png", "--weights", str(tiny_gan_folder)]
    assert cli.main([*words, "--out", "out.png", *more]) == 2
    error = capsys.readouterr().err
    assert more[0] in error and error.count("\n") == 1 and not Path("out.png").exists()


def test_pairs_are_sampled(tiny_gan_folder, tmp_path, capsys):
    sample = load_program("scripts/sample.py").main
    words = ["--benchmark", "faces", "--weights", str(tiny_gan_folder), "--out", str(tmp_path), "--pairs", "2"]
    assert sample([*words, "--calls", "2", "--save-intermediates"]) == 0
    assert len(list((tmp_path / "intermediates/00000").glob("prediction_*.png"))) == 2
    noted = json.loads(Image.open(tmp_path / "images/00001.png").text["midms"])
    assert noted["settings"] == {"num_interleaved_steps": 2}
    assert sample([*words, "--protocol", "fast", "--overwrite"]) == 2
    assert "--protocol: these weights are a matching_gan" in capsys.readouterr().err


def test_tables_one_and_two_have_its_iterated_form(tiny_gan_folder, tmp_path, capsys):
    tables = load_program("scripts/reproduce_tables.py").main
    words = ["--weights", str(tiny_gan_folder), "--pairs", "2", "--quiet", "--out", str(tmp_path)]
    assert tables(["--table", "2", *words]) == 0
    table = json.loads((tmp_path / "table2.json").read_text())
    rows = {row["name"]: row["values"] for row in table["rows"] if row["values"]}
    assert list(rows)[:2] == ["matching GAN", "matching GAN, iterated"]
    assert table["record"]["settings"]["matching GAN, iterated"] == [2]
    assert rows["matching GAN"]["psnr"] != rows["matching GAN, iterated"]["psnr"]
    capsys.readouterr()
    assert tables(["--table", "7", *words]) == 2
    assert "--table 7: varies a diffusion, and these weights are a matching_gan" in capsys.readouterr().err


def test_the_app_runs_it(gan):
    condition = np.random.default_rng(1).integers(0, 256, (15, 32, 32), np.uint8)
    photo = np.random.default_rng(2).integers(0, 256, (32, 32, 3), np.uint8)
    task = actions.Task(condition, [actions.ChosenExemplar(photo)], None, 2, None, 0)
    *seen, last = actions.translate(gan, task)
    assert [progress.done for progress in seen] == [0, 1, 2] and last.result is not None
    assert set(last.result.matches) == {"first", "last"}
    assert np.array_equal(last.result.pixels, np.asarray(gan(condition, photo, num_interleaved_steps=2).images[0]))
    assert actions.trace(last.result, 3, 4).rewarps == 1
    made = record.making_of(last.result, "here", record.input_files(task))
    words = " ".join(made.command(last.result.computed, "again.png"))
    assert "--calls 2" in words and "--steps" not in words and "--threshold" not in words
    for wrong, message in ((task._replace(steps=20), "has no diffusion"), (task._replace(calls=0), "expected 1")):
        with pytest.raises(ConfigError, match=message):
            list(actions.translate(gan, wrong))
