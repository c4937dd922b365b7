"""Every golden of the matching and of the diffusion arithmetic, one test per file."""

import os
from fnmatch import fnmatch
from pathlib import Path

import pytest

from parity.matching import CASES

GOLDENS = Path(os.environ.get("MIDMS_SHARED", "../shared")) / "goldens"
FILES = sorted(path for pattern in CASES for path in GOLDENS.glob(pattern))


@pytest.mark.skipif(not FILES, reason=f"no golden files in {GOLDENS} (set MIDMS_SHARED)")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    (function,) = (function for pattern, function in CASES.items() if fnmatch(path.name, pattern))
    checks = function(path)
    assert checks
    failed = [f"{check.name}: {check.error:.3g} > {check.tolerance:.3g}" for check in checks if not check.passed]
    assert not failed, "; ".join(failed)
