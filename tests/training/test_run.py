"""The real entry point on the shipped configs, shrunk: train, stop, resume, validate, and mistakes."""

from __future__ import annotations

import pytest
import torch
from safetensors import SafetensorError
from small_runs import curve, program, stage_one, stage_three, stage_two

from midms.checkpoints.folder import load_folder
from midms.pipelines.midms import MIDMsPipeline


def test_first_stage_and_latent_diffusion(tmp_path):
    main = program()
    more = ["trainer.val_check_interval=3", "run.picture_every=3"]
    early = ["model.params.quantise_from=1", "model.params.discriminator_from=1"]
    assert main(stage_one(tmp_path / "stage", 3, *more, *early)) == 0
    weights = tmp_path / "stage/weights"
    assert set(load_folder(weights).states) == {"first_stage"}
    assert main(stage_two(weights, tmp_path / "ldm", 3, *more)) == 0
    assert set(load_folder(tmp_path / "ldm/weights").states) == {"first_stage", "denoiser"}
    assert (tmp_path / "ldm/pictures/step_00000003.png").is_file()


def test_resume_equals_uninterrupted_and_the_result_translates(tmp_path, tiny_weights):
    """Through the switch from warm-up to the loop: equal losses and equal weights, bit for bit."""
    main = program()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(stage_three(tiny_weights, whole, 4, "run.keep=9")) == 0
    start = parts / "checkpoints/step_00000001.ckpt"
    start.parent.mkdir(parents=True)
    start.write_bytes((whole / "checkpoints/step_00000001.ckpt").read_bytes())
    assert main(stage_three(tiny_weights, None, 4, "--resume", str(parts))) == 0
    before, after = curve(whole), curve(parts)
    assert set(after) == {1, 2, 3} and all(before[step] == value for step, value in after.items())
    one, two = load_folder(whole / "weights").states, load_folder(parts / "weights").states
    assert all(torch.equal(one[part][key], two[part][key]) for part in one for key in one[part])
    assert any(not torch.equal(one["denoiser"][key], one["refiner"][key]) for key in one["refiner"])
    output = MIDMsPipeline.from_pretrained(whole / "weights")(torch.rand(15, 32, 32), torch.zeros(3, 32, 32))
    assert output.images[0].size == (32, 32)
    assert len(list((whole / "checkpoints").glob("*"))) == 4


def test_zero_turns_checkpoints_pictures_rows_and_validations_off(tmp_path):
    run = tmp_path / "run"
    off = [f"run.{key}_every=0" for key in ("checkpoint", "picture", "log")]
    assert program()(stage_one(run, 2, *off, "trainer.val_check_interval=0")) == 0
    assert [file.name for file in (run / "checkpoints").iterdir()] == ["step_00000002.ckpt"]  # the end has one
    assert not list(run.glob("pictures/*")) and (run / "weights/config.json").is_file()


def test_a_training_without_a_validation_set_is_silent_about_it_and_resumes(tmp_path, recwarn, capsys):
    run = tmp_path / "run"
    none = ["data.params.validation=null", "trainer.val_check_interval=1"]
    assert program()(stage_one(run, 1, *none, "run.picture_every=1")) == 0
    assert program()(stage_one(run, 2, *none, "--resume", str(run))) == 0
    said = [str(warning.message) for warning in recwarn] + capsys.readouterr().err.splitlines()
    assert not [line for line in said if "val" in line or "zero" in line], said
    assert set(curve(run)) == {0, 1} and not curve(run, "val/psnr") and not list(run.glob("pictures/*"))
    assert (run / "weights/config.json").is_file()


def test_one_seed_gives_one_curve(tmp_path, tiny_weights):
    main = program()
    for name in ("a", "b"):
        assert main(stage_three(tiny_weights, tmp_path / name, 3)) == 0
    assert curve(tmp_path / "a") == curve(tmp_path / "b")


def test_averages_checkpointing_and_accumulation(tmp_path, tiny_weights):
    """The same first loss with gradient checkpointing; the export holds the averaged weights."""
    main, plain, lean = program(), tmp_path / "plain", tmp_path / "thrifty"
    warm = "model.params.warmup_steps=0"
    assert main(stage_three(tiny_weights, plain, 2, warm)) == 0
    more = ["model.params.gradient_checkpointing=true", "model.params.ema_decay=0.9"]
    assert main(stage_three(tiny_weights, lean, 2, warm, *more)) == 0
    assert curve(plain) == pytest.approx(curve(lean), rel=1e-5)
    one, two = (load_folder(run / "weights").states["encoders"] for run in (plain, lean))
    assert any(not torch.allclose(one[key], two[key], atol=1e-7) for key in one)


#: The released loss on the encoders that it needs, without the keys of the other loss.
RELEASED = ["loss=released", "encoders.form=released", "encoders.condition_input=nearest", "source_layers=null",
            "style_layers=null", "warmup_space=image", "warmup_rematch=false", "perceptual_layer=relu4_2"]  # fmt: skip
VGG = "features={target: midms.losses.perceptual.VGG19Features, params: {weights: random, layers: [relu5_2]}}"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["model.params.encodres.hidden=3"], "did you mean 'encoders'"),
        (["model.params.loss_weights.perceptual=1"], "unknown ['perceptual']"),
        (["model.params.weights=nowhere"], "'nowhere'"),
        (["--resume", "no/such/run"], "no checkpoint in"),
        (["trainer.max_steps=-1"], "trainer.max_steps"),
        (["trainer.accumulate_grad_batches=2"], "set model.params.accumulation"),
        (["model.params.loss=reported"], "expected one of paper, released"),
        (["model.params.loss=released"], "needs encoders.form 'released'"),
        (
            ["model.params.source_layers={relu1_2: 1.0}"],
            "the first stage's encoder: it has no layer relu1_2 (only down0",
        ),
        (
            [f"model.params.{key}" for key in RELEASED],
            "no layer relu1_2, relu2_2, relu3_2, relu4_2, relu5_2 (only down0",
        ),
        (
            [f"model.params.{key}" for key in (*RELEASED, VGG)],
            "features has no layer relu1_2, relu2_2, relu3_2, relu4_2 ",
        ),
        (["model.params.compile=quickly"], "compile: got 'quickly'"),
        (
            ["model.params.features={target: midms.losses.perceptual.VGG19Features, params: {weights: caffe}}"],
            "get vgg19_conv.pth from the README of https://github.com/microsoft/CoCosNet and put it there",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_2(tmp_path, tiny_weights, capsys, monkeypatch, more, message):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert program()(stage_three(tiny_weights, tmp_path / "run", 1, *more)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_says_which_keys_differ(tmp_path, tiny_weights, capsys):
    """Compared with the config beside the checkpoint, also where a file of another run is named."""
    main = program()
    assert main(stage_three(tiny_weights, tmp_path / "run", 1)) == 0
    capsys.readouterr()
    file = tmp_path / "run/checkpoints/step_00000001.ckpt"
    more = ["--resume", str(file), "model.params.learning_rate=0.5"]
    assert main(stage_three(tiny_weights, tmp_path / "other", 2, *more)) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resume: ")]
    assert printed == [
        "resume: model.params.learning_rate was 0.0006, is now 0.5",
        "resume: trainer.max_steps was 1, is now 2",
    ]


def test_weights_of_another_architecture_are_refused(tmp_path, tiny_weights, capsys):
    main = program()
    assert main(stage_three(tiny_weights, tmp_path / "run", 1)) == 0
    more = ["--resume", str(tmp_path / "run"), "model.params.encoders.hidden=4"]
    assert main(stage_three(tiny_weights, None, 2, *more)) == 2
    assert "does not fit this config" in capsys.readouterr().err


@pytest.mark.parametrize("error", [SafetensorError("I/O error: No space left"), OSError(30, "Read-only file system")])
def test_an_export_that_fails_is_one_line_and_the_run_goes_on(tmp_path, capsys, monkeypatch, error):
    """As on a full disk or a read-only one: the checkpoint stays, and a resumed run has only the export left to do."""

    def refuse(*arguments):
        raise error

    run, main = tmp_path / "run", program()
    with monkeypatch.context() as patch:
        patch.setattr("midms.checkpoints.folder.save_file", refuse)
        assert main(stage_one(run, 1)) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and ("No space" in told or "Read-only" in told)
    assert f"{run}/weights: cannot be written" in told and "the last checkpoint is intact" in told
    assert sorted(path.name for path in run.iterdir() if path.is_dir()) == ["checkpoints", "tensorboard"]
    assert main(stage_one(run, 1, "--resume", str(run))) == 0 and (run / "weights/config.json").is_file()
