"""What `make demo` runs, with a handful of steps; and the shipped weights' own promises."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from midms.data.procedural.dataset import test_pairs as fixed_test_pairs
from midms.evaluation import benchmark
from midms.models.loading import SHIPPED
from midms.pipelines.midms import MIDMsPipeline

ROOT = Path(__file__).resolve().parents[2]


def test_shipped_weights_are_small_and_translate():
    """Few pairs, wide margins: the table in docs/benchmarks.md has the numbers."""
    assert sum(file.stat().st_size for file in (SHIPPED / "demo").iterdir()) <= 20e6
    pipe = MIDMsPipeline.from_pretrained("demo")
    pairs = list(benchmark.encoded_pairs(pipe.model, fixed_test_pairs(length=16)))
    result = benchmark.score(pipe.model, pairs, benchmark.full, pipe.settings).psnr.mean()
    copy = benchmark.score(pipe.model, pairs, benchmark.exemplar_itself, pipe.settings).psnr.mean()
    assert result > copy + 1.5
    first, identity = (benchmark.score_matching(pipe.model, pairs, kind) for kind in ("first", "identity"))
    assert first.pck.mean() > identity.pck.mean() + 0.1 and first.error.mean() < identity.error.mean()


def test_a_seed_gives_one_image_whatever_the_batch():
    pipe = MIDMsPipeline.from_pretrained("demo")
    items = [fixed_test_pairs(length=8)[index] for index in range(8)]
    conditions, exemplars = (torch.stack([item[key] for item in items]) for key in ("condition", "exemplar"))
    together = pipe(conditions, exemplars, seed=11, output_type="pt").images
    alone = pipe(conditions[3], exemplars[3], seed=14, output_type="pt").images[0]
    assert (together[3] - alone).abs().max() < 1e-4


@pytest.mark.slow
def test_demo_from_end_to_end(tmp_path, capfd):
    spec = importlib.util.spec_from_file_location("demo", ROOT / "scripts/demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    steps = ["trainer.max_steps=3", "model.params.warmup_steps=2", "trainer.val_check_interval=3", "run.log_every=1"]
    assert module.main(["--out", str(tmp_path), "--pairs", "4", "--shown", "2", *steps]) == 0
    for name in ("contact_sheet.png", "masks.png", "training_curves.png", "table3.md", "shipped/contact_sheet.png"):
        assert (tmp_path / name).stat().st_size > 0, name
    assert len(json.loads((tmp_path / "table3.json").read_text())["rows"]) == len(benchmark.METHODS)
    assert "contact_sheet.png" in capfd.readouterr().out
