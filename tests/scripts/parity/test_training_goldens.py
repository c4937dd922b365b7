"""Complete training iterations of the released code: forward, every loss term, gradients, spectral state."""

import os
from pathlib import Path

import pytest

from parity.training import check_prelu_gradients, check_training

GOLDENS = Path(os.environ.get("MIDMS_SHARED", Path(__file__).parents[3].parent / "shared")) / "goldens"
CASES = ("celeba_warmup", "celeba_boundary", "celeba_e2e", "celeba_e2e_eval", "celeba_e2e_N2", "church_warmup")
QUICK = "celeba_e2e_N2"


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != QUICK)) for n in CASES])
def test_golden_iteration(name):
    path = GOLDENS / f"train_{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"no golden file {path}; set MIDMS_SHARED to the folder that holds goldens/")
    checks = check_training(path)
    assert len(checks) > 40
    assert not [check for check in checks if not check.passed]


@pytest.mark.slow
def test_golden_prelu_gradients():
    """Where float32 is off by a fifth, float64 gives the released number."""
    path = GOLDENS / "train_celeba_e2e.safetensors"
    if not path.is_file():
        pytest.skip(f"no golden file {path}; set MIDMS_SHARED to the folder that holds goldens/")
    checks = check_prelu_gradients(path)
    assert len(checks) == 4
    assert not [check for check in checks if not check.passed]
