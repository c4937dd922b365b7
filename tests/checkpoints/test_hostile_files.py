"""Files that lie, break or attack: each is refused with one line, runs nothing and leaves nothing behind."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from programs import load_program
from safetensors.torch import save_file
from torch import Tensor

from midms.checkpoints.convert import convert_to_folder, convert_to_released
from midms.checkpoints.errors import CheckpointError
from midms.checkpoints.reading import read_tensors

State = dict[str, Tensor]
KEY = "model.diffusion_model.out.2.weight"


class Attack:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def torch_file(file: Path, content: Any) -> None:
    torch.save(content, file)


def raw_file(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def truncated(file: Path, state: State) -> None:
    torch.save(state, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def damaged_middle(file: Path, state: State) -> None:
    torch.save(state, file)
    content = file.read_bytes()
    index = content.index(b"data.pkl") + 200
    file.write_bytes(content[:index] + bytes(64) + content[index + 64 :])


def safetensors_header(file: Path, header: dict[str, Any] | bytes, data: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def without(state: State, key: str) -> State:
    return {name: value for name, value in state.items() if name != key}


def with_value(state: State, key: str, value: Any) -> dict[str, Any]:
    return {**state, key: value}


def with_nan(state: State) -> State:
    broken = state[KEY].clone()
    broken[0, 0, 0, 0] = float("nan")
    return with_value(state, KEY, broken)


# name -> (file name, how to write it from (file, good state, marker path), what the line must say)
HOSTILE: dict[str, tuple[str, Callable[[Path, State, Path], None], str]] = {
    "pickle that runs a command": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, {"state_dict": state, "x": Attack(os.system, f"touch {marker}")}),
        "refused: it wants to run or build posix.system",
    ),
    "pickle that opens a file": (
        "a.pth",
        lambda file, state, marker: torch_file(file, with_value(state, "x", Attack(open, str(marker), "w"))),
        "refused: it wants to run or build io.open",
    ),
    "bare pickle that evaluates": (
        "a.pkl",
        lambda file, state, marker: raw_file(file, pickle.dumps(Attack(eval, f"open({str(marker)!r}, 'w')"))),
        "refused",
    ),
    "old torch format that runs a command": (
        "a.pt",
        lambda file, state, marker: torch.save(
            {"x": Attack(os.system, f"touch {marker}")}, file, _use_new_zipfile_serialization=False
        ),
        "refused: it wants to run or build posix.system",
    ),
    "class hidden behind an allowed name": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_value(state, "x", Attack(Path.touch, marker))),
        "refused",
    ),
    "truncated zip": ("a.ckpt", lambda file, state, marker: truncated(file, state), "damaged, or not a weights file"),
    "zip with a hole": ("a.ckpt", lambda file, state, marker: damaged_middle(file, state), "a.ckpt"),
    "empty file": ("a.ckpt", lambda file, state, marker: raw_file(file, b""), "0 bytes"),
    "a web page": ("a.ckpt", lambda file, state, marker: raw_file(file, b"<!DOCTYPE html><title>404"), "a.ckpt"),
    "a text file": ("a.pth", lambda file, state, marker: raw_file(file, b"version https://git-lfs"), "a.pth"),
    "key missing": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, without(state, KEY)),
        "1 key(s) missing: model.diffusion_model.out.2.weight",
    ),
    "first stage without its middle": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, without(state, "first_stage_model.decoder.mid.attn_1.q.bias")),
        "1 key(s) missing: first_stage_model.decoder.mid.attn_1.q.bias",
    ),
    "key superfluous": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_value(state, "extra.weight", torch.zeros(1))),
        "1 unexpected key(s): extra.weight",
    ),
    "wrong shape": (
        "a.ckpt",
        lambda file, state, marker: torch_file(
            file, with_value(state, "model.diffusion_model.middle_block.1.norm.bias", torch.zeros(7))
        ),
        "model.diffusion_model.middle_block.1.norm.bias has shape (7,), expected (64,)",
    ),
    "NaN weight": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_nan(state)),
        "model.diffusion_model.out.2.weight holds NaN or infinite values",
    ),
    "integer weight": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_value(state, KEY, state[KEY].to(torch.int8))),
        "out.2.weight has dtype torch.int8",
    ),
    "another model's file": (
        "resnet.pth",
        lambda file, state, marker: torch_file(file, {"conv1.weight": torch.zeros(64, 3, 7, 7)}),
        "none of the known layouts",
    ),
    "conditional model": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_value(state, "cond_stage_model.w", torch.zeros(1))),
        "a conditional model (cond_stage_model.w)",
    ),
    "no tensors": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, {"epoch": 3}),
        "entries are no tensors: epoch",
    ),
    "a list": ("a.ckpt", lambda file, state, marker: torch_file(file, [1, 2]), "holds a list"),
    "safetensors with a bad header": (
        "a.safetensors",
        lambda file, state, marker: safetensors_header(file, b"{not json"),
        "not a readable safetensors file",
    ),
    "safetensors that point outside the file": (
        "a.safetensors",
        lambda file, state, marker: safetensors_header(
            file, {"w": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}, bytes(8)
        ),
        "not a readable safetensors file",
    ),
    "safetensors with a huge header length": (
        "a.safetensors",
        lambda file, state, marker: raw_file(file, (2**62).to_bytes(8, "little") + b"{}"),
        "not a readable safetensors file",
    ),
    "a pipe": ("a.ckpt", lambda file, state, marker: os.mkfifo(file), "is a pipe; expected a weights file"),
    "sparse tensor": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_value(state, KEY, torch.eye(3).to_sparse())),
        "out.2.weight is a sparse_coo tensor",
    ),
    "meta tensor of an absurd shape": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_value(state, KEY, torch.empty(2**40, device="meta"))),
        "out.2.weight is a meta tensor",
    ),
    "nested tensor": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_value(state, KEY, nested())),
        "out.2.weight is a nested tensor",
    ),
    "quantised tensor": (
        "a.ckpt",
        lambda file, state, marker: torch_file(
            file, with_value(state, KEY, torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8))
        ),
        "a.ckpt",
    ),
    "one number that claims to be 2^40": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_value(state, KEY, torch.zeros(1).expand(2**20, 2**20))),
        "out.2.weight claims shape (1048576, 1048576), but the file holds only a part of it",
    ),
    "keys that a terminal obeys": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_value(state, "\x1b]0;owned\x07\x1b[2J", torch.zeros(1))),
        "1 unexpected key(s)",
    ),
    "a key of a megabyte": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_value(state, "k" * 1_000_000, torch.zeros(1))),
        "1 unexpected key(s): kkkkk",
    ),
    "the same weights compiled and plain": (
        "a.ckpt",
        lambda file, state, marker: torch_file(
            file, with_value(state, KEY.replace("out.2", "_orig_mod.out.2"), state[KEY])
        ),
        "holds weights twice",
    ),
    "another noise schedule": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_value(state, "betas", torch.linspace(0.0015, 0.0195, 1000))),
        "the stored betas are not those of LDM's linear schedule with start 0.0015, end 0.0195",
    ),
    "betas of another form": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_value(state, "betas", torch.tensor(0.1))),
        "the stored betas are not those",
    ),
    "a scale of zero": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_value(state, "scale_factor", torch.tensor(0.0))),
        "scale_factor holds",
    ),
    "tensor larger than its storage": (
        "a.ckpt",
        lambda file, state, marker: torch_file(file, with_value(state, KEY, Attack(*oversized()))),
        "a.ckpt",
    ),
}


def nested() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is a prototype
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def oversized() -> tuple[Any, ...]:
    """A tensor rebuilt as a million numbers on the storage of one."""
    storage = torch.zeros(1).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    return (torch._utils._rebuild_tensor_v2, typed, 0, (1000, 1000), (1000, 1), False, {})


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_with_one_line_and_no_trace(name: str, ldm_state: State, ldm_yaml: Path, tmp_path: Path) -> None:
    file_name, create, message = HOSTILE[name]
    file, marker = tmp_path / file_name, tmp_path / "ran"
    create(file, ldm_state, marker)
    marker.unlink(missing_ok=True)  # building an attack may open the file itself
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(CheckpointError) as caught:
        convert_to_folder(file, tmp_path / "ours", ldm_yaml)
    line = str(caught.value)
    assert message in line and str(file) in line and "\n" not in line and len(line) < 2000
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_at_least_twenty() -> None:
    assert len(HOSTILE) >= 20


def test_a_hostile_key_is_escaped_by_the_program(
    ldm_state: State, ldm_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(with_value(ldm_state, "\x1b]0;owned\x07\x1b[2J" + "k" * 10**6, torch.zeros(1)), tmp_path / "a.ckpt")
    main = load_program("scripts/convert_checkpoint.py").main
    assert main([str(tmp_path / "a.ckpt"), "--to", str(tmp_path / "ours"), "--config", str(ldm_yaml)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "\\x1b]0;owned\\x07" in line and line.isprintable() and len(line) < 2000


HARMLESS = """
import pathlib, torch, collections, typing, datetime
from omegaconf import OmegaConf
parameters = OmegaConf.create({"model": {"params": [1, "two", 3.0, None]}, "path": pathlib.PurePosixPath("/x").name})
content = {
    "state_dict": {"w": torch.ones(2)},
    "hyper_parameters": {"config": parameters, "folder": pathlib.Path("/data"), "kind": typing.Any},
    "callbacks": collections.defaultdict(dict, {"a": {"b": [datetime.timedelta(1)]}}),
}
torch.save(content, "FILE")
"""


@pytest.mark.parametrize("old", [False, True])
def test_configs_and_paths_beside_the_weights_are_read_past(tmp_path: Path, old: bool) -> None:
    file = tmp_path / "a.ckpt"
    program = HARMLESS.replace('"FILE")', f"{str(file)!r}, _use_new_zipfile_serialization={not old})")
    exec(compile(program, "made elsewhere", "exec"), {})
    assert torch.equal(read_tensors(file)["w"], torch.ones(2))


@pytest.mark.parametrize(
    "text", ["[" * 50_000, "a: " * 50_000, "{" * 50_000 + "}" * 50_000, "- " * 50_000, "a: !!python/name:os.system"]
)
def test_yaml_that_is_none_is_one_line(ldm_state: State, tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    torch.save(ldm_state, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"config\.yaml: ") as caught:
        convert_to_folder(tmp_path / "a.ckpt", tmp_path / "ours", tmp_path / "config.yaml")
    assert "\n" not in str(caught.value) and not (tmp_path / "ours").exists()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("elsewhere"), lambda path: path.touch()])
def test_what_the_target_is_stays(
    ldm_state: State, ldm_yaml: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    make(tmp_path / "ours")
    torch.save(ldm_state, tmp_path / "a.ckpt")
    before = sorted(path.name for path in tmp_path.iterdir()), (tmp_path / "ours").lstat().st_ino
    with pytest.raises(ValueError, match="choose another name"):
        convert_to_folder(tmp_path / "a.ckpt", tmp_path / "ours", ldm_yaml)
    with pytest.raises(ValueError, match="choose another name"):
        convert_to_released(tmp_path / "a.ckpt", tmp_path / "ours")
    assert (sorted(path.name for path in tmp_path.iterdir()), (tmp_path / "ours").lstat().st_ino) == before


def test_what_real_files_carry_is_read_past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's callbacks, numpy scalars and argparse options lie beside the weights of real files."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    callback = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = callback
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, module.__name__, module)
        instance = callback()
        instance.monitor = "val/loss"
        content = {
            "state_dict": {"w": torch.ones(2)},
            "callbacks": {callback: {"best_model_score": np.float64(0.5), "instance": instance}},
            "hyper_parameters": argparse.Namespace(lr=1e-4, steps=np.int64(3)),
            "curve": np.arange(3.0),
        }
        torch.save(content, tmp_path / "a.ckpt")
    assert torch.equal(read_tensors(tmp_path / "a.ckpt")["w"], torch.ones(2))


def test_safetensors_under_another_name(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "weights.bin")
    assert torch.equal(read_tensors(tmp_path / "weights.bin")["w"], torch.ones(2))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        read_tensors(tmp_path / "none.ckpt")
