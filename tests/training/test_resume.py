"""Going on from a run: its newest whole checkpoint, whatever the batch size, and nothing in a file is ever run."""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch
from small_runs import curve, program, stage_one

from midms.data.procedural.dataset import ProceduralImages
from midms.training.checkpoints import last_checkpoint, read_checkpoint
from midms.training.errors import TrainingError
from midms.training.folder import LOCK, claimed

QUIET = ["trainer.limit_val_batches=0", "run.keep=9"]


class Evil:
    """Runs a command when it is unpickled freely."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of three steps."""
    run = tmp_path_factory.mktemp("made") / "run"
    assert program()(stage_one(run, 3, *QUIET)) == 0
    return run


@pytest.fixture
def run(made, tmp_path):
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "run")


def content(run, step=3):
    return torch.load(run / f"checkpoints/step_{step:08d}.ckpt", weights_only=True)


def tree(folder):
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.rglob("*") if file.is_file()}


HOSTILE = {
    "zip": lambda marker, file, good: torch.save(Evil(marker), file),
    "legacy": lambda marker, file, good: torch.save(Evil(marker), file, _use_new_zipfile_serialization=False),
    "pickle": lambda marker, file, good: file.write_bytes(pickle.dumps(Evil(marker))),
    "inside": lambda marker, file, good: torch.save(good | {"callbacks": {"x": Evil(marker)}}, file),
    "weights": lambda marker, file, good: torch.save(good | {"state_dict": {"a": Evil(marker)}}, file),
}


@pytest.mark.parametrize("form", HOSTILE)
def test_a_hostile_checkpoint_runs_nothing(form, run, tmp_path, capsys):
    """As a file, and as the newest of a run, where the one before it is taken."""
    marker, newest = tmp_path / "ran", run / "checkpoints/step_00000009.ckpt"
    HOSTILE[form](marker, newest, content(run))
    assert program()(stage_one(tmp_path / "new", 4, *QUIET, "--resume", str(newest))) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "step_00000009.ckpt: " in error and len(error) < 500
    assert not (tmp_path / "new").exists()
    assert last_checkpoint(run).name == "step_00000003.ckpt"
    assert "resume: skipped" in capsys.readouterr().out and not marker.exists()


def damaged(run):
    """What a checkpoint can be instead of whole, as files newer than the last whole one."""
    folder, good = run / "checkpoints", (run / "checkpoints/step_00000003.ckpt").read_bytes()
    state = content(run)
    yield "cut off", lambda file: file.write_bytes(good[: len(good) // 2])
    yield "empty", lambda file: file.write_bytes(b"")
    yield "cut off, or no checkpoint", lambda file: file.write_text("text")
    yield "holds a list", lambda file: torch.save([1], file)
    yield "weights alone", lambda file: torch.save(state["state_dict"], file)
    yield (
        "not a dense tensor",
        lambda file: torch.save(state | {"state_dict": {"w": torch.ones(2, 2).to_sparse()}}, file),
    )
    yield (
        "not a dense tensor",
        lambda file: torch.save(state | {"state_dict": {"w": torch.zeros(1).expand(10**12)}}, file),
    )
    yield (
        "not a dense tensor",
        lambda file: torch.save(state | {"state_dict": {"w": torch.empty(10**6, device="meta")}}, file),
    )
    yield "it is of step 3", lambda file: torch.save(state, file)
    yield "checksum", lambda file: flip(file, good)
    yield "compressed", lambda file: compress(folder / "step_00000003.ckpt", file)


def flip(file, good):
    """One byte of the largest tensor is another."""
    file.write_bytes(good)
    with zipfile.ZipFile(file) as archive:
        entry = max(archive.infolist(), key=lambda one: one.file_size)
    at = entry.header_offset + len(entry.filename) + 400
    file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])


def compress(source, file):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))


def test_the_newest_whole_checkpoint_is_found_and_the_others_named(run, capsys):
    for number, (reason, write) in enumerate(damaged(run), start=4):
        file = run / f"checkpoints/step_{number:08d}.ckpt"
        write(file)
        assert last_checkpoint(run).name == "step_00000003.ckpt"
        said = capsys.readouterr().out
        assert file.name in said and reason in said and "continuing from step_00000003.ckpt" in said, said
        file.unlink()
    for file in (run / "checkpoints").iterdir():
        file.write_bytes(b"")
    with pytest.raises(TrainingError, match=r"no complete checkpoint: .*step_00000003.*empty.*step_00000001"):
        last_checkpoint(run)


def test_all_that_a_checkpoint_holds_is_plain(run):
    """Nothing needs an allow-list: what is read is what was saved."""
    found = read_checkpoint(run / "checkpoints/step_00000003.ckpt")
    assert found["global_step"] == 3 and found["DataModule"] == {"batches_seen": 3, "samples_seen": 6}


def test_another_batch_size_repeats_and_skips_nothing(tmp_path, monkeypatch):
    """Six samples in batches of two, then six in batches of three: those of twelve in a row, and a later resume too."""
    seen, original = [], ProceduralImages.__getitem__

    def item(self, index):
        if self.split == "train":
            seen.append(index)
        return original(self, index)

    monkeypatch.setattr(ProceduralImages, "__getitem__", item)
    main, run, more = program(), tmp_path / "run", [*QUIET, "data.params.train.params.length=9"]
    assert main(stage_one(tmp_path / "one", 6, *more)) == 0
    whole = seen.copy()
    seen.clear()
    assert main(stage_one(run, 3, *more)) == 0
    assert main(stage_one(run, 4, *more, "--resume", str(run), "data.params.batch_size=3")) == 0
    assert main(stage_one(run, 5, *more, "--resume", str(run), "data.params.batch_size=3")) == 0
    assert seen == whole and len(whole) == 12


def test_older_checkpoints_go_on(run):
    """They count batches alone, and their loops are those of another version of ours."""
    file = run / "checkpoints/step_00000002.ckpt"
    (run / "checkpoints/step_00000003.ckpt").unlink()
    state = torch.load(file, weights_only=True)
    del state["DataModule"]["samples_seen"]
    torch.save(state, file)
    before = curve(run)
    assert program()(stage_one(run, 3, *QUIET, "--resume", str(run))) == 0
    assert curve(run) == before


def test_validate_writes_nothing(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    arguments = [word for word in stage_one(run, 3) if word not in ("-t", "--run", str(run))]
    assert program()([*arguments, "--validate", "--resume", str(run)]) == 0
    assert "val/psnr" in capsys.readouterr().out
    assert tree(tmp_path) == before
    assert program()([*arguments, "--validate", "data.params.validation=null"]) == 2
    assert "data.params.validation" in capsys.readouterr().err and tree(tmp_path) == before


def test_two_trainings_in_one_folder(run, capsys):
    """The second is refused while the first holds the lock, which its end gives back, whatever ends it."""
    before = tree(run)
    holder = "import sys; from pathlib import Path; from midms.training.folder import claimed\n"
    holder += f"with claimed(Path({str(run)!r})): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout.readline() == b"held\n"
        assert program()(stage_one(run, 4, *QUIET, "--resume", str(run))) == 2
        error = capsys.readouterr().err
        assert (
            f"another training is running in this folder (process {first.pid} on " in error and error.count("\n") == 1
        )
        first.kill()
    (run / LOCK).unlink()
    assert tree(run) == before
    with claimed(run):
        assert (run / LOCK).is_file()
    assert not (run / LOCK).exists()


def test_a_folder_that_was_there_stays_as_it_was(tmp_path):
    for name in ("new", "old"):
        (tmp_path / "old").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match="x"), claimed(tmp_path / name):
            (tmp_path / name / "config.yaml").write_text("")
            raise ValueError("x")
    assert not (tmp_path / "new").exists() and (tmp_path / "old/config.yaml").is_file()


MISTAKES = {
    "accelerator": (["trainer.accelerator=gpu"], "trainer: "),
    "float16 on a CPU": (["trainer.precision=16-mixed"], "trainer.precision: got '16-mixed' on a CPU"),
    "channels": (["model.params.first_stage.in_channels=4"], "the first step failed"),
    "no devices": (["trainer.devices=0"], "trainer: "),
    "a file as folder": (["--run", __file__], "File exists"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_that_only_a_start_finds(name, tmp_path, capsys):
    more, message = MISTAKES[name]
    if name == "accelerator" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert program()(stage_one(tmp_path / "run", 1, *QUIET, *more)) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1] and "Traceback" not in "".join(error) and not (tmp_path / "run").exists()


def test_locks_are_of_this_process(tmp_path):
    """A loader process that outlives a killed training does not keep its folder."""
    with claimed(tmp_path / "run"):
        child = os.fork()
        if child == 0:
            with (tmp_path / "run" / LOCK).open("a") as file:
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os._exit(0)
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
