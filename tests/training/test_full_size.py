"""The full-size configs: each trains one step on the CPU, at 64 pixels, from random weights of the real size."""

from __future__ import annotations

from pathlib import Path

import files_on_disk
import pytest
import torch
from small_runs import ROOT, curve, program

from midms.checkpoints.folder import save_folder
from midms.config import check, load_config
from midms.models.denoiser import CELEBAHQ_VQ4, CHURCHES_KL8, Denoiser
from midms.models.first_stage import KL_F8, VQ_F4, FirstStage

STAGE_THREE = {
    "celeba": (files_on_disk.celeba, VQ_F4, CELEBAHQ_VQ4, 274_056_163),
    "deepfashion": (files_on_disk.deepfashion, VQ_F4, CELEBAHQ_VQ4, 274_056_163),
    "churches": (files_on_disk.churches, KL_F8, CHURCHES_KL8, 294_966_916),
}
OTHERS = ["ldm/vq_f4", "ldm/churches_kl_f8", "first_stage/vq_f4", "first_stage/kl_f8"]
STEP = ["trainer.max_steps=1", "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.limit_val_batches=0",
        "run.checkpoint_every=9", "run.picture_every=9", "run.export=false", "run.log_every=1",
        "data.params.batch_size=1", "data.params.num_workers=0"]  # fmt: skip
VGG = "features.params.weights=random"


def weights_of(folder: Path, stage: dict, denoiser: dict | None, numbers: int = 0) -> Path:
    """A folder of random weights at full size."""
    torch.manual_seed(0)
    modules = {"first_stage": FirstStage(stage)}
    if denoiser is not None:
        modules["denoiser"] = Denoiser(denoiser)
        assert sum(p.numel() for p in modules["denoiser"].parameters()) == numbers
        torch.nn.init.normal_(modules["denoiser"].unet.conv_out.weight, std=0.01)  # zero as built: no gradient inside
    configs = {name: module.config for name, module in modules.items()}
    inner = {name: module.unet if name == "denoiser" else module.model for name, module in modules.items()}
    return save_folder(folder, inner, configs, {"size": 64})


@pytest.mark.parametrize("name", [*STAGE_THREE, *OTHERS, "released"])
def test_every_key_has_a_reader(name):
    """With the nested ones; the released preset is laid over a data set's file."""
    files = [ROOT / "configs/celeba.yaml"] if name == "released" else []
    check(load_config([*files, ROOT / f"configs/{name}.yaml"]))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["paper", "released"])
@pytest.mark.parametrize("name", STAGE_THREE)
def test_stage_three_takes_a_step(name, loss, tmp_path):
    """End to end, through the loop: every trained network gets a finite gradient."""
    make, stage, denoiser, numbers = STAGE_THREE[name]
    weights, root = weights_of(tmp_path / "weights", stage, denoiser, numbers), make(tmp_path / "data")
    files = [ROOT / f"configs/{name}.yaml", *([ROOT / "configs/released.yaml"] if loss == "released" else [])]
    data = [f"data.params.{split}.params.{key}" for split in ("train", "validation")
            for key in (f"root={root}", "size=64")]  # fmt: skip
    run = tmp_path / "run"
    more = [f"model.params.weights={weights}", "model.params.warmup_steps=0", f"model.params.{VGG}"]
    assert program()(["--base", *map(str, files), "-t", "--run", str(run), *STEP, *data, *more]) == 0
    assert curve(run)[0] > 0 and 0 < curve(run, "train/grad_norm")[0] < float("inf")


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_stages_one_and_two_take_a_step(name, tmp_path):
    for k in range(2):
        files_on_disk.photo(tmp_path / "photos" / f"{k}.jpg", k, (80, 80))
    data = [f"data.params.{split}.params.{key}" for split in ("train", "validation")
            for key in (f"root={tmp_path / 'photos'}", "size=64")]  # fmt: skip
    if name.startswith("ldm"):
        stage = VQ_F4 if name.endswith("vq_f4") else KL_F8
        more = [f"model.params.first_stage={weights_of(tmp_path / 'weights', stage, None)}"]
    else:
        more = ["model.params.perceptual.params.weights=random", "model.params.discriminator_from=0"]
    run = tmp_path / "run"
    config = str(ROOT / f"configs/{name}.yaml")
    assert program()(["--base", config, "-t", "--run", str(run), *STEP, *data, *more]) == 0
    assert curve(run)[0] > 0 and 0 < curve(run, "train/grad_norm")[0] < float("inf")
