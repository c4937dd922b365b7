"""Rows of a table as folders: named after what they depend on, resumed, the same for any batch; and their metrics."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from midms.config import ConfigError
from midms.data.procedural.dataset import test_pairs as fixed_test_pairs
from midms.diffusion.settings import InterleaveSettings
from midms.evaluation import benchmark
from midms.evaluation.folders import ImageFolder
from midms.losses.perceptual import FirstStageFeatures
from midms.pipelines.midms import MIDMsPipeline
from tables import rows as table_rows
from tables.ablations import ablation_config, run_folder, start_weights, trained_weights
from tables.encoder_metrics import SEMANTIC, EncoderMetrics
from tables.sampling import CrossedPairs, Plan, recipe_of, row_folder, sample
from tables.tasks import TASKS

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "configs"
PAIRS = fixed_test_pairs(size=32, length=3)


@pytest.fixture(scope="module")
def pipe(tiny_pipeline_folder):
    return MIDMsPipeline.from_pretrained(tiny_pipeline_folder)


def pictures(folder):
    files = ImageFolder(folder)
    return {name: files[k] for k, name in enumerate(files.names)}


def test_a_stopped_row_goes_on_and_batches_do_not_matter(pipe, tmp_path):
    plan, names = Plan("full method", benchmark.full_method, pipe.settings), ["a", "b", "c"]
    sample(pipe.model, PAIRS, names, {tmp_path / "whole": (plan, 0)}, 3, tmp_path / "pairs")
    sample(pipe.model, PAIRS, names[:2], {tmp_path / "parts": (plan, 0)}, 2)
    first = (tmp_path / "parts" / "a.png").stat().st_mtime_ns
    sample(pipe.model, PAIRS, names, {tmp_path / "parts": (plan, 0), tmp_path / "other": (plan, 1)}, 2)
    assert (tmp_path / "parts" / "a.png").stat().st_mtime_ns == first
    whole, parts, other = (pictures(tmp_path / name) for name in ("whole", "parts", "other"))
    assert all((whole[n].int() - parts[n].int()).abs().max() <= 1 for n in names)
    assert any((whole[n].int() - other[n].int()).abs().max() > 1 for n in names)  # another seed
    assert {p.name for p in (tmp_path / "pairs").iterdir()} == {"conditions", "exemplars", "sources", "truth"}
    truth = (PAIRS[1]["truth"] + 1) * 127.5
    assert (pictures(tmp_path / "pairs" / "truth")["b"] - truth).abs().max() <= 0.5 + 1e-3


def test_a_folder_is_named_after_all_that_matters(tmp_path):
    plan = Plan("25 %", benchmark.full_method, InterleaveSettings())
    base = recipe_of(plan, "weights", "data", 0)
    others = [
        recipe_of(plan, "other", "data", 0),
        recipe_of(plan, "weights", "other", 0),
        recipe_of(plan, "weights", "data", 1),
        recipe_of(Plan("25 %", benchmark.no_mask, plan.settings), "weights", "data", 0),
        recipe_of(Plan("25 %", benchmark.full_method, plan.settings.replace(threshold=0.5)), "weights", "data", 0),
    ]
    folders = {row_folder(tmp_path, plan.name, recipe) for recipe in (base, *others)}
    assert len(folders) == 6 and all(folder.name.startswith("25-") for folder in folders)
    assert row_folder(tmp_path, plan.name, dict(base)) in folders


def test_crossed_pairs_share_the_condition_and_its_noise():
    crossed = CrossedPairs(PAIRS, 2, 9)
    assert crossed.names[:4] == ["00000__00000", "00000__00001", "00000__00002", "00001__00001"] and len(crossed) == 6
    item = crossed[4]
    assert item["pair"] == 1 and torch.equal(item["condition"], PAIRS[1]["condition"])
    assert torch.equal(item["exemplar"], PAIRS[2]["exemplar"])


def test_rows_are_the_papers():
    settings = InterleaveSettings()
    levels = {row.plan.name: row.plan.settings for row in table_rows.plans("4", settings, False)}
    calls = {name: level.num_interleaved_steps for name, level in levels.items()}
    assert calls == {"25 %": 50, "20 %": 40, "30 %": 60, "35 %": 70}
    assert len(table_rows.plans("3", settings, True)) == len(table_rows.plans("3", settings, False)) + 4
    assert [row.x for row in table_rows.plans("7", settings, False)] == [50, 25, 4]
    assert [row.x for row in table_rows.plans("rewarp", settings, False)] == [48, 24, 12, 6, 0]


def test_the_encoders_own_metrics(pipe, tmp_path):
    names = ["a", "b", "c"]
    sample(pipe.model, PAIRS, names, {}, 2, tmp_path)
    encoder = EncoderMetrics(FirstStageFeatures(pipe.model.first_stage.model), "key", tmp_path / "cache", batch_size=2)
    truth, sources = ImageFolder(tmp_path / "truth"), ImageFolder(tmp_path / "sources")
    assert encoder.frechet(truth, truth) < 1e-6 < encoder.frechet(truth, sources)
    assert np.allclose(encoder.distance(truth, truth, "truth"), 0) and (encoder.distance(truth, sources, "x") > 0).all()
    np.testing.assert_allclose(encoder.cosines(truth, truth, "truth")[SEMANTIC], 1)
    maps = encoder.maps(truth[1][None])[SEMANTIC].mean(dim=(2, 3))
    np.testing.assert_allclose(encoder.channel_means(truth)[SEMANTIC][1], maps[0].detach(), rtol=1e-4, atol=1e-5)


#: Configs of full trainings; the warm-up steps of a training of 100; the config that goes on through the loop. At 128
#: pixels all of stage 3 is warm-up.
FULL = [((f"configs/{name}.yaml",), 75, "configs/demo_end_to_end.yaml")
        for name in ("demo", "celeba", "deepfashion", "churches")]  # fmt: skip
FULL += [(task.configs, 100, task.joint) for task in TASKS.values()]


@pytest.mark.parametrize(("bases", "warmup", "joint"), FULL, ids=["+".join(row[0]) for row in FULL])
def test_every_ablation_lies_over_every_config(bases, warmup, joint):
    names = {name for rows in table_rows.ABLATIONS.values() for name in rows.values()}
    assert names == {file.stem for file in (CONFIGS / "ablations").glob("*.yaml")}
    bases = [ROOT / base for base in bases]
    full = ablation_config(bases, CONFIGS / "ablations/full.yaml", None)
    for name in names - {"full"}:
        config = ablation_config(bases, CONFIGS / f"ablations/{name}.yaml", None)
        assert config.run.name == name and config.model != full.model
        short = ablation_config(bases, CONFIGS / f"ablations/{name}.yaml", 100)
        warming = 100 if name == "no_diffusion" else warmup
        assert (short.trainer.max_steps, short.model.params.warmup_steps) == (100, warming)
        continued = ablation_config([*bases, ROOT / joint], CONFIGS / f"ablations/{name}.yaml", 100)
        assert continued.model.params.warmup_steps == (100 if name == "no_diffusion" else 0)


def test_a_training_is_known_by_the_weights_it_starts_from(tiny_pipeline_folder, tmp_path):
    """The same name with other content, such as shipped weights of another version, is another training."""
    start = shutil.copytree(tiny_pipeline_folder, tmp_path / "start")
    overrides = [f"model.params.weights={start}"]
    config = ablation_config([CONFIGS / "demo.yaml"], CONFIGS / "ablations/no_src.yaml", 8, overrides)
    before = run_folder(tmp_path, "no_src", config)
    assert run_folder(tmp_path, "no_src", config) == before and list(start_weights(config)) == ["weights"]
    pipe = MIDMsPipeline.from_pretrained(start)
    pipe.model.denoiser.unet.conv_out.bias.data += 1
    pipe.save_pretrained(start)
    assert run_folder(tmp_path, "no_src", config) != before


def test_a_missing_training_is_named(tmp_path):
    config = ablation_config([CONFIGS / "demo.yaml"], CONFIGS / "ablations/no_src.yaml", 8)
    with pytest.raises(ConfigError, match=r"no_src-.* is not there; give --train"):
        trained_weights(tmp_path, "no_src", config, train=False)
