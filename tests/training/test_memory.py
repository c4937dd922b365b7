"""The counted memory of a step: weights as they are, activations as the switches say."""

from __future__ import annotations

import pytest
from small_runs import ROOT

from midms.checkpoints.loading import load_denoiser, load_encoders
from midms.config import load_config
from midms.training.memory import USABLE, estimate, free_bytes, main, needs_checkpointing

DEMO = ROOT / "configs/demo.yaml"


def rows(*overrides: str) -> dict[str, int]:
    return {row.name: row.bytes for row in estimate(load_config([DEMO], overrides), 64)}


def test_weights_moments_and_activations_are_counted():
    plain = rows("data.params.batch_size=2")
    numbers = sum(p.numel() for net in (load_denoiser("demo-64"), load_encoders("demo-64")) for p in net.parameters())
    assert plain["trained weights"] == plain["their gradients"] == 4 * numbers
    assert plain["AdamW's two moments"] == 8 * numbers
    larger = rows("data.params.batch_size=4", "model.params.ema_decay=0.99")
    assert larger["averaged weights"] == 4 * numbers
    parts = ("decoder", "F_Y and the head", "U-Net, 4 calls")
    assert all(larger[part] == pytest.approx(2 * plain[part], rel=0.1) for part in parts)
    lean = rows("data.params.batch_size=4", "model.params.accumulation=2", "model.params.gradient_checkpointing=true")
    assert lean["U-Net, 4 calls"] < 0.7 * plain["U-Net, 4 calls"]
    assert lean["decoder"] == plain["decoder"]


def test_another_stage_is_refused_in_one_line(capsys):
    assert main(["--base", str(ROOT / "configs/ldm/demo.yaml")]) == 2
    assert "only stage 3 is counted" in capsys.readouterr().err


def test_auto_recomputes_only_where_the_activations_do_not_fit():
    config = load_config([DEMO], ["model.params.gradient_checkpointing=auto"])
    kept, recomputed = (sum(row.bytes for row in estimate(config, 64, choice)) for choice in (False, True))
    assert recomputed < kept and sum(row.bytes for row in estimate(config, 64)) == recomputed
    assert not needs_checkpointing(config, 64, int(kept / USABLE) + 1)
    assert needs_checkpointing(config, 64, int(kept / USABLE) - 1)
    assert needs_checkpointing(config, 64, None)
    free = free_bytes("cpu")
    assert free is None or 0 < free < 2**50


@pytest.mark.parametrize(("free", "recomputed"), [(2**40, False), (2**20, True)])
def test_a_training_decides_by_the_free_memory(free, recomputed, monkeypatch, capsys):
    from midms.training import run

    monkeypatch.setattr(run, "free_bytes", lambda accelerator: {"cpu": free}[accelerator])
    config = load_config([DEMO], ["model.params.gradient_checkpointing=auto", "trainer.accelerator=cpu"])
    _, _, module = run._built(config)
    assert module.model.denoiser.unet.is_gradient_checkpointing is recomputed
    assert f"activations are {'recomputed' if recomputed else 'kept'}" in capsys.readouterr().out
