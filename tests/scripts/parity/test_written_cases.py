"""The runner on files that hold the reference arithmetic: right ones pass, wrong ones fail, unknown ones are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden_files import copy_case, write_case
from programs import load_program
from written_cases import CASES, chain_case, tables_case, uniform_times

VERIFY = load_program("scripts/verify_parity.py")
#: Less than a file's own tolerances (1e-4 by default) would notice is no perturbation.
CHANGE = 0.01


def write(folder: Path, name: str, change: str | None = None) -> Path:
    """The file of a case; `change`: the output of which one number is wrong."""
    tensors, meta = CASES[name]()
    if change is not None:
        tensors[f"outputs/{change}"].view(-1)[-1] += CHANGE
    folder.mkdir(exist_ok=True)
    return write_case(folder / f"{name}.safetensors", tensors, meta)


def outputs_of(name: str) -> list[str]:
    return [key.removeprefix("outputs/") for key in CASES[name]()[0] if key.startswith("outputs/")]


EVERY_OUTPUT = [pytest.param(name, output, id=f"{name}-{output}") for name in CASES for output in outputs_of(name)]


def test_correct_files_pass_and_the_exit_code_is_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in CASES:
        write(tmp_path, name)
    (tmp_path / "README.md").touch()
    assert VERIFY.main([str(tmp_path)]) == 0, capsys.readouterr().out
    assert capsys.readouterr().out.splitlines()[-1] == f"{len(CASES)} PASS, 0 FAIL, 0 UNKNOWN, 1 SUPPORT"


@pytest.mark.parametrize(("name", "output"), EVERY_OUTPUT)
def test_one_wrong_number_in_any_output_fails(
    name: str, output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, name, change=output)
    assert VERIFY.main([str(tmp_path)]) == 1
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(f"FAIL    {name}") and output in line.partition("FAILED: ")[2]


@pytest.mark.parametrize(("name", "output"), EVERY_OUTPUT)
def test_a_file_may_store_one_output_alone(name: str, output: str, tmp_path: Path) -> None:
    source = write(tmp_path / "whole", name)
    checks = VERIFY.function_for(source.name, VERIFY.collect_cases())(copy_case(source, tmp_path, [output]))
    assert [check.name for check in checks if output in check.name]
    assert not [check for check in checks if not check.passed]


@pytest.mark.parametrize("name", CASES)
def test_an_output_that_nothing_computes_fails_by_name(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such an output used to be left out of the comparison, so that a file of wrong numbers could pass."""
    copy_case(write(tmp_path / "whole", name), tmp_path, add={"outputs/attention_00": torch.ones(1)})
    assert VERIFY.main([str(tmp_path), "--only", "*.safetensors"]) == 1
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(f"FAIL    {name}")
    assert "this kind of case has no such output: attention_00; known are " in line


def test_a_case_of_no_known_kind_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One correct file beside it does not hide it."""
    source = write(tmp_path, "small_ops")
    source.with_name("attention_maps.safetensors").write_bytes(source.read_bytes())
    assert VERIFY.main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("UNKNOWN attention_maps.safetensors")
    assert lines[1].startswith("PASS    small_ops") and lines[2] == "1 PASS, 0 FAIL, 1 UNKNOWN, 0 SUPPORT"


@pytest.mark.parametrize("change", [{"shape": True}, {"nan": True}], ids=str)
def test_an_output_of_another_shape_or_without_a_number_fails(change: dict[str, bool], tmp_path: Path) -> None:
    tensors, meta = CASES["small_ops"]()
    wrong = tensors["outputs/img_denorm"]
    tensors["outputs/img_denorm"] = wrong[..., :-1] if "shape" in change else wrong * torch.nan
    write_case(tmp_path / "small_ops.safetensors", tensors, meta)
    assert VERIFY.main([str(tmp_path)]) == 1


def test_a_tolerance_of_the_file_decides(tmp_path: Path) -> None:
    tensors, meta = CASES["domain_loss"]()
    tensors["outputs/first"] += CHANGE
    for tolerance, code in ((2 * CHANGE, 0), (0.5 * CHANGE, 1)):
        meta["tolerance"] = {"first": tolerance}
        write_case(tmp_path / "domain_loss.safetensors", tensors, meta)
        assert VERIFY.main([str(tmp_path)]) == code


@pytest.mark.parametrize("row", [0, 3])
def test_a_chain_at_other_times_fails(row: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The times of the calls are compared too, even where no latent is stored."""
    tensors, meta = chain_case()
    meta["config"]["table_hijack_prevT_T_index"][row][2] += 1
    inputs = {name: value for name, value in tensors.items() if name.startswith("inputs/")}
    write_case(tmp_path / "ddim_chain_S16_N4.safetensors", inputs, meta)
    assert VERIFY.main([str(tmp_path)]) == 1
    assert "FAILED: U-Net times 1.00e+00 > 0.00e+00" in capsys.readouterr().out


def test_tables_of_another_schedule_fail(tmp_path: Path) -> None:
    tensors, meta = tables_case()
    meta["config"]["linear_end"] = 0.0155  # that of churches
    write_case(tmp_path / "ddim_tables_small.safetensors", tensors, meta)
    checks = VERIFY.function_for("ddim_tables_small.safetensors", VERIFY.collect_cases())(
        tmp_path / "ddim_tables_small.safetensors"
    )
    passed = {check.name for check in checks if check.passed}
    assert passed == {f"T{steps}/{name}" for steps in (10, 16) for name in ("timesteps", "sigmas_eta0")}


def test_sixteen_uniform_steps_are_seventeen() -> None:
    assert len(uniform_times(16)) == 17 and uniform_times(16)[:3] == [1, 63, 125]
    assert len(uniform_times(50)) == 50
