"""The log of a training: lines without a terminal, a bar with one, and a word where the loss changes."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from programs import Terminal
from small_runs import ROOT, program, stage_one, stage_three

from midms.config import load_config
from midms.progress import Timer
from midms.training.curves import draw_curves
from midms.training.first_stage import FirstStageTraining
from midms.training.midms import WARMUP_OVER
from midms.training.progress import RunLines, RunProgressBar, progress_of_run


def test_a_log_has_plain_lines_and_says_where_the_loss_changes(tmp_path, tiny_weights, capsys):
    """Log, picture and curves; no line is overwritten, and no library warns."""
    more = ["trainer.val_check_interval=2", "run.picture_every=2"]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        assert program()(stage_three(tiny_weights, tmp_path / "run", 3, *more)) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "\r" not in out + err and "v_num" not in out and err == ""
    assert [str(warning.message) for warning in seen] == []
    assert f"step 2: {WARMUP_OVER}" in lines
    assert any(text.startswith("step 2 of 3, train/loss ") and "val/psnr " in text for text in lines)
    assert lines[-1].startswith("step 3 of 3, train/loss ") and lines.index(f"step 2: {WARMUP_OVER}") < len(lines) - 1
    picture = np.asarray(Image.open(tmp_path / "run/pictures/step_00000002.png"))
    assert (picture[:18] < 128).any()  # the title
    draw_curves(tmp_path / "run", tmp_path / "curves.png")
    marked = np.asarray(Image.open(tmp_path / "curves.png"))
    config = tmp_path / "run/config.yaml"
    config.write_text(config.read_text().replace("warmup_steps: 2", "warmup_steps: 0"))
    draw_curves(tmp_path / "run", tmp_path / "plain.png")
    plain = np.asarray(Image.open(tmp_path / "plain.png"))
    assert marked.shape != plain.shape or (marked != plain).any()


def test_a_terminal_gets_one_bar_without_a_version_number(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert isinstance(progress_of_run(), RunProgressBar)
    more = ["trainer.val_check_interval=0", "model.params.quantise_from=1"]
    assert program()(stage_one(tmp_path / "run", 2, *more)) == 0
    text = terminal.getvalue()
    assert "training: 100%" in text and "v_num" not in text and "Epoch" not in text
    assert "step 1: from here latents are quantised" in text


def test_no_progress_on_request(tmp_path, capsys):
    more = ["trainer.val_check_interval=0", "trainer.enable_progress_bar=false", "model.params.quantise_from=0"]
    assert program()(stage_one(tmp_path / "run", 1, *more)) == 0
    assert capsys.readouterr().out == ""


def trainer(step: int, total: int) -> SimpleNamespace:
    """What the lines read of Lightning's trainer."""
    return SimpleNamespace(global_step=step, max_steps=total, progress_bar_metrics={"train/loss": 0.12345},
                           state=SimpleNamespace(fn="fit"))  # fmt: skip


def test_lines_come_at_intervals_with_the_time_left(capsys):
    times = iter([0.0, 0.0, *range(5, 500, 5)])
    lines = RunLines(Timer(30, lambda: next(times)))
    lines.on_train_start(trainer(0, 40), None)  # type: ignore[arg-type]  # a part of a trainer
    for step in range(1, 41):
        lines.on_train_batch_end(trainer(step, 40))  # type: ignore[arg-type]  # a part of a trainer
    lines.on_train_end(trainer(40, 40))  # type: ignore[arg-type]  # a part of a trainer
    told = capsys.readouterr().out.splitlines()
    assert 5 <= len(told) <= 8 and told[-1] == "step 40 of 40, train/loss 0.1235"
    assert told[0].startswith("step 6 of 40, train/loss 0.1235, ") and told[0].endswith(" left")
    assert " steps per second, " in told[0]


def test_other_ranks_are_silent(capsys):
    lines = RunLines(Timer(0, lambda: 0.0))
    lines.disable()
    lines.on_train_batch_end(trainer(3, 4))  # type: ignore[arg-type]  # a part of a trainer
    lines.on_validation_end(trainer(3, 4))  # type: ignore[arg-type]  # a part of a trainer
    lines.on_train_end(trainer(4, 4))  # type: ignore[arg-type]  # a part of a trainer
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("quantise", "critic", "steps"), [(0, None, []), (5, None, [5]), (5, 5, [5]), (5, 7, [5, 7])])
def test_changes_of_the_first_stage(quantise, critic, steps):
    config = load_config([ROOT / Path("configs/first_stage/demo_vq_f4.yaml")])
    stage = FirstStageTraining(config.model.params.first_stage, quantise_from=quantise, discriminator_from=critic)
    assert list(stage.changes()) == steps
    assert ("codebook" in str(stage.changes())) == bool(quantise)
    assert ("discriminator" in str(stage.changes())) == (critic is not None)
