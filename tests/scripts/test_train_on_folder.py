"""From a folder of photos to weights and a contact sheet, by one command that can be killed at any time."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from files_on_disk import photo
from programs import ROOT, load_program

from midms.config import check, load_config
from midms.pipelines.midms import MIDMsPipeline

SMALL = ("--size", "32", "--device", "cpu", "--workers", "0")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten photos in the working folder, one of them broken, and no networks that read photos."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIDMS_CACHE", str(tmp_path / "cache"))
    for number in range(10):
        photo(tmp_path / "photos" / f"{number} of mine.jpg", number, (48, 40))
    (tmp_path / "photos/broken.jpg").write_bytes(b"\xff\xd8 no photo")
    return tmp_path / "photos"


def commands(text: str) -> list[str]:
    return [line.removeprefix("$ python ") for line in text.splitlines() if line.startswith("$ python ")]


def test_the_whole_path_and_again(photos, capsys):
    """Weights that translate, a contact sheet, a split without the broken photo; the second run does nothing."""
    main = load_program("scripts/train_on_folder.py").main
    words = ["photos", "--out", "runs/mine", *SMALL, "--steps", "2", "2", "2"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "broken.jpg" in err and "edges at 32 pixels on cpu; 2 + 2 + 2 steps" in out
    assert len(commands(out)) == 7 and "midms get photos" in out
    listed = {
        split: (photos.parent / f"runs/mine/lists/{split}.txt").read_text().splitlines() for split in ("train", "val")
    }
    assert [len(names) for names in listed.values()] == [8, 2] and not set(listed["train"]) & set(listed["val"])
    for split, names in listed.items():
        pairs = list(csv.reader((photos.parent / f"runs/mine/lists/{split}_pairs.txt").read_text().splitlines()))
        assert {name for row in pairs for name in row} <= set(names)
    pipe = MIDMsPipeline.from_pretrained("runs/mine/weights")
    assert pipe.info["size"] == 32
    assert pipe(torch.rand(15, 32, 32), torch.zeros(3, 32, 32)).images[0].size == (32, 32)
    sheet = photos.parent / "runs/mine/pairs/contact_sheet.png"
    made = sheet.stat().st_mtime_ns
    assert main(["photos", "--out", "runs/mine"]) == 0
    out = capsys.readouterr().out
    assert out.count(", done\n") == 7 and sheet.stat().st_mtime_ns == made and "midms translate" in out


def test_a_dry_run_prints_commands_that_are_understood_and_makes_nothing(photos, capsys):
    assert load_program("scripts/train_on_folder.py").main(["photos", "--out", "runs/mine", *SMALL, "--dry-run"]) == 0
    shown = commands(capsys.readouterr().out)
    assert not Path("runs").exists()
    trainings = [words.split() for words in shown if "main.py --base" in words]
    assert len(trainings) == 3
    for words in trainings:
        options = load_program("main.py").parse(words[1:])
        config = load_config(options.base, options.overrides)
        check(config)
        assert config.data.params.train.params.size == config.data.params.validation.params.size == 32
        assert config.data.params.validation.params.names == "runs/mine/lists/val.txt"
    assert "model.params.first_stage.n_embed=64" in shown[-4]


@pytest.mark.parametrize("condition", ["keypoints", "parts"])
def test_other_conditions_take_annotations_made_elsewhere(photos, condition, capsys):
    program = load_program("scripts/train_on_folder.py")
    words = ["photos", "--condition", condition, "--out", "runs/mine", "--dry-run"]
    assert program.main(words) == 2
    assert "run `midms get photos` once" in capsys.readouterr().err
    assert program.main([*words, "--annotations", "mine elsewhere"]) == 0
    shown = commands(capsys.readouterr().out)
    assert "--annotations 'mine elsewhere'" in shown[0]
    assert """'data.params.train.params.annotations="mine elsewhere"'""" in shown[-2]
    channels = {"keypoints": 20, "parts": 14}[condition]
    assert f"model.params.encoders.condition_channels={channels}" in shown[-2]


def test_mistakes_are_one_line(photos, capsys):
    program = load_program("scripts/train_on_folder.py")
    out = photos.parent / "begun"
    out.mkdir()
    plan = program.make_plan(program.parse(["photos", "--out", "begun", *SMALL]))
    (out / "plan.json").write_text(json.dumps(plan.__dict__))
    for words, message in (
        (["none", "--out", "x"], "none: no such folder"),
        (["photos", "--out", "begun", "--size", "64"], "was begun with size 32, not 64; choose another --out"),
        (["photos", "--out", "begun", "--condition", "parts"], "was begun with condition edges, not parts"),
        (["photos", "--out", "photos"], "--out photos: lies in the folder of the photos"),
        (["photos", "--out", "photos/run", "--dry-run"], "--out photos/run: lies in the folder of the photos"),
    ):
        assert program.main(words) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    for text in ("{", "[]", "{}", "[" * 100_000, '{"size": "\x1b[2J"}', '{"size": NaN}'):
        (out / "plan.json").write_text(text)
        assert program.main(["photos", "--out", "begun"]) == 2
        err = capsys.readouterr().err
        assert "plan.json: " in err and err.count("\n") == 1 and "\x1b" not in err
    for number in range(3, 11):
        next(photos.glob(f"{number}*"), photos / "broken.jpg").unlink(missing_ok=True)
    assert program.main(["photos", "--out", "x", "--dry-run"]) == 2
    assert "expected at least 8 for a training" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        program.parse(["photos", "--out", "x", "--size", "40"])


def test_steps_follow_device_and_number_of_photos(photos):
    program = load_program("scripts/train_on_folder.py")
    few, large = (program.make_plan(program.parse(["photos", "--out", "x", "--device", "cpu", *more]))
                  for more in ([], ["--size", "128"]))  # fmt: skip
    assert few.steps == tuple(count // 4 for count in program.SIZES["cpu"].steps) and few.size == 64
    assert large.batches == tuple(batch // 2 for batch in few.batches)
    assert program.make_plan(program.parse(["photos", "--out", "x", "--device", "cuda"])).size == 128


@pytest.mark.slow
def test_killed_in_a_stage_it_goes_on(photos):
    """kill -9 after the first checkpoint of stage 1: the next run resumes there, and all stages end."""
    words = [sys.executable, str(ROOT / "scripts/train_on_folder.py"), "photos", "--out", "runs/mine", *SMALL]
    words += ["--steps", "80", "2", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    begun = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    run = Path("runs/mine/first_stage")
    while not list(run.glob("checkpoints/step_*.ckpt")):
        assert begun.poll() is None, begun.stdout.read()
        time.sleep(0.05)
    begun.send_signal(signal.SIGKILL)
    begun.communicate()
    assert not (run / "weights").exists()
    again = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr[-2000:]
    assert "--resume runs/mine/first_stage" in again.stdout and again.stdout.count(", done\n") == 3
    with (run / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert steps == sorted(set(steps)) and max(steps) == 79
    MIDMsPipeline.from_pretrained("runs/mine/weights")
