"""The real entry point on the shipped configs, shrunk: train, stop, resume, validate, and mistakes."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import pytest
import torch

from midms.checkpoints.folder import load_folder
from midms.pipelines.midms import MIDMsPipeline

ROOT = Path(__file__).resolve().parents[2]
SMALL_DATA = ["data.params.train.params.size=32", "data.params.validation.params.size=32",
              "data.params.validation.params.length=2", "data.params.batch_size=2", "run.log_every=1"]  # fmt: skip
STAGE = [f"model.params.first_stage.{item}" for item in ("ch=8", "ch_mult=[1,1,2]", "n_embed=64", "norm_groups=4")]
UNET = [f"model.params.denoiser.{item}" for item in ("model_channels=16", "channel_mult=[1,2]", "norm_groups=8",
        "num_head_channels=8", "attention_resolutions=[2]")]  # fmt: skip
ENCODERS = [f"model.params.encoders.{item}" for item in ("widths=[8,8,16]", "out_channels=16", "hidden=8")]


def program():
    spec = importlib.util.spec_from_file_location("main_program", ROOT / "main.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def stage_three(weights: Path, steps: int, *more: str) -> list[str]:
    return [
        "--base", str(ROOT / "configs/demo.yaml"), "-t", *SMALL_DATA, *ENCODERS, f"model.params.weights={weights}",
        f"trainer.max_steps={steps}", "model.params.warmup_steps=2",
        "run.checkpoint_every=1", "run.picture_every=3", *more,
    ]  # fmt: skip


def curve(run: Path, name: str = "train/loss") -> dict[int, float]:
    with (run / "metrics.csv").open() as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row[name]}


def test_first_stage_and_latent_diffusion(tmp_path):
    main = program()
    first = [*SMALL_DATA, *STAGE, "trainer.max_steps=3", "trainer.val_check_interval=3", "run.picture_every=3"]
    stage = ["--base", str(ROOT / "configs/first_stage/demo_vq_f4.yaml"), "-t", "--run", str(tmp_path / "stage")]
    assert main([*stage, *first, "model.params.quantise_from=1", "model.params.discriminator_from=1"]) == 0
    weights = tmp_path / "stage/weights"
    assert set(load_folder(weights).states) == {"first_stage"}
    ldm = ["--base", str(ROOT / "configs/ldm/demo.yaml"), "-t", "--run", str(tmp_path / "ldm"), *SMALL_DATA, *UNET]
    assert main([*ldm, f"model.params.first_stage={weights}", *first[-3:]]) == 0
    assert set(load_folder(tmp_path / "ldm/weights").states) == {"first_stage", "denoiser"}
    assert (tmp_path / "ldm/pictures/step_00000003.png").is_file()


def test_resume_equals_uninterrupted_and_the_result_translates(tmp_path, tiny_weights):
    """Through the switch from warm-up to the loop: equal losses and equal weights, bit for bit."""
    main = program()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(stage_three(tiny_weights, 4, "--run", str(whole), "run.keep=9")) == 0
    start = parts / "checkpoints/step_00000001.ckpt"
    start.parent.mkdir(parents=True)
    start.write_bytes((whole / "checkpoints/step_00000001.ckpt").read_bytes())
    assert main(stage_three(tiny_weights, 4, "--resume", str(parts))) == 0
    before, after = curve(whole), curve(parts)
    assert set(after) == {1, 2, 3} and all(before[step] == value for step, value in after.items())
    one, two = load_folder(whole / "weights").states, load_folder(parts / "weights").states
    assert all(torch.equal(one[part][key], two[part][key]) for part in one for key in one[part])
    assert any(not torch.equal(one["denoiser"][key], one["refiner"][key]) for key in one["refiner"])
    output = MIDMsPipeline.from_pretrained(whole / "weights")(torch.rand(15, 32, 32), torch.zeros(3, 32, 32))
    assert output.images[0].size == (32, 32)
    assert len(list((whole / "checkpoints").glob("*"))) == 4


def test_one_seed_gives_one_curve(tmp_path, tiny_weights):
    main = program()
    for name in ("a", "b"):
        assert main(stage_three(tiny_weights, 3, "--run", str(tmp_path / name))) == 0
    assert curve(tmp_path / "a") == curve(tmp_path / "b")


def test_averages_checkpointing_and_accumulation(tmp_path, tiny_weights):
    """The same first loss with gradient checkpointing; the export holds the averaged weights."""
    main, plain, thrifty = program(), tmp_path / "plain", tmp_path / "thrifty"
    warm = "model.params.warmup_steps=0"
    assert main(stage_three(tiny_weights, 2, "--run", str(plain), warm)) == 0
    more = ["model.params.gradient_checkpointing=true", "model.params.ema_decay=0.9"]
    assert main(stage_three(tiny_weights, 2, "--run", str(thrifty), warm, *more)) == 0
    assert curve(plain) == pytest.approx(curve(thrifty), rel=1e-5)
    one, two = (load_folder(run / "weights").states["encoders"] for run in (plain, thrifty))
    assert any(not torch.allclose(one[key], two[key], atol=1e-7) for key in one)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["model.params.encodres.hidden=3"], "did you mean 'encoders'"),
        (["model.params.loss_weights.perceptual=1"], "unknown ['perceptual']"),
        (["model.params.weights=nowhere"], "'nowhere'"),
        (["--resume", "no/such/run"], "no checkpoint in"),
        (["trainer.max_steps=-1"], "trainer.max_steps"),
        (["trainer.accumulate_grad_batches=2"], "set model.params.accumulation"),
        (["model.params.loss=reported"], "expected 'paper' or 'released'"),
        (["model.params.loss=released"], "needs encoders.form 'released'"),
        (["model.params.compile=quickly"], "compile: got 'quickly'"),
        (
            ["model.params.features={target: midms.losses.perceptual.VGG19Features, params: {weights: caffe}}"],
            "get vgg19_conv.pth from the README of https://github.com/microsoft/CoCosNet and put it there",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_2(tmp_path, tiny_weights, capsys, monkeypatch, more, message):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert program()(stage_three(tiny_weights, 1, "--run", str(tmp_path / "run"), *more)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_says_which_keys_differ(tmp_path, tiny_weights, capsys):
    """Compared with the config beside the checkpoint, also where a file of another run is named."""
    main = program()
    assert main(stage_three(tiny_weights, 1, "--run", str(tmp_path / "run"))) == 0
    capsys.readouterr()
    file = tmp_path / "run/checkpoints/step_00000001.ckpt"
    more = ["--resume", str(file), "--run", str(tmp_path / "other"), "model.params.learning_rate=0.5"]
    assert main(stage_three(tiny_weights, 2, *more)) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resume: ")]
    assert told == [
        "resume: model.params.learning_rate was 0.0006, is now 0.5",
        "resume: trainer.max_steps was 1, is now 2",
    ]


def test_weights_of_another_architecture_are_refused(tmp_path, tiny_weights, capsys):
    main = program()
    assert main(stage_three(tiny_weights, 1, "--run", str(tmp_path / "run"))) == 0
    more = ["--resume", str(tmp_path / "run"), "model.params.encoders.hidden=4"]
    assert main(stage_three(tiny_weights, 2, *more)) == 2
    assert "does not fit this config" in capsys.readouterr().err
