"""float16 with scaled gradients, simulated on the CPU: clipping and the skipping of bad steps see true gradients."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch.utils.data import Dataset

from midms.data.module import DataModule
from midms.training.errors import TrainingError
from midms.training.stage import Stage


class Ones(Dataset[Any]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": torch.ones(4)}


class Linear(Stage):
    """Loss 3 * sum(w * x): the gradient is 3 for each of four weights, its norm 6, whatever the scale."""

    def __init__(self, clip: float | None, factors: list[float]) -> None:
        super().__init__(0, clip)
        self.weight = torch.nn.Parameter(torch.zeros(4))
        self.factors, self.norms, self.steps = factors, [], 0

    def training_step(self, batch: Any, batch_idx: int) -> None:
        factor = self.factors[self.steps]
        self.steps += 1
        total = self.optimise(
            self.optimizers(), [self.weight], batch,
            lambda part, generators: {"loss": 3 * factor * (part["image"] @ self.weight).mean()},
        )  # fmt: skip
        self.norms.append(None if total is None else float(total["grad_norm"]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([self.weight], 1.0)


def trained(tmp_path, clip: float | None, factors: list[float], scale: float, bad: int = 5) -> tuple[Linear, Any]:
    stage = Linear(clip, factors)
    stage.max_bad_losses = bad
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
    trainer = pl.Trainer(
        max_steps=len(factors), accelerator="cpu", logger=False, enable_checkpointing=False, barebones=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path, use_distributed_sampler=False,
        plugins=[MixedPrecision("16-mixed", "cpu", scaler)],
    )  # fmt: skip
    data = DataModule(Ones(), batch_size=2)
    try:
        trainer.fit(stage, datamodule=data)
    finally:
        stage.counted = trainer.global_step
    return stage, scaler


@pytest.mark.parametrize("scale", [1.0, 1024.0, 16384.0])
def test_clipping_sees_true_gradients(scale, tmp_path):
    stage, scaler = trained(tmp_path, 2.0, [1.0], scale)
    assert stage.norms == [6.0] and scaler.get_scale() == scale and stage.counted == 1
    assert torch.allclose(stage.weight, torch.full((4,), -1.0), atol=1e-5), "a gradient of norm 2: 1 each"


def test_a_scale_too_large_is_lowered_and_no_broken_step(tmp_path):
    """Scaled gradients above 65504 are infinite in float16: steps are left out until the scale fits, more than two."""
    scale = 2.0**18
    stage, scaler = trained(tmp_path, None, [2.0] * 8, scale, bad=2)
    assert stage.norms[0] is None and stage.norms[-1] == pytest.approx(12.0)
    left_out = stage.norms.count(None)
    assert stage.skipped == left_out > 2 and scaler.get_scale() == scale / 2**left_out
    assert stage.counted == 8 and bool(stage.weight.isfinite().all())
    assert float(stage.weight.detach()[0]) == pytest.approx(-6.0 * (8 - left_out))


def test_broken_steps_are_left_out_and_counted(tmp_path):
    stage, _ = trained(tmp_path, 1.0, [1.0, float("nan"), 1.0], 1024.0)
    assert stage.norms == [6.0, None, 6.0] and stage.skipped == 1 and stage.counted == 3
    assert torch.allclose(stage.weight, torch.full((4,), -1.0), atol=1e-5)
    with pytest.raises(TrainingError, match="2 steps in a row"):
        trained(tmp_path, 1.0, [1.0, float("nan"), float("nan")], 1024.0, bad=2)
