"""Both training steps have one loss and one gradient; ours saves less."""

from __future__ import annotations

import argparse

import pytest
import torch

from benchmarks import training
from benchmarks.networks import Pairs
from benchmarks.training_step import Step


def options(**changes: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    training.add_arguments(parser)
    small = {"device": "cpu", "threads": 1, "config": "tiny", "size": 64, "no_memory": True}
    return argparse.Namespace(**(vars(parser.parse_args([])) | small | changes))


def test_all_modes_have_one_loss_and_one_gradient():
    modes = ("reference", *training.MODES)
    steps = [Step(mode, "tiny", 64, 1, "cpu") for mode in modes]
    losses = []
    for mode, step in zip(modes, steps, strict=True):
        if mode != "reference":  # cosines clamped, and the release's temperature with its epsilon in the norms, so that
            step.settings = steps[0].settings  # no threshold falls on another side
            step.model.temperature *= (1 + 1e-5) ** 2
        step.model.encoders.eval()  # spectral norm iterates once a call, and ours makes fewer calls
        step.features.load_state_dict(steps[0].features.state_dict())
        step.model.double()  # in float32 a temperature of 0.005 makes 0.2 % of the roundings
        step.features.double()
        step.pairs = Pairs(*(maps.double() for maps in step.pairs))
        loss = step.loss()
        loss.backward()
        losses.append(loss.item())
    assert losses[1:] == pytest.approx([losses[0]] * len(training.MODES), rel=1e-7)
    for part in ("denoiser", "encoders"):
        reference, *others = (
            torch.cat([p.grad.flatten() for p in getattr(step.model, part).parameters() if p.grad is not None])
            for step in steps
        )
        for mode, gradient in zip(training.MODES, others, strict=True):
            assert (gradient - reference).norm() < 1e-5 * reference.norm(), (mode, part)


def test_rows_count_what_is_saved_and_say_what_was_not_measured(tmp_path):
    rows = list(training.run(options(reference=True, modes=["recomputed", "ours"], plot=tmp_path / "saved.png")))
    steps = {row["name"]: row for row in rows if row["pass"] == "step" and row["device"] == "cpu"}
    assert list(steps) == ["reference", "recomputed", "ours"] and steps["reference"]["ratio"] == 1.0
    saved = {(row["name"], row["pass"]): row["saved_mb"] for row in rows if "saved_mb" in row}
    assert saved["recomputed", "unet"] < saved["reference", "unet"] / 2
    assert saved["recomputed", "all"] < saved["reference", "all"] * 0.8
    assert saved["recomputed", "unet"] < saved["ours", "unet"] < saved["reference", "unet"]
    parts = sum(value for (mode, part), value in saved.items() if mode == "ours" and part != "all")
    assert parts == pytest.approx(saved["ours", "all"], abs=0.1)
    assert [row["note"] for row in rows if row["device"] == "cuda"] == ["not measured: no CUDA device"] * 3
    assert (tmp_path / "saved.png").stat().st_size > 5000


def test_mistakes():
    with pytest.raises(ValueError, match="--size: got 40"):
        list(training.run(options(size=40)))


def test_bfloat16_computes_our_modes_as_bf16_mixed():
    rows = list(training.run(options(reference=True, dtype="bfloat16")))
    for device in ("cpu", "cuda"):  # measured or not
        dtypes = {row["name"]: row["dtype"] for row in rows if row["pass"] == "step" and row["device"] == device}
        assert dtypes == {"reference": "float32", "ours": "bfloat16"}
    half, full = (Step("ours", "tiny", 64, 1, "cpu", dtype) for dtype in ("bfloat16", "float32"))
    half.features.load_state_dict(full.features.state_dict())
    called = []
    half.model.denoiser.unet.conv_out.register_forward_hook(lambda *event: called.append(event[-1].dtype))
    losses = [step.loss() for step in (half, full)]
    assert set(called) == {torch.bfloat16} and losses[0].dtype == torch.float32
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=0.05) and losses[0] != losses[1]
