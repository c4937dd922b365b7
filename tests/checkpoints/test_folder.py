"""Our folder format: complete or absent, checked when read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from midms.checkpoints import folder as folder_module
from midms.checkpoints.errors import CheckpointError
from midms.checkpoints.folder import find_folder, load_folder, save_folder, save_states
from midms.checkpoints.schema import SETTINGS
from midms.io.files import BrokenFileError
from midms.io.provenance import SHIPPED, shipped_names


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    modules = {"head": nn.Linear(3, 2), "network": nn.BatchNorm1d(4)}
    configs: dict[str, dict[str, Any]] = {"head": {"widths": [1, 2]}, "network": {}}
    return save_folder(tmp_path / "model", modules, configs, {"licence": "mit", "origin": "test"})


def edit(folder: Path, change: dict[str, Any]) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def test_round_trip(saved: Path) -> None:
    torch.manual_seed(0)
    want = nn.Linear(3, 2).state_dict()
    loaded = load_folder(saved, verify=True)
    assert loaded.configs == {"head": {"widths": [1, 2]}, "network": {}}
    assert loaded.info["origin"] == "test"
    assert all(torch.equal(loaded.states["head"][key], value) for key, value in want.items())
    nn.BatchNorm1d(4).load_state_dict(loaded.states["network"])


def test_dtype_concerns_floating_point_tensors_only(saved: Path) -> None:
    state = load_folder(saved, dtype=torch.bfloat16).states["network"]
    assert state["weight"].dtype == torch.bfloat16
    assert state["num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("name", shipped_names())
def test_the_card_of_shipped_weights_is_that_of_their_record(name: str) -> None:
    document = json.loads((SHIPPED / name / "config.json").read_text())
    assert (SHIPPED / name / "README.md").read_text() == folder_module.model_card(name, document)


def test_every_kind_of_weights_has_a_card_of_its_own() -> None:
    assert folder_module.METHODS.keys() == SETTINGS.keys()
    cards = [folder_module.model_card("one", {"info": {"kind": kind}, "components": {}}) for kind in SETTINGS]
    assert "matching interleaved" in cards[0] and "matching interleaved" not in cards[1]


def test_model_card_names_licence_files_and_hashes(saved: Path) -> None:
    card, document = (saved / "README.md").read_text(), json.loads((saved / "config.json").read_text())
    assert card.startswith("---\nlibrary_name: midms\n") and "license: mit" in card
    assert all(entry["sha256"] in card for entry in document["components"].values())


def test_our_folder_is_replaced_and_a_foreign_one_is_not(saved: Path, tmp_path: Path) -> None:
    save_states(saved, {"head": {"w": torch.zeros(1)}}, {"head": {}}, {})
    assert set(load_folder(saved).states) == {"head"}
    assert not (saved / "network.safetensors").exists()
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "cat.jpg").touch()
    with pytest.raises(BrokenFileError, match="files that are not ours"):
        save_states(foreign, {}, {}, {})
    assert [path.name for path in foreign.iterdir()] == ["cat.jpg"]
    (saved / "notes.txt").touch()
    with pytest.raises(BrokenFileError, match="files that are not ours"):
        save_states(saved, {}, {}, {})
    assert (saved / "notes.txt").exists() and (saved / "head.safetensors").exists()


def test_a_failed_save_leaves_the_old_folder_and_nothing_else(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError("disk full")

    before = sorted(path.name for path in tmp_path.rglob("*"))
    monkeypatch.setattr(folder_module, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_states(saved, {"x": {"w": torch.zeros(1)}}, {"x": {}}, {})
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_names_must_agree_and_be_plain(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give one config each"):
        save_states(tmp_path / "m", {"a": {}}, {}, {})
    with pytest.raises(CheckpointError, match="letters, digits"):
        save_states(tmp_path / "m", {"../a": {}}, {"../a": {}}, {})
    assert not list(tmp_path.iterdir())


ENTRY: dict[str, Any] = {"file": "a.safetensors", "bytes": 0, "sha256": "0" * 64, "config": {}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "no entry 'format': 'midms'"),
        ({"version": 2}, "version 2, this program reads version 1"),
        ({"components": []}, r"config\.components: got \[\], expected"),
        ({"components": {"head": {"file": "head.safetensors"}}}, r"components\.head\.bytes: is missing, expected"),
        (
            {"components": {"a": {"file": "../a.safetensors", "bytes": 0, "sha256": "0" * 64, "config": {}}}},
            "names the file",
        ),
        (
            {"components": {"a": ENTRY}},
            "a.safetensors: missing",
        ),
    ],
)
def test_a_config_that_does_not_fit_is_refused(saved: Path, change: dict[str, Any], message: str) -> None:
    edit(saved, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_folder(saved)
    assert str(saved) in str(caught.value) and "\n" not in str(caught.value)


def test_damage_is_noticed(saved: Path) -> None:
    file = saved / "head.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    load_folder(saved, verify=False)
    with pytest.raises(CheckpointError, match=r"head\.safetensors: SHA-256 differs"):
        load_folder(saved)
    file.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=r"expected .* the copy is incomplete"):
        load_folder(saved)


def test_find_folder_says_what_it_looked_for(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_folder(saved) == saved
    with pytest.raises(CheckpointError, match="no name of the form owner/model"):
        find_folder("no/such/folder")

    def offline(*arguments: Any, **named: Any) -> str:
        raise ConnectionError("cut off")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    for known, reason in ((True, r"cut off"), (False, "no network, and no copy of it here")):
        monkeypatch.setattr("midms.checkpoints.folder.reachable", lambda known=known: known)
        with pytest.raises(CheckpointError, match=rf"not available from the hub \({reason}\)"):
            find_folder("nobody-xyz/nothing")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_straight_to_the_gpu(saved: Path) -> None:
    state = load_folder(saved, device="cuda", dtype=torch.float16).states["head"]
    assert {(value.device.type, value.dtype) for value in state.values()} == {("cuda", torch.float16)}
