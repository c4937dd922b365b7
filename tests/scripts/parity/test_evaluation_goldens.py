"""Losses' building blocks and metrics against the golden files; each has its stated tolerance."""

import os
from pathlib import Path

import pytest

from parity.evaluation import CASES

SHARED = Path(os.environ.get("MIDMS_SHARED", Path(__file__).parents[3].parent / "shared"))


def _folder(name: str) -> Path:
    return SHARED / ("goldens" if name.endswith(".safetensors") else "goldens_data")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "swd_goldens.json")) for n in CASES])
def test_golden(name):
    path = _folder(name) / name
    if not path.is_file():
        pytest.skip(f"no golden file {path}; set MIDMS_SHARED to the folder that holds goldens/ and goldens_data/")
    checks = CASES[name](path)
    assert checks
    assert not [check for check in checks if not check.passed]
