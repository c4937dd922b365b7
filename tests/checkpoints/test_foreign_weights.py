"""Folders of weights from strangers: whatever config.json and the files say, one line names the file and the key."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from midms.cli import main
from midms.io.files import sha256_of

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def weights(tiny_pipeline_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_pipeline_folder, tmp_path / "weights"))


def refused(weights: Path, capsys: pytest.CaptureFixture[str], *words: str) -> None:
    before = sorted(path.name for path in weights.parent.iterdir())
    assert main(["info", str(weights)]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert not printed.out and line.isprintable() and len(line) < 2000
    assert all(word in line for word in (*words, str(weights))), line
    assert sorted(path.name for path in weights.parent.iterdir()) == before


def rewrite(weights: Path) -> None:
    """Bring sizes and sums in config.json up to date with changed files."""
    document = json.loads((weights / "config.json").read_text())
    for entry in document["components"].values():
        file = weights / entry["file"]
        entry |= {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    (weights / "config.json").write_text(json.dumps(document))


def at(*path: str, value: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


def config(component: str, key: str, value: Any) -> tuple[Change, str]:
    return at("components", component, "config", key, value=value), f"components.{component}.config.{key}"


WRONG: list[tuple[Change, str]] = [
    (at("info", "temperature", value="x"), "info.temperature"),
    (at("info", "temperature", value=-1), "info.temperature"),
    (at("info", "temperature", value=0), "info.temperature"),
    (at("info", "size", value=10**9), "info.size"),
    (at("info", "size", value=64.5), "info.size"),
    (at("info", "task", value="faces\x1b[2J"), "info.task"),
    (at("info", "schedule", value={"evil": 1}), "info.schedule.evil"),
    (at("info", "schedule", value={"start": 0.5, "end": 0.1}), "start 0.5"),
    (at("info", "schedule", value={"num_train_timesteps": 10**12}), "info.schedule.num_train_timesteps"),
    (at("info", "settings", value=[1, 2]), "info.settings"),
    (at("info", "settings", value={"evil": 1}), "info.settings.evil"),
    (at("info", "settings", value={"threshold": "x"}), "info.settings.threshold"),
    (at("info", "settings", value={"refine_eta": 1.5}), "info.settings.refine_eta"),
    (at("info", "settings", value={"refine_steps": 300}), "refine_steps"),
    (at("info", "settings", value={"num_inference_steps": True}), "info.settings.num_inference_steps"),
    (at("info", value=[]), "config.info"),
    (at("components", value={}), "no first_stage"),
    (at("components", "denoiser", "sha256", value="0"), "components.denoiser.sha256"),
    (at("components", "denoiser", "bytes", value=-1), "components.denoiser.bytes"),
    (at("components", "denoiser", "file", value="/etc/passwd"), "names the file '/etc/passwd'"),
    (at("components", "../evil", value={}), "component name '../evil'"),
    config("first_stage", "scale_factor", 0),
    config("first_stage", "ch", 10**9),
    config("first_stage", "ch", -8),
    config("first_stage", "ch_mult", [1] * 10**6),
    config("first_stage", "ch_mult", "1,2"),
    config("first_stage", "kind", "vae"),
    config("first_stage", "n_embed", 10**12),
    config("first_stage", "evil", 1),
    config("denoiser", "num_res_blocks", 10**6),
    config("denoiser", "dropout", 2),
    config("denoiser", "attention_resolutions", None),
    config("encoders", "widths", [2**40]),
    config("encoders", "form", "evil"),
    config("encoders", "condition_channels", "15"),
    (config("encoders", "widths", [16384, 16384])[0], "a larger network than"),
    (config("denoiser", "model_channels", 4096)[0], "a larger network than"),
    (config("first_stage", "ch", 4096)[0], "a larger network than"),
]


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_a_value_of_another_type_sign_or_size(
    weights: Path, capsys: pytest.CaptureFixture[str], change: Change, words: str
) -> None:
    document = json.loads((weights / "config.json").read_text())
    change(document)
    (weights / "config.json").write_text(json.dumps(document))
    refused(weights, capsys, words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"temperature": 0.005', '"temperature": NaN', "NaN is not a JSON number"),
        ('"scale_factor": 1.0', '"scale_factor": Infinity', "Infinity is not a JSON number"),
        ('"scale_factor": 1.0', '"scale_factor": 1e999', "components.first_stage.config.scale_factor"),
        ('"threshold": 0.3', '"threshold": -NaN', "not readable as JSON"),
        ('"temperature": 0.005', f'"temperature": {"[" * 100_000}', "nested too deeply"),
        ('"temperature": 0.005', f'"note": {"[" * 900}{"]" * 900}, "size": -1', "info.size"),
        ("{", "\ufeff[", "not readable as JSON"),
    ],
)
def test_json_that_is_none(weights: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: str) -> None:
    file = weights / "config.json"
    text = json.dumps(json.loads(file.read_text()))
    assert old in text
    file.write_text(text.replace(old, new, 1))
    refused(weights, capsys, words)


def test_a_config_that_is_no_file(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for make, words in ((os.mkfifo, "is a pipe"), (Path.mkdir, "is a folder"), (Path.touch, "0 bytes")):
        file = weights / "config.json"
        if file.is_dir():
            file.rmdir()
        else:
            file.unlink()
        make(file)
        refused(weights, capsys, words)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_tensors_with_values_that_are_not_finite(
    weights: Path, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    file = weights / "denoiser.safetensors"
    state = load_file(file)
    state["conv_in.bias"] = state["conv_in.bias"].clone()
    state["conv_in.bias"][1] = value
    save_file(state, file)
    rewrite(weights)
    refused(weights, capsys, "denoiser.safetensors: conv_in.bias holds NaN or infinite values")


def test_large_finite_values_are_no_fault(weights: Path) -> None:
    file = weights / "denoiser.safetensors"
    state = {key: torch.full_like(value, 3e38) for key, value in load_file(file).items()}
    save_file(state, file)
    rewrite(weights)
    assert main(["info", str(weights)]) == 0


def test_one_flipped_byte(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("denoiser", "encoders", "first_stage"):
        file = weights / f"{name}.safetensors"
        content = bytearray(file.read_bytes())
        content[-2] ^= 1
        file.write_bytes(content)
        refused(weights, capsys, f"{name}.safetensors: SHA-256 differs")
        content[-2] ^= 1
        file.write_bytes(content)


def test_a_weights_file_that_is_a_pipe(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (weights / "denoiser.safetensors").unlink()
    os.mkfifo(weights / "denoiser.safetensors")
    refused(weights, capsys, "denoiser.safetensors: missing, or not a regular file")


def test_shapes_that_the_config_does_not_give(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = weights / "encoders.safetensors"
    state = load_file(file)
    save_file({key: value.flatten() for key, value in state.items()}, file)
    rewrite(weights)
    refused(weights, capsys, "encoders")
