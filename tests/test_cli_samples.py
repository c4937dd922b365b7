"""Samples and notes on the command line, and what the program says of itself."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from files_on_disk import pixels
from PIL import Image

import midms
from midms.cli import main
from midms.io.provenance import read_settings
from midms.pipelines.midms import MIDMsPipeline
from midms.visualize import save_png


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a sketch, a photo and maps, where the program runs."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    sketch = Image.new("L", (200, 120), 255)
    sketch.paste(0, (20, 50, 180, 54))
    sketch.save(tmp_path / "sketch.png")
    np.save(tmp_path / "maps.npy", rng.integers(0, 256, (15, 32, 32), dtype=np.uint8))
    os.mkfifo(tmp_path / "pipe.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_samples_stand_for_files(folder, weights, capsys):
    """The same picture as in Python, no note, and a command that makes it again."""
    words = ["translate", "--condition", "sample:3", "--exemplar", "sample:5", "--weights", weights, "--calls", "2"]
    assert main([*words, "--out", "out.png"]) == 0
    assert capsys.readouterr().err == "out.png: 32 x 32\n"
    pipe = MIDMsPipeline.from_pretrained(weights)
    alone = pipe("sample:3", "sample:5", num_interleaved_steps=2).images[0]
    assert np.array_equal(pixels("out.png"), np.asarray(alone))
    drawn = pipe(pipe.sample(3).condition, pipe.sample("sample:5").exemplar, num_interleaved_steps=2).images[0]
    assert np.array_equal(np.asarray(alone), np.asarray(drawn))
    recorded = read_settings("out.png")
    assert set(recorded["inputs"]) == {"sample:3", "sample:5"} and recorded["notes"] == []
    first = Path("out.png").read_bytes()
    assert main(shlex.split(recorded["command"])[1:]) == 0 and Path("out.png").read_bytes() == first
    assert main([*words[:4], "photo.jpg", *words[5:], "--size", "48", "--out", "larger.png"]) == 0
    assert Image.open("larger.png").size == (48, 48)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--condition sample:25", "sample:25: no such sample; expected sample:1 to sample:24"),
        ("--exemplar sample:no", "sample:no: no such sample"),
        ("--condition sample:1 --condition-kind drawing", "a sample is condition maps; leave the kind out"),
        ("--condition-kind keypoints --condition sample:1", "leave the kind out"),
    ],
)
def test_a_sample_that_is_none_is_one_line(folder, weights, capsys, words, message):
    base = ["translate", "--condition", "maps.npy", "--exemplar", "sample:1", "--out", "out.png", "--weights", weights]
    assert main([*base, *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not Path("out.png").exists()


def test_samples_are_listed_and_drawn(folder, weights, capsys):
    assert main(["samples", weights]) == 0
    assert capsys.readouterr().out.startswith("sample:1 to sample:24: drawn portraits of 32 pixels")
    assert main(["samples", weights, "--out", "all.png"]) == 0
    assert "drawn in all.png" in capsys.readouterr().out and Image.open("all.png").width > 500
    for out in ("all.jpg", "pipe.png"):
        assert main(["samples", weights, "--out", out]) == 2
        assert out in capsys.readouterr().err


def test_a_note_is_said_recorded_and_shown(folder, weights, capsys):
    words = ["translate", "--condition", "sketch.png", "--exemplar", "sample:1", "--weights", weights, "--calls", "1"]
    assert main([*words, "--size", "64", "--out", "out.png"]) == 0
    said = capsys.readouterr().err.splitlines()
    (parts, size) = read_settings("out.png")["notes"]
    assert "no parts of a face" in parts and "trained at 32 x 32" in size
    assert said == [f"note: {parts}", f"note: {size}", "out.png: 200 x 120"]
    assert main(["show", "out.png"]) == 0
    assert capsys.readouterr().err.splitlines() == [f"midms show: note: {parts}", f"midms show: note: {size}"]


def test_a_strangers_notes_cannot_steer_the_terminal(folder, capsys):
    notes = ["a\x1b]0;title\x07\nb", 7, *["more"] * 99]
    save_png(Path("evil.png"), np.zeros((2, 2, 3), np.uint8), {"midms": json.dumps({"notes": notes})})
    assert main(["show", "evil.png"]) == 0
    error = capsys.readouterr().err
    assert "\x1b" not in error and "a\\x1b]0;title\\x07 b" in error and error.count("\n") < 20
    save_png(Path("evil.png"), np.zeros((2, 2, 3), np.uint8), {"midms": json.dumps({"notes": "text"})})
    assert main(["show", "evil.png"]) == 0 and capsys.readouterr().err == ""


def test_the_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"midms {midms.__version__}\n"


def test_a_shell_completes_commands_and_options(tmp_path, capsys):
    """The script for bash, in a real bash; those for other shells name every command."""
    assert main(["completion", "bash"]) == 0
    (tmp_path / "midms.bash").write_text(capsys.readouterr().out)
    ask = """source midms.bash
    complete -p midms
    for words in "s" "translate --cond" "get p"; do
        COMP_WORDS=(midms $words); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _shtab_midms; echo "${COMPREPLY[@]}"
    done"""
    done = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == [
        "show samples", "--condition --condition-kind --condition-weights --condition-size", "photos",
    ]  # fmt: skip
    for shell in ("zsh", "tcsh"):
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert all(name in script for name in ("translate", "samples", "--exemplar-mask"))
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "fish"])
