"""The editing program: results, resuming, and one clear line for every mistake."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import load_program

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "oig"))


edit_text = load_program("scripts/edit_text.py")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    import torch
    from tiny_stable_diffusion import tiny_pipeline

    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline(torch.float32).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 33, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "b.png")
    Image.fromarray(pixels[..., :3]).convert("L").save(folder / "a.jpg")
    (folder / "notes.txt").write_text("no picture")
    (folder / "more").symlink_to(tmp_path, target_is_directory=True)
    return folder


def run(*arguments: object) -> int:
    return int(edit_text.main([str(a) for a in arguments]))


def options(model: str, output: Path) -> list[object]:
    prompts = ["--source-prompt", "a cat", "--target-prompt", "a dog"]
    return [*prompts, "--model", model, "--output", output, "--num-inference-steps", 3, "--device", "cpu"]


def test_an_input_that_has_the_name_of_an_output_is_kept(
    model: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "b_edit.png").write_bytes((pictures / "b.png").read_bytes())
    before = {file.name: file.read_bytes() for file in pictures.iterdir() if file.is_file()}
    assert run(pictures, *options(model, pictures)) == 2
    assert "b_edit.png: is also read" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in pictures.iterdir() if file.is_file()} == before


def test_folder_then_resume_then_overwrite(
    model: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "edits"
    assert run(pictures, *options(model, output)) == 0
    assert f"note: {pictures}: folders and other files are left out: 2, first more\n" in capsys.readouterr().err
    names = {"a_edit.png", "a_reconstruction.png", "a.json", "b_edit.png", "b_reconstruction.png", "b.json"}
    assert {p.name for p in output.iterdir()} == names
    assert Image.open(output / "a_edit.png").size == (20, 12)
    record = json.loads((output / "a.json").read_text())
    assert record["source_prompt"] == "a cat" and record["settings"]["num_inference_steps"] == 3

    (output / "b.json").unlink()
    first, before = (output / "a_edit.png").stat().st_mtime_ns, (output / "b_edit.png").read_bytes()
    capsys.readouterr()
    assert run(pictures, *options(model, output)) == 0
    assert "2 to make, 1 finished before" in capsys.readouterr().out
    assert (output / "a_edit.png").stat().st_mtime_ns == first
    assert (output / "b_edit.png").read_bytes() == before

    for kind in ("edit", "reconstruction"):
        (output / f"a_{kind}.png").unlink()
        assert run(pictures, *options(model, output)) == 0
        assert "2 to make, 1 finished before" in capsys.readouterr().out and (output / f"a_{kind}.png").is_file()

    assert run(pictures, *options(model, output), "--clip-weight", 1) == 2
    assert "made with other settings" in capsys.readouterr().err
    assert run(pictures, *options(model, output), "--clip-weight", 1, "--overwrite") == 0


def test_a_damaged_picture_does_not_stop_the_folder(
    model: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "a.jpg").write_bytes(b"nothing")
    assert run(pictures, *options(model, tmp_path / "edits")) == 1
    errors = capsys.readouterr().err
    assert "skipped" in errors and "a.jpg" in errors and "Traceback" not in errors
    assert (tmp_path / "edits" / "b.json").exists() and not (tmp_path / "edits" / "a.json").exists()
    assert run(pictures / "a.jpg", *options(model, tmp_path / "edits")) == 2


def test_generated_pictures_by_seed(model: str, tmp_path: Path) -> None:
    arguments = options(model, tmp_path)
    arguments[2:4] = ["--task", "cat2dog"]
    assert run("--generate", "--seeds", 0, 1, *arguments) == 0
    first, second = (Image.open(tmp_path / f"generated_seed{s}_reconstruction.png").tobytes() for s in (0, 1))
    assert first != second
    assert json.loads((tmp_path / "generated_seed1.json").read_text())["target_prompt"] == "a dog"


def test_released_switch(model: str, pictures: Path, tmp_path: Path) -> None:
    assert run(pictures / "b.png", *options(model, tmp_path), "--released", "--resize", "fit") == 0
    settings = json.loads((tmp_path / "b.json").read_text())["settings"]
    assert settings["edit"]["step_shift"] == 1 and settings["inversion"]["schedule"] == "released"
    assert settings["inversion"]["resize"] == "fit"  # given by hand, so it wins


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x.png", "--source-prompt", "a"], "either --target-prompt or --task"),
        (
            ["x.png", "--source-prompt", "a", "--target-prompt", "b", "--task", "a2b"],
            "either --target-prompt or --task",
        ),
        (["--source-prompt", "a", "--target-prompt", "b"], "picture or folder, or --generate"),
        (["x.png", "--target-prompt", "b"], "--source-prompt, or --captioner"),
        (["--generate", "--target-prompt", "b"], "--generate needs --source-prompt"),
        (["x.png", "--source-prompt", "a", "--target-prompt", "b"], "x.png: no such file"),
        (["x.png", "--source-prompt", "a", "--target-prompt", "b", "--seeds", "1", "2"], "several seeds"),
        (
            ["--generate", "--source-prompt", "a", "--target-prompt", "b", "--seeds", "1", "1"],
            "expected different seeds",
        ),
        (["--generate", "--source-prompt", "a", "--target-prompt", "b", "--num-inference-steps", "1"], "at least 2"),
        (["--generate", "--source-prompt", "a", "--target-prompt", "b", "--clip-weight", "-1"], "clip_weight"),
        (["--generate", "--source-prompt", "a", "--target-prompt", "b", "--model", "/none"], "--model: cannot load"),
    ],
)
def test_mistakes(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments, "--output", tmp_path) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("edit_text.py: ") and words in error


def test_an_empty_folder_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--source-prompt", "a", "--target-prompt", "b", "--output", tmp_path) == 2
    assert "no picture in this folder" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["flow", "inpainting"])
def test_a_model_of_another_kind_is_one_line(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    file = folder / {"flow": "scheduler/scheduler_config.json", "inpainting": "unet/config.json"}[kind]
    if kind == "flow":
        file.write_text(json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}))
        index = json.loads((folder / "model_index.json").read_text())
        index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
        (folder / "model_index.json").write_text(json.dumps(index))
    else:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        config = json.loads(file.read_text()) | {"in_channels": 9}
        UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
    assert run("--generate", *options(str(folder), tmp_path / "out")) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    words = {"flow": "no table of betas", "inpainting": "reads 9 channels"}[kind]
    assert error.startswith(f"edit_text.py: --model {folder}: ") and words in error
    assert not (tmp_path / "out").exists()
