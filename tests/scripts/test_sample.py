"""scripts/sample.py and the drawing program, through their command lines."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import files_on_disk
import numpy as np
import pytest
import torch
from PIL import Image
from programs import ROOT, load_program

from midms.checkpoints.folder import load_folder, save_states
from midms.cli import main as translate
from midms.config import load_config, to_yaml
from midms.data.procedural.__main__ import main as draw
from midms.data.procedural.dataset import ProceduralImages
from midms.io.provenance import read_settings
from midms.models.encoders import CorrespondenceEncoders
from midms.visualize import to_pixels

#: Data sets of a training config.
SPLITS = ("train", "validation")


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
    assert read_settings(tmp_path / "images/00002.png")["settings"]["num_interleaved_steps"] == 4


def test_own_files(tiny_pipeline_folder, tmp_path, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    Image.new("L", (32, 32), 255).save(tmp_path / "sketch.png")
    command = ["--condition", str(tmp_path / "sketch.png"), "--exemplar", str(tmp_path / "photo.jpg")]
    assert program("sample")([*command, "--weights", str(tiny_pipeline_folder), "--out", str(tmp_path / "out")]) == 0
    assert Image.open(tmp_path / "out/images/00000_sketch.png").size == (32, 32)
    notes = read_settings(tmp_path / "out/images/00000_sketch.png")["notes"]
    assert "no line was found" in notes[0]
    said = [line for line in capsys.readouterr().err.splitlines() if "note: " in line]
    assert said == [f"00000_sketch: note: {note}" for note in notes]


def test_the_notes_on_own_files_are_those_of_one_translation(tmp_path, capsys):
    """Whatever the batch, and in it only the pictures that they are about."""
    rng = np.random.default_rng(0)
    for name, size in (("noise.png", (64, 64)), ("few.png", (20, 20))):
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(tmp_path / name)
    exemplars = [str(tmp_path / "noise.png"), str(tmp_path / "few.png"), "sample:5"]
    words = ["--condition", "sample:1", "sample:2", "sample:3", "--exemplar", *exemplars, "--weights", "demo-64"]
    assert program("sample")([*words, "--out", str(tmp_path / "out"), "--calls", "1", "--device", "cpu"]) == 0
    for index, exemplar in enumerate(exemplars):
        notes = read_settings(tmp_path / f"out/images/0000{index}_sample-{index + 1}.png")["notes"]
        alone = ["--condition", f"sample:{index + 1}", "--exemplar", exemplar, "--weights", "demo-64"]
        place = tmp_path / "one.png"
        assert translate(["translate", *alone, "--calls", "1", "--device", "cpu", "--out", str(place)]) == 0
        assert notes == read_settings(place)["notes"]
        assert [name in " ".join(notes) for name in ("noise.png", "few.png")] == [index == 0, index == 1]


def test_exemplars_of_several_shapes_are_worked_on_one_by_one(tiny_pipeline_folder, tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("wide.png", (20, 60)), ("high.png", (60, 20))):
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(tmp_path / name)
    np.save(tmp_path / "a.npy", rng.random((15, 32, 32), dtype=np.float32))
    np.save(tmp_path / "b.npy", rng.random((15, 32, 32), dtype=np.float32))
    files = ["--condition", "a.npy", "b.npy", "--exemplar", "wide.png", "high.png"]
    words = [str(tmp_path / word) if "." in word else word for word in files]
    assert program("sample")([*words, "--weights", str(tiny_pipeline_folder), "--out", str(tmp_path / "out")]) == 0
    assert sorted(pictures(tmp_path / "out")) == ["00000_a.png", "00001_b.png"]


@pytest.mark.parametrize("option", ["--batch-size", "--pairs"])
@pytest.mark.parametrize("value", ["0", "-3", "2.5", "x", "9" * 30])
def test_counts_that_are_none_are_refused(tmp_path, capsys, option, value):
    with pytest.raises(SystemExit, match="2"):
        program("sample")(["--benchmark", "faces", "--out", str(tmp_path / "out"), f"{option}={value}"])
    error = capsys.readouterr().err
    assert f"argument {option}: expected " in error and value in error and not (tmp_path / "out").exists()


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


def test_drawn_images_make_a_folder_of_photos(tmp_path, capsys):
    words = ["--task", "churches", "--images", "3", "--size", "32", str(tmp_path / "photos")]
    assert draw(words) == 0
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == ["00000.png", "00001.png", "00002.png"]
    truth = ProceduralImages("churches", 32, "train", 3)[2]["image"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "photos/00002.png")), to_pixels(truth))
    capsys.readouterr()
    assert draw(words) == 2
    assert capsys.readouterr().err.endswith("photos: is there already; give a new folder for the images\n")
    with pytest.raises(SystemExit, match="2"):
        draw(["--images", "0", str(tmp_path / "none")])


@pytest.mark.parametrize(("task", "channels"), [("figures", 20), ("churches", 151)])
def test_every_task_of_the_benchmark(tiny_pipeline_folder, tmp_path, capsys, task, channels):
    folder = load_folder(tiny_pipeline_folder)
    encoders = CorrespondenceEncoders(**(folder.configs["encoders"] | {"condition_channels": channels}))
    states, configs = folder.states | {"encoders": encoders.state_dict()}, dict(folder.configs)
    configs["encoders"] = encoders.config
    weights = save_states(tmp_path / "weights", states, configs, folder.info | {"task": task})
    command = ["--benchmark", task, "--pairs", "1", "--out", str(tmp_path / "out"), "--weights", str(weights)]
    assert program("sample")([*command, "--fast", "--protocol", "fast"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["conditions", "exemplars", "images", "truth"]
    assert program("sample")(["--benchmark", "faces", *command[2:], "--overwrite"]) == 2
    assert f"are for {task}, --benchmark says faces" in capsys.readouterr().err


def test_weights_follow_the_task():
    parse = load_program("scripts/sample.py").parse
    chosen = [parse(["--benchmark", task, "--out", "x"]).weights for task in ("faces", "figures", "churches")]
    assert chosen == ["demo", "demo-figures", "demo-churches"]


@pytest.fixture
def one_thread():
    """As each of several processes uses, and records in its pictures."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_shares_cover_all_pairs_once_and_do_not_depend_on_what_is_done(
    tiny_pipeline_folder, tmp_path, monkeypatch, one_thread
):
    module = load_program("scripts/sample.py")
    assert sorted(i for rank in range(3) for i in module.share(10, rank, 3)) == list(range(10))
    command = ["--benchmark", "faces", "--weights", str(tiny_pipeline_folder), "--pairs", "4", "--batch-size", "2"]
    assert module.main([*command, "--out", str(tmp_path / "one")]) == 0
    monkeypatch.setattr(module, "merge", lambda counts, world: counts)  # no second process to wait for
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert module.main([*command, "--out", str(tmp_path / "two")]) == 0
    assert pictures(tmp_path / "two") == pictures(tmp_path / "one") and len(pictures(tmp_path / "two")) == 4


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "images").glob("*.png")}


@pytest.mark.slow
def test_two_processes_make_the_pictures_of_one_and_go_on_after_one_is_lost(tmp_path):
    command = ["scripts/sample.py", "--benchmark", "faces", "--pairs", "8", "--batch-size", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command, "--out", str(tmp_path / "one")], cwd=ROOT, env=environment, check=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    lost = subprocess.Popen([*torchrun, *command, "--out", str(tmp_path / "two")], cwd=ROOT, env=environment)
    while not (tmp_path / "two/images").is_dir() or not pictures(tmp_path / "two"):
        assert lost.poll() is None, "ended without a picture"
        time.sleep(0.02)
    children = Path(f"/proc/{lost.pid}/task/{lost.pid}/children").read_text().split()
    os.kill(int(children[0]), 9)
    lost.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "two/images").glob("0*.png")}
    subprocess.run([*torchrun, *command, "--out", str(tmp_path / "two")], cwd=ROOT, env=environment, check=True)
    one, two = (
        {path.name: np.asarray(Image.open(path), np.int16) for path in (tmp_path / run / "images").glob("*.png")}
        for run in ("one", "two")
    )
    assert sorted(one) == sorted(two)
    for (
        name,
        picture,
    ) in one.items():  # what was done changes the later batches' members, and so a last bit here or there
        assert np.abs(picture - two[name]).max() <= 1 and (picture != two[name]).mean() < 1e-3
    assert all((tmp_path / "two/images" / name).stat().st_mtime_ns == then for name, then in kept.items())


def test_the_data_set_of_a_config_is_sampled_once(tiny_pipeline_folder, tmp_path, capsys):
    """Both splits; pair i has the noise of the seed SEED + i; a contact sheet from what is saved."""
    files_on_disk.celeba(tmp_path / "set", train=4, val=3)
    words = ["model.params.weights=demo", *(f"data.params.{part}.params.root={tmp_path / 'set'}" for part in SPLITS),
             *(f"data.params.{part}.params.size=32" for part in SPLITS)]  # fmt: skip
    config = tmp_path / "small.yaml"
    config.write_text(to_yaml(load_config([ROOT / "configs/celeba.yaml", ROOT / "configs/small.yaml"], words)))
    main, out = program("sample"), tmp_path / "out"
    command = ["--config", str(config), "--weights", str(tiny_pipeline_folder), "--out", str(out), "--device", "cpu"]
    assert main([*command, "--contact-sheet", "2", "--seed", "5", "--batch-size", "2"]) == 0
    assert "3 made, 0 already there" in capsys.readouterr().out
    for folder in ("images", "exemplars", "conditions", "sources"):
        assert len(list((out / folder).iterdir())) == 3, folder
    assert Image.open(out / "contact_sheet.png").height > 2 * 128
    assert read_settings(out / "images/00002.png")["seed"] == 7
    assert main([*command, "--seed", "5"]) == 0
    assert "0 made, 3 already there" in capsys.readouterr().out
    assert main([*command[:-3], str(tmp_path / "train"), "--split", "train", "--pairs", "2"]) == 0
    assert "2 made" in capsys.readouterr().out


def test_a_config_that_gives_no_pairs_for_the_weights(tiny_pipeline_folder, tmp_path, capsys):
    main, weights = program("sample"), ["--weights", str(tiny_pipeline_folder), "--out", str(tmp_path / "out")]
    text, pairs = (ROOT / "configs/demo.yaml").read_text(), "midms.data.procedural.dataset.ProceduralPairs"
    (tmp_path / "evil.yaml").write_text(text.replace(pairs, "midms.app.page.rmtree"))
    (tmp_path / "figures.yaml").write_text(text.replace("task: faces", "task: figures"))
    for config, message in (
        (tmp_path / "evil.yaml", "no such target 'midms.app.page.rmtree'"),
        ("configs/ldm/demo.yaml", "its conditions have 0 channels, those of the weights 15"),
        (tmp_path / "figures.yaml", "its conditions have 20 channels, those of the weights 15"),
        ("none.yaml", "none.yaml: no such file"),
    ):
        assert main(["--config", str(ROOT / config), *weights, "--pairs", "1"]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        main(["--config", "configs/demo.yaml", "--out", "x"])
    with pytest.raises(SystemExit, match="2"):
        main(["--config", "configs/demo.yaml", "--benchmark", "faces", *weights])
