"""What a run leaves to look at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_runs import curve, program, stage_three

from midms.training.callbacks import ResumableCSVLogger


def test_the_table_goes_on_after_a_resume(tmp_path):
    """Rows that are written again are dropped, new names become columns, a line cut off by a kill is forgotten."""
    file = tmp_path / "metrics.csv"
    log = ResumableCSVLogger(file)
    for step in range(4):
        log.log_metrics({"train/loss": float(step)}, step)
    with file.open("a") as table:
        table.write("4,")
    again = ResumableCSVLogger(file)
    again.drop_rows_from(2)
    again.log_metrics({"train/loss": 20.0, "val/psnr": 7.5}, 2)
    assert curve(tmp_path) == {0: 0.0, 1: 1.0, 2: 20.0}
    assert curve(tmp_path, "val/psnr") == {2: 7.5}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_run_shows_speed_memory_rates_and_steps(tmp_path, tiny_weights):
    run = tmp_path / "run"
    assert program()(stage_three(tiny_weights, run, 3, "run.picture_every=3")) == 0
    for name in ("images_per_second", "memory_gb", "learning_rate_0_0", "learning_rate_0_1"):
        assert all(value > 0 for value in curve(run, f"run/{name}").values()), name
    left = curve(run, "run/hours_left")
    assert set(left) == {0, 1, 2} and left[0] > left[2] == 0
    assert all(value > 0 for value in curve(run, "train/grad_norm").values())
    assert any((run / "tensorboard").glob("events.*"))
    picture = np.asarray(Image.open(run / "pictures/step_00000003.png"))
    columns = round((picture.shape[1] - 3) / 131)
    assert columns == 9, "condition, exemplar, warp, n = 4, 3, 2, mask, result, truth"


@pytest.mark.slow
def test_weights_and_biases_writes_offline_without_a_key(tmp_path, tiny_weights):
    pytest.importorskip("wandb")
    run = tmp_path / "run"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    program_file = Path(__file__).parents[2] / "main.py"
    arguments = stage_three(tiny_weights, run, 1, "run.wandb=trial")
    done = subprocess.run(
        [sys.executable, str(program_file), *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert any(run.glob("wandb/offline-run-*"))
