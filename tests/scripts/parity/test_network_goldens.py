"""Networks and the whole inference against numbers of the released code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from parity import networks, pipeline
from parity.cases import CaseFunction

GOLDENS = Path(os.environ.get("MIDMS_SHARED", "../shared")) / "goldens"
FAST = {
    "unet_celeba_small",
    "unet_churches_small",
    "vq_small",
    "kl_small",
    "e2e_vq_l15_norefine",
    "state_dict_keys.json",
}


def cases(tables: dict[str, CaseFunction]) -> list[object]:
    """Every golden of these tables; those that need more than a second or two are marked slow."""
    parameters: list[object] = []
    for pattern, function in tables.items():
        for path in sorted(GOLDENS.glob(pattern)):
            fast = path.stem in FAST or path.stem.startswith(("enc_", "head_"))
            parameters.append(pytest.param(path, function, id=path.stem, marks=() if fast else pytest.mark.slow))
    return parameters


@pytest.mark.skipif(not GOLDENS.is_dir(), reason=f"no golden files at {GOLDENS} (MIDMS_SHARED)")
@pytest.mark.parametrize(("path", "function"), cases({**networks.CASES, **pipeline.CASES}))
def test_golden(path: Path, function: CaseFunction) -> None:
    failed = [check for check in function(path) if not check.passed]
    assert not failed
