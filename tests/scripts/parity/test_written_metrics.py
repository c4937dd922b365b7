"""Golden files of the metrics that tests write, with numbers of independent formulas: right pass, wrong fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from golden_files import write_case
from programs import load_program
from safetensors.torch import save_file

from parity import evaluation
from parity.cases import Check, load_case
from parity.oig import check_schedulers, check_target_prompts, load_golden

VERIFY = load_program("scripts/verify_parity.py")


def failed(checks: list[Check]) -> list[str]:
    assert checks
    return [check.name for check in checks if not check.passed]


def frechet(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """What a FID golden holds, with SciPy's square root of the product of both covariances."""
    offset = first.mean(axis=0) - second.mean(axis=0)
    a, b = (np.cov(x, rowvar=False) for x in (first, second))
    root = scipy.linalg.sqrtm(a @ b).real
    least = [float(np.linalg.eigvalsh(x).min()) for x in (a, b)]
    value = float(offset @ offset + np.trace(a) + np.trace(b) - 2 * np.trace(root))
    return {"pytorch_fid": value, "trace1": float(np.trace(a)), "min_eig1": least[0], "min_eig2": least[1]}


RECIPES = {
    "other": "feats(40,6,1) vs feats(50,6,2)",
    "scaled": "feats(40,6,1) vs feats(50,6,2,scale=1.5,shift=0.25)",
    "equal": "feats(40,6,1) vs itself",
}


def write_fid(folder: Path, change: float = 0.0) -> Path:
    """`fid_goldens.json` and `fid_stats.npz`; `change` is the relative error of every stored distance."""
    cases, moments = {}, {}
    for name, recipe in RECIPES.items():
        sets = evaluation._fid_features(recipe)
        cases[name] = {"recipe": recipe} | frechet(*sets)
        cases[name]["pytorch_fid"] *= 1 + change
        for k, rows in enumerate(sets, start=1):
            moments |= {f"{name}/mu{k}": rows.mean(axis=0), f"{name}/sigma{k}": np.cov(rows, rowvar=False)}
    np.savez(folder / "fid_stats.npz", **moments)
    (folder / "fid_goldens.json").write_text(json.dumps({"cases": cases}))
    return folder / "fid_goldens.json"


def test_frechet_distances_of_scipy_pass_from_features_and_from_moments(tmp_path: Path) -> None:
    path = write_fid(tmp_path)
    assert failed(evaluation.fid_checks(path)) == []
    assert failed(evaluation.fid_statistics_checks(path.with_name("fid_stats.npz"))) == []
    assert VERIFY.main([str(tmp_path)]) == 0


def test_a_distance_that_is_off_by_a_millionth_fails(tmp_path: Path) -> None:
    """The equal pair is compared with 0, so an error in proportion to its distance does not count."""
    path = write_fid(tmp_path, change=1e-6)
    wrong = failed(evaluation.fid_checks(path))
    assert wrong == ["other", "other from features", "scaled", "scaled from features"]
    stored = failed(evaluation.fid_statistics_checks(path.with_name("fid_stats.npz")))
    assert stored == ["other from its moments", "scaled from its moments"]
    assert VERIFY.main([str(tmp_path)]) == 1


@pytest.mark.parametrize(("part", "words"), [("mu1", "mean"), ("sigma1", "covariance")])
def test_stored_moments_of_other_features_fail(part: str, words: str, tmp_path: Path) -> None:
    path = write_fid(tmp_path).with_name("fid_stats.npz")
    arrays = dict(np.load(path))
    arrays[f"other/{part}"] = arrays[f"other/{part}"] + 1e-3
    np.savez(path, **arrays)
    assert f"other {words}" in failed(evaluation.fid_statistics_checks(path))


def low_pass(images: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
    """The 5x5 binomial filter as a convolution of each channel; the border is mirrored."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (gain * torch.outer(taps, taps)).expand(images.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=images.shape[1])


def write_swd_units(folder: Path, **change: float) -> Path:
    """`swd_unit_goldens.npz` by convolution and slicing; `change` is added to the arrays of these names."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    whole = torch.from_numpy(images).float()
    small = low_pass(whole)[:, :, ::2, ::2]
    stuffed = torch.zeros_like(whole)
    stuffed[:, :, ::2, ::2] = small
    levels = [(whole - low_pass(stuffed, gain=4.0)).numpy(), small.numpy()]
    y, x = (rng.integers(3, 29, (6, 1, 1, 1)) for _ in range(2))
    cut = [levels[0][k // 3, :, y[k, 0, 0, 0] - 3 : y[k, 0, 0, 0] + 4, x[k, 0, 0, 0] - 3 : x[k, 0, 0, 0] + 4]
           for k in range(6)]  # fmt: skip
    patches = np.stack(cut)  # (6, 3, 7, 7) as (row, column)
    mean, deviation = (f(patches, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    normal = ((patches - mean) / deviation).transpose(0, 1, 3, 2).reshape(6, -1)
    arrays = {"pyramid_input_u8": images, "pyramid_level0": levels[0], "pyramid_level1": levels[1]}
    arrays |= {"desc_y": y, "desc_x": x, "descriptors_seed123_7_5": patches.transpose(0, 1, 3, 2)}
    arrays["descriptors_finalized"] = normal
    arrays |= {name: arrays[name] + value for name, value in change.items()}
    np.savez(folder / "swd_unit_goldens.npz", **{f"unit/{name}": array for name, array in arrays.items()})
    return folder / "swd_unit_goldens.npz"


def test_pyramid_patches_and_their_normal_form_agree_with_convolution_and_slicing(tmp_path: Path) -> None:
    checks = evaluation.swd_unit_checks(write_swd_units(tmp_path))
    assert [check.name for check in checks] == [
        "pyramid level 0", "pyramid level 1", "patches", "normalised patches",
    ]  # fmt: skip
    assert failed(checks) == []


@pytest.mark.parametrize(
    ("array", "change", "name"),
    [
        ("pyramid_level0", 0.01, "pyramid level 0"),
        ("pyramid_level1", 0.01, "pyramid level 1"),
        ("descriptors_seed123_7_5", 0.01, "patches"),
        ("descriptors_finalized", 1e-4, "normalised patches"),
    ],
)
def test_each_stage_of_swd_fails_alone(array: str, change: float, name: str, tmp_path: Path) -> None:
    assert failed(evaluation.swd_unit_checks(write_swd_units(tmp_path, **{array: change}))) == [name]


def test_random_maps_of_style_are_drawn_from_their_seed_or_read(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((2, 4, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "maps.npz", **{"relu3_2/gen": maps[0], "relu3_2/ref": maps[1]})
    stored = np.load(tmp_path / "maps.npz")
    read = evaluation._style_maps("relu3_2", stored)
    assert [np.array_equal(x[0].numpy(), y) for x, y in zip(read, maps, strict=True)] == [True, True]
    generated, exemplar = evaluation._style_maps("relu2_2", stored)
    assert generated.shape == exemplar.shape == (1, 16, 128, 128) and generated.min() == exemplar.min() == 0
    again = evaluation._style_maps("relu2_2", stored)
    assert torch.equal(generated, again[0]) and torch.equal(exemplar, again[1])


def write_prompts(folder: Path, **change: Any) -> Path:
    """`out` and `idx` by hand: an equal word, a word that holds the source, and the nearest word."""
    vectors = {"cat": [1.0, 0.0], "cats": [0.9, 0.1], "kitten": [0.8, 0.3], "a": [0.0, 1.0], "sleeping": [0.1, 1.0]}
    cases = [
        {"prompt": "a cat sleeping", "out": "a dog sleeping", "idx": 1},
        {"prompt": "a sleeping cats", "out": "a sleeping dogs", "idx": 2},
        {"prompt": "kitten sleeping", "out": "dog sleeping", "idx": 0},
    ]
    content = {"word_features": vectors, "cases": [case | {"src": "cat", "tgt": "dog"} for case in cases]}
    content["cases"][1] |= change
    path = folder / "prompts.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("change", [{}, {"out": "a sleeping dog"}, {"idx": 1}], ids=str)
def test_prompts_and_the_place_of_the_word_are_compared(change: dict[str, Any], tmp_path: Path) -> None:
    assert failed(check_target_prompts(write_prompts(tmp_path, **change))) == ["a sleeping cats"] * bool(change)


CONFIG = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
          "set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}  # fmt: skip


def write_schedulers(folder: Path, **change: float) -> Path:
    """`schedulers.safetensors` with diffusers' own scheduler for 4 and 10 steps."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    generator, tensors = torch.Generator().manual_seed(0), {}
    for count in (4, 10):
        scheduler = DDIMScheduler(**CONFIG)
        scheduler.set_timesteps(count)
        x, noise = (torch.randn(1, 4, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
        steps = [scheduler.step(noise, int(t), x) for t in scheduler.timesteps]
        rows = {"x": x, "eps": noise, "timesteps": scheduler.timesteps}
        rows["ddim_step"] = torch.stack([step.prev_sample for step in steps])
        rows["ddim_pred_x0"] = torch.stack([step.pred_original_sample for step in steps])
        tensors |= {f"N{count}/{name}": value for name, value in rows.items()}
    for name, value in change.items():
        tensors[f"N4/{name}"] = tensors[f"N4/{name}"] + value
    save_file(tensors, folder / "schedulers.safetensors", {"config": json.dumps(CONFIG), "note": "plain text"})
    return folder / "schedulers.safetensors"


@pytest.mark.parametrize("change", [{}, {"ddim_step": 1e-6}, {"ddim_pred_x0": 1e-6}, {"timesteps": 1}], ids=str)
def test_steps_of_diffusers_scheduler_pass_to_nine_digits(change: dict[str, float], tmp_path: Path) -> None:
    checks = check_schedulers(write_schedulers(tmp_path, **change))
    assert failed(checks) == [f"N4/{name}" for name in change] and len(checks) == 6


def test_metadata_that_is_no_json_stays_text(tmp_path: Path) -> None:
    golden = load_golden(write_schedulers(tmp_path))
    assert golden.meta == {"config": CONFIG, "note": "plain text"}
    assert "N4/x" in golden and "N5/x" not in golden and golden["N10/x"].shape == (1, 4, 3, 3)
    assert golden.check("N4/x", golden["N4/x"], label="float64 ").name == "float64 N4/x"


@pytest.mark.parametrize(
    ("tensors", "meta", "words"),
    [
        ({"answers/y": torch.ones(1)}, {}, r"tensor 'answers/y' is of no known group; expected weights/..., inputs"),
        ({"inputs/x": torch.ones(1)}, {"weight_check": {"w": 1.0}}, "weight w, which has a checksum, is neither"),
        ({"weights/w": torch.tensor([torch.nan])}, {"weight_check": {"w": 1.0}}, "w sums to nan, expected 1.0"),
    ],
)
def test_a_file_that_is_no_case_says_why(
    tensors: dict[str, torch.Tensor], meta: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        load_case(write_case(tmp_path / "small_ops.safetensors", tensors, meta))


def test_a_line_names_the_check_without_a_number() -> None:
    """A NaN fails, so it is the nearest check, wherever it stands among the others."""
    fine, broken = Check("fine", 0.5, 0.5, 1.0, 0.5), Check("broken", *(float("nan"),) * 2, 1.0, float("nan"))
    for checks in ([fine, broken], [broken, fine]):
        line = VERIFY.describe(checks)
        assert line.startswith("max abs nan, max rel nan, closest broken nan")
        assert line.endswith("FAILED: broken nan > 1.00e+00")
