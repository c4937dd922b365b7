"""configs/celeba.yaml on a small folder of faces: resuming is exact, a broken photo is one line."""

from __future__ import annotations

from pathlib import Path

import files_on_disk
import pytest
import torch
from small_runs import ROOT, curve, program

from midms.checkpoints.folder import load_folder


def faces(root: Path, weights: Path, run: Path, steps: int, *more: str) -> list[str]:
    """Arguments that train a small MIDMs on drawn photo files, with the config of the real ones."""
    data = [f"data.params.{split}.params.{key}" for split in ("train", "validation")
            for key in (f"root={root}", "size=32")]  # fmt: skip
    small = ["widths=[8,8,16]", "out_channels=16", "hidden=8"]
    model = [f"model.params.encoders.{item}" for item in small]
    model += [f"model.params.weights={weights}", "model.params.features.params.weights=random",
              "model.params.features.params.layers=[relu1_2,relu2_2]", "model.params.perceptual_layer=relu2_2",
              "model.params.source_layers={relu1_2: 1.0}", "model.params.style_layers={relu2_2: 1.0}",
              "model.params.warmup_steps=1", "model.params.milestones=[2]"]  # fmt: skip
    base = ["--base", str(ROOT / "configs/celeba.yaml"), "-t", "--run", str(run), *data, *model]
    loader = [
        "data.params.batch_size=2",
        "data.params.num_workers=0",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
    ]
    return [*base, *loader, f"trainer.max_steps={steps}", "run.checkpoint_every=1", "run.log_every=1",
            "run.picture_every=99", "run.keep=9", *more]  # fmt: skip


def test_resuming_on_photos_is_exact_across_an_epochs_end(tmp_path, tiny_weights):
    """Views and exemplars are drawn anew in each epoch; the resumed run draws those of the uninterrupted one."""
    root, main = files_on_disk.celeba(tmp_path / "data", train=5), program()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(faces(root, tiny_weights, whole, 4)) == 0
    (parts / "checkpoints").mkdir(parents=True)
    name = "checkpoints/step_00000002.ckpt"
    (parts / name).write_bytes((whole / name).read_bytes())
    assert main(faces(root, tiny_weights, parts, 4, "--resume", str(parts))) == 0
    before = curve(whole)
    assert curve(parts) == {step: before[step] for step in (2, 3)} and len(set(before.values())) == 4
    one, two = (load_folder(run / "weights").states for run in (whole, parts))
    assert all(torch.equal(one[part][key], two[part][key]) for part in one for key in one[part])


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_broken_photo_is_one_line_or_left_out(workers, tmp_path, tiny_weights, capsys):
    root, main = files_on_disk.celeba(tmp_path / "data", train=3), program()
    photo = root / "CelebA-HQ-img" / "1.jpg"
    photo.write_bytes(photo.read_bytes()[:200])
    loader = f"data.params.num_workers={workers}"
    assert main(faces(root, tiny_weights, tmp_path / "run", 2, loader)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("main.py: ") and str(photo) in error
    skip = "data.params.train.params.skip_broken=true"
    assert main(faces(root, tiny_weights, tmp_path / "skipping", 2, loader, skip)) == 0
    assert "skipped 1 broken images: 1.jpg" in capsys.readouterr().out
