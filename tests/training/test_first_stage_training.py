"""Terms that keep a first stage's latents usable, through the real program."""

from __future__ import annotations

import pytest
import torch
from small_runs import curve, program, stage_one

from midms.checkpoints.loading import load_first_stage
from midms.data.procedural.dataset import ProceduralImages

TERMS = ["model.params.decorrelation_weight=0.05", "model.params.anchor_weight=0.2",
         "model.params.laplacian_weight=2.0"]  # fmt: skip


def test_the_terms_are_logged_and_a_resumed_run_is_the_same(tmp_path):
    codes = "model.params.quantise_from=2"  # and the run is resumed there
    whole = stage_one(tmp_path / "whole", 3, *TERMS, codes, "trainer.val_check_interval=3")
    assert program()(whole) == 0
    for name in ("train/decorrelation", "train/anchor"):
        assert len(curve(tmp_path / "whole", name)) == 3 and min(curve(tmp_path / "whole", name).values()) > 0
    assert curve(tmp_path / "whole", "val/sharpness")[2] > 0
    assert 1 <= curve(tmp_path / "whole", "val/effective_rank")[2] <= 3 + 1e-3
    run = tmp_path / "whole"
    (run / "checkpoints/step_00000003.ckpt").unlink()
    before = curve(run)
    assert program()([*whole, "--resume", str(run)]) == 0
    assert curve(run)[2] == before[2]


def test_the_anchor_falls_to_a_tenth(tmp_path):
    """With a rate of nearly nothing, what changes from step to step is the weight alone."""
    more = ["model.params.anchor_weight=1.0", "model.params.learning_rate=1e-12", "data.params.train.params.length=2"]
    assert program()(stage_one(tmp_path, 10, *more)) == 0
    anchor = curve(tmp_path, "train/anchor")
    assert anchor[9] / anchor[0] == pytest.approx(1 - 0.9 * 0.9, rel=1e-3)


def test_a_narrower_discriminator(tmp_path):
    more = ["model.params.discriminator_from=1", "+model.params.discriminator={width: 8, num_layers: 1}"]
    arguments = [item.lstrip("+") for item in stage_one(tmp_path, 2, *more)]
    assert program()(arguments) == 0
    assert len(curve(tmp_path, "train/discriminator")) == 1


def test_the_codebook_is_set_before_anything_reads_it(tmp_path):
    """The validation and the export after the last step without codes use k-means centres of standardised latents."""
    more = ["model.params.quantise_from=2", "trainer.val_check_interval=1"]
    assert program()(stage_one(tmp_path, 2, *more)) == 0
    rank = curve(tmp_path, "val/effective_rank")
    assert rank[0] < 2.5 < rank[1]  # the second is of latents with uncorrelated channels
    stage = load_first_stage(tmp_path / "weights")
    data = ProceduralImages("faces", 32, "train", 32)
    latents = stage.encode(torch.stack([data[index]["image"] for index in range(32)]))
    error = torch.nn.functional.mse_loss(stage.quantise(latents).latents, latents)
    assert error < 0.2 * latents.var()
