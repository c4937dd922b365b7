"""scripts/sample.py and the drawing program, through their command lines."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from programs import load_program

from midms.data.procedural.__main__ import main as draw


def program(name: str):
    return load_program(f"scripts/{name}.py").main


def test_benchmark_pairs_are_sampled_once(tiny_pipeline_folder, tmp_path, capsys):
    command = [
        "--benchmark",
        "faces",
        "--weights",
        str(tiny_pipeline_folder),
        "--out",
        str(tmp_path),
        "--batch-size",
        "2",
    ]
    main = program("sample")
    assert main([*command, "--pairs", "2", "--save-intermediates"]) == 0
    first = (tmp_path / "images/00000.png").read_bytes()
    assert main([*command, "--pairs", "3"]) == 0
    assert "1 made, 2 already there" in capsys.readouterr().out
    assert (tmp_path / "images/00000.png").read_bytes() == first
    assert {path.name for path in tmp_path.iterdir()} == {"images", "truth", "exemplars", "conditions", "intermediates"}
    assert len(list((tmp_path / "intermediates/00000").glob("prediction_*.png"))) == 4
    assert json.loads(Image.open(tmp_path / "images/00002.png").text["midms"])["N"] == 4


def test_own_files(tiny_pipeline_folder, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    Image.new("L", (32, 32), 255).save(tmp_path / "sketch.png")
    command = ["--condition", str(tmp_path / "sketch.png"), "--exemplar", str(tmp_path / "photo.jpg")]
    assert program("sample")([*command, "--weights", str(tiny_pipeline_folder), "--out", str(tmp_path / "out")]) == 0
    assert Image.open(tmp_path / "out/images/00000_sketch.png").size == (32, 32)


@pytest.mark.parametrize("name", ["none.png", "empty.png"])
def test_a_bad_file_is_one_line_and_leaves_nothing(tiny_pipeline_folder, tmp_path, capsys, name):
    (tmp_path / "empty.png").touch()
    command = ["--condition", str(tmp_path / name), "--exemplar", str(tmp_path / name)]
    assert program("sample")([*command, "--weights", str(tiny_pipeline_folder), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert name in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_drawing_program(tmp_path):
    assert draw([str(tmp_path / "faces.png"), "--show", "2", "--size", "32"]) == 0
    assert Image.open(tmp_path / "faces.png").width > 600
    with pytest.raises(SystemExit, match="2"):
        draw([str(tmp_path / "x.png"), "--task", "cats"])
