"""The vocabulary of the goldens: comparing, drawing numbers again, reading a file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_files import write_case
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from parity.cases import Case, Check, compare, draw, load_case


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8), st.floats(-10, 10))
def test_a_shift_is_the_largest_difference(values: list[float], shift: float) -> None:
    want = torch.tensor(values, dtype=torch.float64)
    check = compare("x", want + shift, want, abs(shift) + 1e-9)
    assert check.max_abs == pytest.approx(abs(shift), abs=1e-9) and check.passed
    assert compare("x", want, want, 0.0).passed, "equal within no tolerance at all"


def test_relative_checks_hold_the_share_of_the_largest_golden_value() -> None:
    want = torch.tensor([0.0, -200.0])
    check = compare("x", want + 1.0, want, 0.006, relative=True)
    assert (check.max_abs, check.max_rel, check.error) == (1.0, 0.005, 0.005) and check.passed
    assert not compare("x", want + 1.0, want, 0.006).passed, "the same tolerance, of the difference itself"


def test_what_cannot_be_compared_fails() -> None:
    assert not compare("x", torch.tensor(math.nan), torch.tensor(1.0), 1e9).passed
    assert not compare("x", torch.tensor(1.0), torch.tensor(math.nan), 1e9).passed
    other = compare("x", torch.zeros(2, 3), torch.zeros(3, 2), 1e9)
    assert other.error == math.inf and "shape (2, 3), expected (3, 2)" in other.name
    assert compare("x", torch.zeros(0, 3), torch.zeros(0, 3), 0.0).passed, "nothing differs in nothing"


def test_inputs_of_any_kind_are_compared_as_float64() -> None:
    """A float32 result beside a float64 golden, integers, and numpy arrays; a gradient is in nobody's way."""
    leaf = torch.tensor([1.0], requires_grad=True)
    assert compare("x", leaf, np.array([1.0 + 1e-12]), 1e-11).passed
    assert compare("x", 16, torch.tensor(16, dtype=torch.int64), 0.0).passed
    assert compare("x", torch.tensor([True, False]), [1.0, 0.0], 0.0).passed
    assert not compare("x", 10.0 + 1e-8, 10.0, 1e-9).passed, "plain numbers are not rounded to float32"


def test_numbers_are_fixed_by_seed_and_name() -> None:
    first = draw(3, "seg_enc.weight", (4, 5))
    assert first.dtype == np.float32 and first.shape == (4, 5)
    assert np.array_equal(first, draw(3, "seg_enc.weight", (4, 5)))
    assert not np.array_equal(first, draw(4, "seg_enc.weight", (4, 5)))
    assert not np.array_equal(first, draw(3, "seg_enc.bias", (4, 5)))
    assert np.array_equal(first.ravel()[:7], draw(3, "seg_enc.weight", (7,))), "a longer draw begins like a shorter"
    assert draw(0, "scalar", ()).shape == ()


def test_draws_have_the_asked_mean_and_spread() -> None:
    numbers = draw(0, "x", (20000,), loc=2.0, scale=0.5)
    assert numbers.mean() == pytest.approx(2.0, abs=0.02) and numbers.std() == pytest.approx(0.5, abs=0.02)


def case_file(folder: Path, **meta: object) -> Path:
    tensors = {"inputs/x": torch.ones(2), "outputs/y": torch.arange(3.0), "weights/w": torch.eye(2)}
    return write_case(folder / "small.safetensors", tensors, {"config": {"ch": 2}} | meta)


def test_a_file_is_read_into_its_groups(tmp_path: Path) -> None:
    case = load_case(case_file(tmp_path, tolerance={"y": 0.5}))
    assert case.name == "small" and case.meta["config"] == {"ch": 2}
    assert torch.equal(case.inputs["x"], torch.ones(2)) and torch.equal(case.weights["w"], torch.eye(2))
    assert case.tolerance("y") == 0.5 and case.tolerance("z") == 1e-4
    assert case.check("y", torch.arange(3.0) + 0.4).passed and not case.check("y", torch.arange(3.0) + 0.6).passed
    assert case.check("y", torch.arange(3.0), name="another name").name == "another name"


def test_weights_of_a_recipe_are_drawn_and_their_sum_is_checked(tmp_path: Path) -> None:
    recipe = {"seed": 7, "tensors": {"conv.weight": [[3, 2], 0.0, 0.1, "conv"]}}
    want = draw(7, "conv", (3, 2), 0.0, 0.1)
    case = load_case(case_file(tmp_path, weight_recipe=recipe, weight_check={"conv.weight": float(want.sum())}))
    assert np.array_equal(case.weights["conv.weight"].numpy(), want)
    with pytest.raises(ValueError, match=r"drawn weight conv.weight sums to .*, expected 99"):
        load_case(case_file(tmp_path, weight_recipe=recipe, weight_check={"conv.weight": 99.0}))


def test_another_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="no 'case' entry in the metadata, so this is not a golden case"):
        load_case(tmp_path / "weights.safetensors")


def test_a_case_stores_any_part_of_what_is_computed() -> None:
    got = {"a": torch.ones(2), "b": torch.zeros(2)}
    assert [check.name for check in Case("c", {}, {}, {"b": torch.zeros(2)}, {}).checks(got)] == ["b"]
    assert all(check.passed for check in Case("c", {}, {}, dict(got), {}).checks(got))
    assert Case("c", {}, {}, {}, {}).checks(got) == []
    with pytest.raises(ValueError, match="c: this kind of case has no such output: d; known are a, b"):
        Case("c", {}, {}, {"a": torch.ones(2), "d": torch.ones(2)}, {}).checks(got)


def test_a_check_passes_up_to_its_tolerance() -> None:
    assert Check("x", 1.0, 1.0, 1.0, 1.0).passed and not Check("x", 1.0, 1.0, 0.5, 1.0).passed
