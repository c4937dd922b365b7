"""What tests of several programs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def empty_torch_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No networks that were downloaded before."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls a program's `main` with --quiet; returns exit status (also of a wrong command line), stdout, stderr."""

    def call(program: ModuleType, *arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = program.main([str(argument) for argument in (*arguments, "--quiet")])
        except SystemExit as error:
            code = error.code
        output = capsys.readouterr()
        return code, output.out, output.err

    return call
