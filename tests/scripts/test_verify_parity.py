"""The parity runner: every entry of a folder gets a verdict, and the exit code tells."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from programs import load_program

from parity.cases import Check, compare


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program with three kinds of cases of its own."""
    module = load_program("scripts/verify_parity.py")

    def number(path: Path) -> list[Check]:
        return [compare("number", torch.tensor(float(path.read_text())), torch.tensor(1.0), 0.1)]

    def particular(path: Path) -> list[Check]:
        raise RuntimeError("two\nlines")

    cases = {"n_*.txt": number, "n_broken*.txt": particular, "empty.txt": lambda path: []}
    monkeypatch.setattr(module, "collect_cases", lambda: cases)
    return module


def test_all_passed(program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "n_1.txt").write_text("1.05")
    (tmp_path / "README.md").touch()
    (tmp_path / "tiny_sd").mkdir()
    assert program.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        ["SUPPORT", "README.md"],
        ["PASS", "n_1.txt"],
        ["SUPPORT", "tiny_sd"],
    ]
    assert "max abs 5.00e-02, max rel 5.00e-02" in lines[1] and "tolerance 1.00e-01" in lines[1]
    assert lines[3] == "1 PASS, 0 FAIL, 0 UNKNOWN, 2 SUPPORT"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("n_2.txt", "1.5", "FAILED: number 5.00e-01 > 1.00e-01"),
        ("n_nan.txt", "nan", "FAILED: number nan"),
        ("n_broken.txt", "", "RuntimeError: two lines"),
        ("empty.txt", "", "compared nothing"),
        ("stray.bin", "", "no module of parity understands this"),
    ],
)
def test_anything_else_is_exit_1(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, words: str
) -> None:
    (tmp_path / "n_1.txt").write_text("1")
    (tmp_path / name).write_text(content)
    assert program.main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert words in out and "PASS    n_1.txt" in out


def test_an_unknown_folder_is_not_passed_over(program: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    assert program.main([str(tmp_path)]) == 1


def test_only(program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "n_1.txt").write_text("1")
    (tmp_path / "n_2.txt").write_text("2")
    assert program.main([str(tmp_path), "--only", "*_1*"]) == 0
    assert "n_2" not in capsys.readouterr().out


def test_nothing_to_do_is_exit_2(program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([str(tmp_path / "none")]) == 2
    assert program.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 2
