"""What `make demo` runs, with a handful of steps; and the shipped weights' own promises."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from programs import load_program

from midms.checkpoints.folder import save_folder
from midms.checkpoints.loading import SHIPPED
from midms.data.procedural.dataset import test_pairs as fixed_test_pairs
from midms.evaluation import benchmark
from midms.models.denoiser import Denoiser
from midms.models.first_stage import FirstStage
from midms.pipelines.midms import MIDMsPipeline


def test_all_shipped_weights_together_are_small():
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) <= 60e6


@pytest.mark.parametrize(
    ("name", "gain"),
    [("demo", 1.5), ("demo-64", 1.5), ("demo-gan", 1.5), ("demo-figures", 1), ("demo-churches", 1.5)],
)
def test_shipped_weights_translate(name, gain):
    """Few pairs, wide margins: the table in docs/benchmarks.md has the numbers."""
    assert sum(file.stat().st_size for file in (SHIPPED / name).iterdir()) <= 20e6
    pipe = MIDMsPipeline.from_pretrained(name)
    pairs = list(benchmark.encoded_pairs(pipe.model, fixed_test_pairs(pipe.info["task"], pipe.info["size"], 16)))
    result = benchmark.score(pipe.model, pairs, benchmark.full_method, pipe.settings).psnr.mean()
    copy = benchmark.score(pipe.model, pairs, benchmark.exemplar_itself, pipe.settings).psnr.mean()
    assert result > copy + gain
    first, identity = (benchmark.score_matching(pipe.model, pairs, kind) for kind in ("first", "identity"))
    assert first.pck.mean() > identity.pck.mean() + 0.1 and first.error.mean() < identity.error.mean()


def pictures_in_batches(name: str, count: int, runs: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
    """The pictures of the first benchmark pairs, once for each (batch size, threads)."""
    pipe = MIDMsPipeline.from_pretrained(name)
    pairs = fixed_test_pairs(pipe.info["task"], pipe.info["size"], length=count)
    items = [pairs[index] for index in range(count)]
    conditions, exemplars = (torch.stack([item[key] for item in items]) for key in ("condition", "exemplar"))
    found, before = [], torch.get_num_threads()
    try:
        for batch, threads in runs:
            torch.set_num_threads(threads)
            parts = [slice(start, start + batch) for start in range(0, count, batch)]
            made = [pipe(conditions[p], exemplars[p], seed=11 + p.start, output_type="pt").images for p in parts]
            found.append(torch.cat(made))
    finally:
        torch.set_num_threads(before)
    return found


@pytest.mark.parametrize("name", ["demo", "demo-64", "demo-gan"])
def test_a_seed_gives_one_image_whatever_the_batch(name):
    together, *others = pictures_in_batches(name, 8, [(8, 1), (1, 1), (3, 1), (8, 2)])
    assert all((other - together).abs().max() <= 1e-6 for other in others)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "demo-64", "demo-gan", "demo-figures", "demo-churches"])
def test_64_pairs_are_the_same_in_every_batch_and_with_every_number_of_threads(name):
    together, *others = pictures_in_batches(name, 64, [(8, 1), (1, 1), (3, 1), (8, 2), (1, 2)])
    differing = [int(((other - together).abs().flatten(1).amax(dim=1) > 1e-6).sum()) for other in others]
    assert differing == [0] * len(others)


@pytest.fixture(scope="module")
def program():
    return load_program("scripts/demo.py")


@pytest.mark.slow
def test_demo_from_end_to_end(tmp_path, capfd, program):
    steps = ["trainer.max_steps=3", "model.params.warmup_steps=2", "trainer.val_check_interval=3", "run.log_every=1"]
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8)).save(photo)
    words = ["--out", str(tmp_path / "out"), "--exemplar", str(photo), "--pairs", "4", "--shown", "2", *steps]
    assert program.main(words) == 0
    said = capfd.readouterr().out
    names = ("shipped.png", "yours.png", "before_and_after.png", "training_curves.png", "table3.md")
    for name in names:  # what the last lines name is there
        assert (tmp_path / "out" / name).stat().st_size > 0 and f"{name}: " in said.split("Done.")[1], name
    assert len(json.loads((tmp_path / "out/table3.json").read_text())["rows"]) >= len(benchmark.METHODS)
    gain = json.loads((tmp_path / "out/gain.json").read_text())
    assert gain["pairs"] == 4 and gain["psnr"]["standard_error"] > 0 and "The training changed PSNR by" in said


def small_weights(path: Path, kind: str, latent: int, task: str) -> Path:
    """What stage 2 exports: a random first stage and denoiser, in the published layout."""
    torch.manual_seed(0)
    stage = FirstStage({"kind": kind, "ch": 8, "ch_mult": [1, 1, 2], "num_res_blocks": 1, "n_embed": 64,
                        "norm_groups": 4, "z_channels": latent})  # fmt: skip
    denoiser = Denoiser({"in_channels": latent, "out_channels": latent, "model_channels": 16, "channel_mult": [1, 2],
                         "num_res_blocks": 1, "attention_resolutions": [2], "num_head_channels": 8,
                         "norm_groups": 8})  # fmt: skip
    modules = {"first_stage": stage.model, "denoiser": denoiser.unet}
    configs = {"first_stage": stage.config, "denoiser": denoiser.config}
    return save_folder(path, modules, configs, {"task": task, "size": 32})


@pytest.mark.slow
@pytest.mark.parametrize(("task", "kind", "latent"), [("figures", "vq", 3), ("churches", "kl", 4)])
def test_the_other_tasks_train_from_the_first_two_stages_alone_and_then_run_as_they_are(
    tmp_path, capfd, program, task, kind, latent
):
    weights = small_weights(tmp_path / "start", kind, latent, task)
    smaller = [f"data.params.{part}.params.size=32" for part in ("train.params.dataset", "validation")]
    smaller += ["data.params.validation.params.length=2", "data.params.batch_size=2", "trainer.max_steps=2",
                "model.params.warmup_steps=1", "trainer.val_check_interval=2", "run.log_every=1",
                "model.params.encoders.widths=[8,8,16]", "model.params.encoders.out_channels=16",
                "model.params.encoders.hidden=8", f"model.params.encoders.latent_channels={latent}"]  # fmt: skip
    words = ["--task", task, "--pairs", "2", "--shown", "2"]
    trained = [*words, "--weights", str(weights), "--out", str(tmp_path / "one"), *smaller]
    assert program.main(trained) == 0, capfd.readouterr().err[-2000:]
    assert not (tmp_path / "one/gain.json").exists()  # the start cannot translate
    made = tmp_path / "one/run/weights"
    assert program.main([*words, "--weights", str(made), "--out", str(tmp_path / "two"), "--skip-training"]) == 0
    for run in ("one", "two"):
        assert (tmp_path / run / "table3.md").stat().st_size > 0
    assert (tmp_path / "two/shipped.png").stat().st_size > 0 and (tmp_path / "one/training_curves.png").is_file()
    assert (tmp_path / "one/before_and_after.png").is_file() and not (tmp_path / "two/training_curves.png").exists()
    assert program.main(["--task", "faces", "--weights", str(made)]) == 2
    assert f"are of task '{task}', not 'faces'" in capfd.readouterr().err


def test_the_encoders_of_the_weights_are_trained_further(program, tiny_pipeline_folder, tmp_path):
    """Those of an earlier stretch only with the shipped weights, which they fit."""

    def start(*words: str) -> list[str]:
        return program.start_weights(program.parse(list(words)))

    for words, weights in (
        ((), "demo"),
        (("--task", "figures"), "demo-figures"),
        (("--weights", "demo-64"), "demo-64"),
    ):
        assert start(*words) == [f"model.params.weights={weights}"]
    own, half = str(tiny_pipeline_folder), str(small_weights(tmp_path / "half", "vq", 3, "faces"))
    assert start("--weights", own) == [f"model.params.weights={own}", f"model.params.encoders_from={own}"]
    assert start("--weights", own, "--from-scratch") == [f"model.params.weights={own}"]
    assert start("--weights", half)[1:] == ["model.params.encoders_from=null"]


def test_mistakes_are_one_line_and_exit_2(program, capsys, monkeypatch):
    monkeypatch.setitem(program.TASKS, "figures", program.TASKS["figures"]._replace(weights="demo-none"))
    assert program.main(["--task", "figures", "--skip-training"]) == 2
    error = capsys.readouterr().err
    assert "'demo-none'" in error and "shipped: demo" in error and error.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        program.main(["--pairs", "1"])
