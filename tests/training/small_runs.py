"""The shipped configs of all three stages, shrunk to seconds, through the real program."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from programs import ROOT, load_program

DATA = ["data.params.train.params.size=32", "data.params.validation.params.size=32",
        "data.params.validation.params.length=3", "data.params.batch_size=2", "run.log_every=1",
        "trainer.accelerator=cpu"]  # fmt: skip
STAGE = [f"model.params.first_stage.{item}" for item in ("ch=8", "ch_mult=[1,1,2]", "n_embed=64", "norm_groups=4")]
UNET = [f"model.params.denoiser.{item}" for item in ("model_channels=16", "channel_mult=[1,2]", "norm_groups=8",
        "num_head_channels=8", "attention_resolutions=[2]")]  # fmt: skip
ENCODERS = [f"model.params.encoders.{item}" for item in ("widths=[8,8,16]", "out_channels=16", "hidden=8")]


def program() -> Callable[[list[str]], int]:
    """`main` of main.py."""
    main: Callable[[list[str]], int] = load_program("main.py").main
    return main


GENERATOR = ["model.params.generator={widths: [16, 16, 8], hidden: 8, condition_width: 2}",
             "model.params.discriminator={scales: 2, width: 8, num_layers: 2}"]  # fmt: skip


def stage_one(run: Path, steps: int, *more: str, config: str = "demo_vq_f4") -> list[str]:
    """Arguments that train a small autoencoder."""
    base = ["--base", str(ROOT / f"configs/first_stage/{config}.yaml"), "-t", "--run", str(run), *DATA, *STAGE]
    return [*base, f"trainer.max_steps={steps}", "run.checkpoint_every=1", "run.picture_every=9", *more]


def stage_two(weights: Path, run: Path, steps: int, *more: str) -> list[str]:
    """Arguments that train a small latent diffusion model."""
    base = ["--base", str(ROOT / "configs/ldm/demo.yaml"), "-t", "--run", str(run), *DATA, *UNET]
    base += [f"model.params.first_stage={weights}", f"trainer.max_steps={steps}"]
    return [*base, "run.checkpoint_every=1", "run.picture_every=9", *more]


def stage_three(weights: Path, run: Path | None, steps: int, *more: str) -> list[str]:
    """Arguments that train a small MIDMs: two steps of warm-up, then end to end; without `run`, where `more` says."""
    folder = [] if run is None else ["--run", str(run)]
    base = ["--base", str(ROOT / "configs/demo.yaml"), "-t", *folder, *DATA, *ENCODERS]
    base += [f"model.params.weights={weights}", f"trainer.max_steps={steps}", "model.params.warmup_steps=2"]
    return [*base, "run.checkpoint_every=1", "run.picture_every=9", *more]


def matching_gan(weights: Path, run: Path | None, steps: int, *more: str) -> list[str]:
    """Arguments that train a small GAN baseline; without `run`, where `more` says."""
    folder = [] if run is None else ["--run", str(run)]
    base = ["--base", str(ROOT / "configs/baselines/matching_gan.yaml"), "-t", *folder, *DATA, *ENCODERS, *GENERATOR]
    base += [f"model.params.weights={weights}", f"trainer.max_steps={steps}"]
    return [*base, "run.checkpoint_every=1", "run.picture_every=9", *more]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """main.py in a process of its own, on one thread."""
    command = [sys.executable, str(ROOT / "main.py"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def curve(run: Path, name: str = "train/loss") -> dict[int, float]:
    """A column of the run's table by step."""
    with (run / "metrics.csv").open() as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row.get(name)}


def checkpoint(run: Path, step: int) -> dict:
    """A whole checkpoint of a run."""
    return torch.load(run / f"checkpoints/step_{step:08d}.ckpt", map_location="cpu", weights_only=False)


def gradients(run: Path) -> list[torch.Tensor]:
    """Gradients of a run's first step: Adam's first moment after it is (1 - beta1) of them."""
    state = checkpoint(run, 1)["optimizer_states"][0]
    shares = {index: 1 - group["betas"][0] for group in state["param_groups"] for index in group["params"]}
    return [moments["exp_avg"] / shares[index] for index, moments in sorted(state["state"].items())]
