"""Two processes with batches of B compute the step of one process with 2B, through main.py, over gloo.

In float64, where only a fault is left: tau = 0.005 makes float32's rounding 200 times larger.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import checkpoint, curve, gradients, matching_gan, program, stage_one, stage_three, stage_two, start

TERMS = {
    "first": ("loss", "psnr"),
    "kl": ("loss", "regularisation"),
    "ldm": ("loss",),
    "midms": ("dom", "diff", "style"),
    "gan": ("dom", "feat", "adv", "discriminator"),
}


def arguments(stage: str, weights: Path, run: Path, *more: str) -> list[str]:
    """Two steps; MIDMs with the loop from the second on."""
    if stage in ("first", "kl"):
        kl = ["model.params.first_stage.kind=kl", "model.params.kl_weight=0.01"] if stage == "kl" else []
        return stage_one(run, 2, "model.params.quantise_from=0", *kl, *more)
    if stage == "ldm":
        return stage_two(weights, run, 2, *more)
    if stage == "gan":
        return matching_gan(weights, run, 2, "model.params.ema_decay=0.9", *more)
    return stage_three(weights, run, 2, "model.params.warmup_steps=1", "model.params.ema_decay=0.9", *more)


@pytest.mark.slow
@pytest.mark.parametrize("stage", TERMS)
def test_two_ranks_are_one_with_twice_the_batch(stage, tmp_path, tiny_weights):
    one, two = tmp_path / "one", tmp_path / "two"
    keep = ["run.keep=9", "trainer.val_check_interval=2", "trainer.precision=64-true"]
    pair = start(arguments(stage, tiny_weights, two, *keep, "trainer.devices=2", "model.params.accumulation=2"))
    assert program()(arguments(stage, tiny_weights, one, *keep, "data.params.batch_size=4")) == 0
    out, err = pair.communicate(timeout=600)
    assert pair.returncode == 0, out + err
    expected, actual = gradients(one), gradients(two)
    scale = max(float(gradient.abs().max()) for gradient in expected)
    assert max(float((a - b).abs().max()) for a, b in zip(expected, actual, strict=True)) <= 1e-8 * scale
    for name in ("grad_norm", *TERMS[stage]):
        assert curve(two, f"train/{name}") == pytest.approx(curve(one, f"train/{name}"), rel=1e-6), name
    for name in {"ldm": ("loss",), "midms": ("psnr", "psnr_warp"), "gan": ("psnr", "psnr_warp")}.get(stage, ("psnr",)):
        assert curve(two, f"val/{name}") == pytest.approx(curve(one, f"val/{name}"), rel=1e-6), name
    assert checkpoint(two, 2)["DataModule"] == checkpoint(one, 2)["DataModule"]
