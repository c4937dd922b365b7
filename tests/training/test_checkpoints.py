"""What stays in a run's folder of checkpoints."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from midms.training.checkpoints import AtomicCheckpointIO, Checkpoints
from midms.training.errors import TrainingError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_lies_ahead_of_a_run_is_set_aside(tmp_path, capsys):
    """A fresh run, or one resumed from an older file, neither loses to nor deletes the checkpoints of another."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for step in (10, 20, 30):
        (folder / f"step_{step:08d}.ckpt").write_text("whole")
    (folder / ".step_00000040.12ab.partial.ckpt").write_text("torn")
    trainer = SimpleNamespace(is_global_zero=True, global_step=10)
    Checkpoints(folder, every=5).on_train_start(trainer, None)
    assert names(folder) == ["step_00000010.ckpt"]
    assert names(tmp_path / "checkpoints_1") == ["step_00000020.ckpt", "step_00000030.ckpt"]
    assert "moved to" in capsys.readouterr().out
    trainer.global_step = 0
    Checkpoints(folder, every=5).on_train_start(trainer, None)
    assert names(folder) == [] and names(tmp_path / "checkpoints_2") == ["step_00000010.ckpt"]


def test_the_last_ones_stay_and_a_step_is_written_once(tmp_path):
    written = []

    def save(path):
        written.append(path.name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("whole")

    checkpoints = Checkpoints(tmp_path / "checkpoints", every=1, keep=2)
    for step in (1, 2, 3, 3):
        checkpoints.save(SimpleNamespace(global_step=step, is_global_zero=True, save_checkpoint=save))
    assert len(written) == 3
    assert names(tmp_path / "checkpoints") == ["step_00000002.ckpt", "step_00000003.ckpt"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    """Whatever the system says, one line tells it and names the last whole file."""
    files = AtomicCheckpointIO()
    files.save_checkpoint({"step": 1}, tmp_path / "step_00000001.ckpt")

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(TrainingError, match=r"No space left on device.*last complete one is .*step_00000001\.ckpt"):
        files.save_checkpoint({"step": 2}, tmp_path / "step_00000002.ckpt")
    assert names(tmp_path) == ["step_00000001.ckpt"]
    assert torch.load(tmp_path / "step_00000001.ckpt", weights_only=True) == {"step": 1}
