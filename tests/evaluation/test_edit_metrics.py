"""The metrics of edits through the evaluator: with small random networks, and with what is missing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from midms.evaluation.suite import Folders, Options, evaluate


@pytest.fixture
def edits(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("edits", "sources"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(tmp_path / folder / f"{name}.png")
    (tmp_path / "prompts.json").write_text(json.dumps({"a": "a dog", "b": "a cat"}))
    (tmp_path / "masks").mkdir()
    return tmp_path


def test_clip_through_the_evaluator(edits):
    pytest.importorskip("transformers")
    from tiny_stable_diffusion import tiny_components

    components, both = tiny_components(), edits / "clip"
    components["clip_model"].save_pretrained(both)
    components["tokenizer"].save_pretrained(both)
    folders = Folders(edits / "edits", prompts=edits / "prompts.json")
    (result,) = evaluate(folders, Options(clip=both), ["clip"])
    assert result.status == "ok" and -1 <= result.values["clip_similarity"] <= 1
    assert result.images == {"generated": 2}


def test_structure_through_the_evaluator(edits):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
                                    image_size=32, patch_size=8)  # fmt: skip
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(edits / "dino")
    options = Options(dino=edits / "dino")
    (same,) = evaluate(Folders(edits / "edits", edits / "edits"), options, ["structure"])
    (other,) = evaluate(Folders(edits / "edits", edits / "sources"), options, ["structure"])
    assert same.values["structure_distance"] == 0 < other.values["structure_distance"]


def test_what_is_missing_is_said(edits):
    results = evaluate(Folders(edits / "edits", edits / "sources"), Options(), ["clip", "background"])
    assert [result.reason for result in results] == ["needs --prompts FILE", "needs --masks DIR"]
    (result,) = evaluate(Folders(edits / "edits", prompts=edits / "prompts.json"), Options(clip=edits / "no"), ["clip"])
    assert result.status == "skipped" and "CLIP" in result.reason
    (edits / "prompts.json").write_text("[]")
    with pytest.raises(ValueError, match="name -> prompt"):
        evaluate(Folders(edits / "edits", prompts=edits / "prompts.json"), Options(), ["clip"])
