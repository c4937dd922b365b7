"""Every golden of OIG, and that the cases can fail."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from parity.oig import CASES, edit_arguments, load_golden, tiny_pipeline

FOLDER = Path(os.environ.get("MIDMS_SHARED", "../shared")) / "goldens_oig"
needs_goldens = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no golden files in {FOLDER} (set MIDMS_SHARED)")
PINNED_NORM = 74.8617367521545
NAMES = sorted(p.name for p in FOLDER.iterdir()) if FOLDER.is_dir() else []


@needs_goldens
@pytest.mark.parametrize("name", [n for n in NAMES if any(fnmatch(n, pattern) for pattern in CASES)])
def test_golden(name: str) -> None:
    (pattern,) = [p for p in CASES if fnmatch(name, p)]
    checks = CASES[pattern](FOLDER / name)
    assert checks and not [check for check in checks if not check.passed]


@needs_goldens
def test_every_file_of_numbers_has_a_case() -> None:
    rest = [n for n in NAMES if not any(fnmatch(n, pattern) for pattern in CASES)]
    assert rest == ["README.md", "check_report.json", "tiny_sd"]


@needs_goldens
def test_pinned_edit_in_the_released_mode() -> None:
    """Besides the comparison with the file: its norm, so that an edit of the file cannot pass unseen."""
    golden = load_golden(FOLDER / "edit_default.safetensors")
    pipe = tiny_pipeline(FOLDER / "tiny_sd", torch.float64)
    arguments = edit_arguments(golden.meta) | {"output_type": "latent"}
    out = pipe(golden.meta["source_prompt"], golden.meta["target_prompt"], golden["x_T"], **arguments)
    assert out.latents.dtype == torch.float64
    assert float(out.latents.norm()) == pytest.approx(PINNED_NORM, rel=1e-9)


@needs_goldens
def test_the_default_differs_from_the_released_mode() -> None:
    golden = load_golden(FOLDER / "edit_default.safetensors")
    pipe = tiny_pipeline(FOLDER / "tiny_sd", torch.float64)
    arguments = edit_arguments(golden.meta) | {"output_type": "latent", "step_shift": 0}
    out = pipe(golden.meta["source_prompt"], golden.meta["target_prompt"], golden["x_T"], **arguments)
    assert (out.latents - golden["x_edit"]).norm() > 1e-4 * out.latents.norm()


@needs_goldens
@pytest.mark.parametrize(("name", "kept"), [("inversion_N4", ["x_T"]), ("schedulers", ["N4/ddim_step"])])
def test_a_file_may_store_a_part(name: str, kept: list[str], tmp_path: Path) -> None:
    golden = load_golden(FOLDER / f"{name}.safetensors")
    inputs = [key for key in ("image_uint8", "z0_scaled", "N4/x", "N4/eps") if key in golden]
    (tmp_path / "tiny_sd").symlink_to((FOLDER / "tiny_sd").resolve())
    copied = tmp_path / f"{name}.safetensors"
    with safe_open(str(FOLDER / copied.name), framework="pt") as handle:
        save_file({key: golden[key].contiguous() for key in [*inputs, *kept]}, copied, handle.metadata())
    (pattern,) = [p for p in CASES if fnmatch(copied.name, p)]
    checks = CASES[pattern](copied)
    assert {check.name.rpartition(" ")[2] for check in checks} == set(kept)
    assert not [check for check in checks if not check.passed]
