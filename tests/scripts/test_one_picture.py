"""One seed gives one picture, to the byte, whatever makes it; and its record has the same entries."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from files_on_disk import pixels
from PIL import Image
from programs import load_program

from midms.app import actions, record
from midms.cli import main as midms
from midms.io.provenance import read_settings
from midms.options import PROTOCOLS
from midms.pipelines.making import DECIDING, load_pipeline, loop_settings
from midms.pipelines.midms import MIDMsPipeline

SEED, STEPS, CALLS, THRESHOLD = 5, 12, 3, 0.4


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    for name in ("maps.npy", "others.npy"):
        np.save(tmp_path / name, rng.integers(0, 256, (15, 32, 32), dtype=np.uint8))
    Image.fromarray(rng.integers(0, 256, (30, 34, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    sketch = Image.new("L", (50, 40), 255)
    sketch.paste(0, (10, 20, 40, 22))
    sketch.save(tmp_path / "sketch.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sample(*words: str) -> int:
    return load_program("scripts/sample.py").main([*words, "--batch-size", "1"])


def by_the_app(weights: str) -> record.SavedResult:
    exemplar = actions.ChosenExemplar(pixels("photo.png"))
    task = actions.Task(np.load("maps.npy"), [exemplar], STEPS, CALLS, THRESHOLD, SEED)
    *_, last = actions.translate(load_pipeline(weights), task)
    assert last.result is not None
    return record.save_result(Path("app"), last.result, weights, last.frames)


def test_the_four_ways_make_one_picture(folder: Path, weights: str) -> None:
    numbers = ["--steps", str(STEPS), "--calls", str(CALLS), "--threshold", str(THRESHOLD), "--weights", weights]
    words = ["translate", "--condition", "maps.npy", "--exemplar", "photo.png", "--seed", str(SEED), *numbers]
    assert midms([*words, "--out", "translate.png"]) == 0
    pipe = MIDMsPipeline.from_pretrained(weights)
    settings = pipe.settings.replace(threshold=THRESHOLD)
    loop = {"num_inference_steps": STEPS, "num_interleaved_steps": CALLS, "settings": settings}
    by_pipeline = pipe("maps.npy", "photo.png", seed=SEED, **loop).images[0]
    saved = by_the_app(weights)
    pairs = ["--condition", "others.npy", "maps.npy", "--exemplar", "photo.png"]  # the second takes the next seed
    assert sample(*pairs, "--seed", str(SEED - 1), *numbers, "--out", "sample") == 0
    wanted = pixels("translate.png")
    assert wanted.std() > 1 and np.array_equal(np.asarray(by_pipeline), wanted)
    assert np.array_equal(pixels(str(saved.picture)), wanted)
    assert np.array_equal(pixels("sample/images/00001_maps.png"), wanted)
    assert not np.array_equal(pixels("sample/images/00000_others.png"), wanted)

    records = [read_settings(f) for f in ("translate.png", saved.picture, "sample/images/00001_maps.png")]
    assert set(records[0]) == set(records[1]) == set(records[2])
    assert [entry["program"] for entry in records] == ["midms translate", "midms app", "sample.py"]
    deciding = [{name: entry[name] for name in DECIDING if name in entry} for entry in records]
    assert deciding[0] == deciding[2] and "inputs" in deciding[0]
    for entry in records:
        assert (entry["dtype"], entry["fast"], entry["seed"]) == ("float32", False, SEED)
        assert entry["settings"] == records[0]["settings"]
        assert entry["command"].startswith("midms translate --condition ")


def test_a_drawing_gets_its_own_size_in_every_program(folder: Path, weights: str) -> None:
    words = ["--condition", "sketch.png", "--exemplar", "photo.png", "--calls", "2", "--weights", weights]
    assert midms(["translate", *words, "--out", "translate.png"]) == 0
    assert sample(*words, "--out", "sample") == 0
    by_pipeline = MIDMsPipeline.from_pretrained(weights)("sketch.png", "photo.png", num_interleaved_steps=2).images[0]
    assert by_pipeline.size == (50, 40) and np.array_equal(np.asarray(by_pipeline), pixels("translate.png"))
    assert np.array_equal(pixels("sample/images/00000_sketch.png"), pixels("translate.png"))


@pytest.mark.parametrize("protocol", ["released", "fast"])
def test_a_protocol_is_the_same_in_every_program(folder: Path, weights: str, protocol: str) -> None:
    words = ["--condition", "maps.npy", "--exemplar", "photo.png", "--weights", weights, "--protocol", protocol]
    assert midms(["translate", *words, "--out", "translate.png"]) == 0
    assert sample(*words, "--out", "sample") == 0
    assert np.array_equal(pixels("sample/images/00000_maps.png"), pixels("translate.png"))
    pipe = load_pipeline(weights)
    assert read_settings("translate.png")["settings"] == vars(loop_settings(pipe, protocol))
    assert PROTOCOLS == ("weights", "paper", "released", "fast")


def test_another_exemplar_makes_the_pictures_again(folder: Path, weights: str, capsys) -> None:
    words = ["--condition", "maps.npy", "--calls", "1", "--weights", weights, "--out", "sample"]
    assert sample(*words, "--exemplar", "photo.png") == 0
    first = Path("sample/images/00000_maps.png").read_bytes()
    assert sample(*words, "--exemplar", "photo.png") == 0 and "0 made, 1 already" in capsys.readouterr().out
    Image.new("RGB", (32, 32), "teal").save("teal.png")
    assert sample(*words, "--exemplar", "teal.png") == 0 and "1 made, 0 already" in capsys.readouterr().out
    assert Path("sample/images/00000_maps.png").read_bytes() != first
    Image.new("RGB", (32, 32), "red").save("teal.png")  # the same name with another content
    assert sample(*words, "--exemplar", "teal.png") == 0 and "1 made, 0 already" in capsys.readouterr().out
    for change in (["--seed", "1"], ["--threshold", "0.9"], ["--calls", "2"]):
        assert sample(*words, "--exemplar", "teal.png", *change) == 0 and "1 made" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--condition", "--exemplar", "--exemplar-condition"])
def test_an_input_among_the_outputs_is_kept(folder: Path, weights: str, capsys, option: str) -> None:
    """Where it has the name of an output, and would become a smaller copy of itself."""
    Path("sample/exemplars").mkdir(parents=True)
    photo = Path("sample/exemplars/00000_maps.png")
    photo.write_bytes(Path("photo.png").read_bytes())
    words = {"--condition": "maps.npy", "--exemplar": "photo.png"} | {option: str(photo)}
    if option == "--condition":
        photo = photo.rename("sample/exemplars/00000_00000_maps.png")
        words[option] = "maps/00000_maps.png"
        Path("maps").mkdir()
        os.link(photo, words[option])
    before = photo.read_bytes()
    line = [word for pair in words.items() for word in pair]
    assert sample(*line, "--calls", "1", "--weights", weights, "--out", "sample") == 2
    error = capsys.readouterr().err
    assert "is also read" in error and error.count("\n") == 1
    assert photo.read_bytes() == before and not Path("sample/images").exists()


@pytest.mark.parametrize("place", ["contact_sheet.png", "intermediates/00000_maps/prediction_01.png"])
def test_an_input_at_any_place_below_the_output_is_kept(folder: Path, weights: str, capsys, place: str) -> None:
    photo = Path("sample", place)
    photo.parent.mkdir(parents=True)
    words = ["--condition", "maps.npy", "--calls", "1", "--weights", weights, "--out", "sample"]
    words += ["--contact-sheet", "1", "--save-intermediates"]
    for exemplar, more, said in ((photo, ["--overwrite"], "is also read"), ("photo.png", [], "no mark of midms")):
        photo.write_bytes(Path("photo.png").read_bytes())
        assert sample(*words, "--exemplar", str(exemplar), *more) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
        assert photo.read_bytes() == Path("photo.png").read_bytes() and not Path("sample/images").exists()
    for _ in range(2):
        assert sample(*words, "--exemplar", "photo.png", "--overwrite") == 0  # and what it wrote then is its own
        assert sample(*words, "--exemplar", "photo.png", "--seed", "1") == 0


def test_a_picture_of_somebody_else_is_not_replaced(folder: Path, weights: str, capsys) -> None:
    Path("sample/images").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save("sample/images/00000_maps.png")
    words = ["--condition", "maps.npy", "--exemplar", "photo.png", "--calls", "1", "--weights", weights]
    assert sample(*words, "--out", "sample") == 2
    error = capsys.readouterr().err
    assert "no settings inside" in error and "--overwrite" in error and error.count("\n") == 1
    assert pixels("sample/images/00000_maps.png").shape == (8, 8, 3)
    assert sample(*words, "--out", "sample", "--overwrite") == 0
    assert pixels("sample/images/00000_maps.png").shape == (32, 32, 3)
