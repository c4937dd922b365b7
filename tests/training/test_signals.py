"""A training told to stop: wherever it is, it stops there, and the resumed run ends like the uninterrupted one.

The signal is sent by the place itself, so that nothing depends on time.
"""

from __future__ import annotations

import os
import signal

import pytest
import torch
from small_runs import curve, program, stage_one, stage_three

from midms.checkpoints.folder import load_folder
from midms.data.procedural.dataset import ProceduralImages
from midms.training import export, first_stage
from midms.training.callbacks import PictureLogger
from midms.training.checkpoints import AtomicCheckpointIO
from midms.training.errors import Interrupted
from midms.training.first_stage import FirstStageTraining
from midms.training.midms import MIDMsTraining
from midms.training.signals import SIGNALS

STEPS = 4
MORE = ["trainer.val_check_interval=2", "run.picture_every=2", "run.checkpoint_every=3", "run.keep=9"]
#: Where the signal comes: what is called there, in which of its calls, and the step that is saved then.
PLACES = {
    "a step": (FirstStageTraining, "training_step", 3, 3),
    "loading": (ProceduralImages, "__getitem__", 3, 1),
    "a validation": (FirstStageTraining, "validation_step", 2, 2),
    "the last validation": (FirstStageTraining, "validation_step", 4, 4),
    "a picture": (FirstStageTraining, "pictures", 1, 2),
    "a finished picture": (PictureLogger, "draw", 1, 2),
    "a checkpoint": (AtomicCheckpointIO, "save_checkpoint", 1, 3),
    "the export": (export, "save_folder", 1, 4),
}


def signal_at(monkeypatch, owner, name, call, number=signal.SIGTERM):
    """Send this process a signal at the start of the so-manieth call of a function."""
    original, calls = getattr(owner, name), [0]

    def told(*args, **kwargs):
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, told)


def assert_same(one, two):
    """Weights bit for bit, every metric of every step, the same pictures, and nothing else left."""
    a, b = (load_folder(run / "weights").states for run in (one, two))
    assert all(torch.equal(a[part][key], b[part][key]) for part in a for key in a[part])
    for name in ("train/loss", "train/grad_norm", "val/psnr"):
        assert curve(one, name) == curve(two, name) and curve(one, name), name
    pictures = [sorted(file.name for file in (run / "pictures").iterdir()) for run in (one, two)]
    assert pictures[0] == pictures[1]
    assert {file.name for file in two.iterdir()} == {file.name for file in one.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    assert program()(stage_one(run, STEPS, *MORE)) == 0
    return run


#: The others do not differ from these in what happens, and take their time.
QUICK = ("a validation", "a picture", "the export")


@pytest.mark.parametrize("place", [pytest.param(p, marks=[pytest.mark.slow] * (p not in QUICK)) for p in PLACES])
def test_stopped_anywhere_and_resumed(place, tmp_path, monkeypatch, capsys, whole):
    owner, name, call, saved = PLACES[place]
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        signal_at(patch, owner, name, call)
        assert program()(stage_one(run, STEPS, *MORE)) == 143
    assert f"main.py: SIGTERM: saved step {saved}; continue with --resume\n" in capsys.readouterr().err
    steps = [int(file.stem[5:]) for file in (run / "checkpoints").iterdir()]
    assert max(steps) == saved and not (run / "weights").exists()
    assert program()(stage_one(run, STEPS, *MORE, "--resume", str(run))) == 0
    assert_same(whole, run)


@pytest.mark.slow
def test_stopped_in_a_validation_of_averaged_weights(tmp_path, tiny_weights, monkeypatch):
    """The averages are in place of the weights then; what is saved are the weights."""
    more = ["model.params.ema_decay=0.9", "trainer.val_check_interval=1", "run.keep=9"]
    main, one, two = program(), tmp_path / "one", tmp_path / "two"
    assert main(stage_three(tiny_weights, one, 2, *more)) == 0
    with monkeypatch.context() as patch:
        signal_at(patch, MIDMsTraining, "validation_step", 2)
        assert main(stage_three(tiny_weights, two, 2, *more, "run.checkpoint_every=null")) == 143
    assert main(stage_three(tiny_weights, two, 2, *more, "--resume", str(two))) == 0
    assert curve(one) == curve(two) and curve(one, "val/psnr") == curve(two, "val/psnr")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_at_the_start_leaves_nothing(number, tmp_path, monkeypatch, capsys):
    signal_at(monkeypatch, first_stage, "FirstStage", 1, number)
    assert program()(stage_one(tmp_path / "run", 1)) == 128 + number
    assert capsys.readouterr().err.endswith(f"{number.name}: stopped before there was anything to save\n")
    assert not any(tmp_path.iterdir())


def test_a_second_interrupt_waits_for_nothing(tmp_path, monkeypatch, capsys):
    def impatient(self, *args):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    monkeypatch.setattr(FirstStageTraining, "training_step", impatient)
    assert program()(stage_one(tmp_path / "run", 2)) == 130
    assert not (tmp_path / "run").exists()


def test_handlers_are_given_back_and_other_processes_left_alone(monkeypatch):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with SIGNALS.handled():
        with SIGNALS.handled():
            assert signal.getsignal(signal.SIGTERM) == SIGNALS.note
        assert signal.getsignal(signal.SIGTERM) == SIGNALS.note
        with monkeypatch.context() as patch:
            patch.setattr(SIGNALS, "process", -1)
            SIGNALS.note(signal.SIGINT, None)
        assert SIGNALS.received is None
        with pytest.raises(Interrupted):
            SIGNALS.note(signal.SIGINT, None)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
