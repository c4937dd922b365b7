"""The conversion program: exit codes and what it prints."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from programs import load_program

from midms.checkpoints.folder import load_folder
from midms.checkpoints.ldm import first_stage_table


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load_program("scripts/convert_checkpoint.py")


@pytest.fixture
def first_stage_file(tmp_path: Path) -> Path:
    config = {"kind": "vq", "ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "n_embed": 4}
    state = {entry.ldm: torch.zeros(entry.shape) for entry in first_stage_table(config)}
    torch.save({"state_dict": state | {"loss.logvar": torch.zeros(1)}}, tmp_path / "vq.ckpt")
    return tmp_path / "vq.ckpt"


def test_success_says_what_was_written_and_left_out(
    program: ModuleType, first_stage_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main([str(first_stage_file), "--to", str(tmp_path / "ours")]) == 0
    out = capsys.readouterr().out
    assert "first stage: first_stage (" in out
    assert "left out 1 key(s), e.g. loss.logvar: losses of first-stage training" in out
    assert load_folder(tmp_path / "ours").info["converted_from"]["name"] == "vq.ckpt"


def test_a_strangers_keys_are_escaped_and_cut_where_they_are_left_out(
    program: ModuleType, first_stage_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(first_stage_file, weights_only=True)["state_dict"]
    del state["loss.logvar"]
    torch.save({"state_dict": state | {"loss.\x1b[2J" + "k" * 10**6: torch.zeros(1)}}, first_stage_file)
    assert program.main([str(first_stage_file), "--to", str(tmp_path / "ours")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("left out 1 key(s), e.g. loss.\\x1b[2Jkkk" in line for line in lines)
    assert all(line.isprintable() and len(line) < 2000 for line in lines)


def test_a_wrong_file_is_exit_2_with_one_line(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main([str(tmp_path / "none.ckpt"), "--to", str(tmp_path / "ours")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1 and "none.ckpt: no such file" in captured.err
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["a"], ["a", "--to", "b", "--to-released", "c"], ["a", "--to-released", "c", "--ema"]]
)
def test_wrong_usage_is_exit_2(program: ModuleType, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        program.main(arguments)
    assert caught.value.code == 2
