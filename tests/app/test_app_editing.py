"""Edits by text as the page runs them, on a tiny random Stable Diffusion."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("transformers", reason="needs the extra text")
sys.path.insert(0, str(Path(__file__).parents[1] / "oig"))

from midms.app import editing
from midms.config import ConfigError

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 33, 3), np.uint8))
TASK = editing.EditTask(PICTURE, "a cat", "a dog", 3, 0, 5.0, 0.1, 1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    import torch
    from tiny_stable_diffusion import tiny_pipeline

    place = tmp_path_factory.mktemp("text-weights")
    tiny_pipeline(torch.float32).save_pretrained(place)
    return str(place)


@pytest.fixture(scope="module")
def weights() -> editing.TextWeights:
    return editing.TextWeights("cpu")


def test_an_edit_is_watched_and_is_the_pipelines(folder: str, weights: editing.TextWeights) -> None:
    from midms.oig import edit_image

    pipeline = weights.get(folder)
    seen = list(editing.edit(pipeline, TASK))
    assert [progress.done for progress in seen] == [0, 1, 2, 3, 3]
    assert all(progress.picture is not None and progress.picture.dtype == np.uint8 for progress in seen[1:])
    options = {"guidance_scale": 5.0, "clip_weight": 0.1, "structure_weight": 1.0}
    alone = edit_image(pipeline, PICTURE, source_prompt="a cat", target_prompt="a dog", num_inference_steps=3,
                       edit_options=options)  # fmt: skip
    np.testing.assert_array_equal(seen[-1].picture, np.asarray(alone.image))
    np.testing.assert_array_equal(seen[-1].reconstruction, np.asarray(alone.reconstruction))
    assert seen[-1].settings is not None and seen[-1].settings["edit"] == options


def test_weights_are_loaded_once(folder: str, weights: editing.TextWeights) -> None:
    assert weights.get(folder) is weights.get(f" {folder} ", "")


@pytest.mark.parametrize("name", ["", "   ", "/nowhere/at/all"])
def test_missing_weights_are_told(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no weights|cannot be loaded"):
        editing.TextWeights("cpu").get(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_prompt": " "}, "source prompt"),
        ({"target_prompt": ""}, "target prompt"),
        ({"target_prompt": "a" * 501}, "501 characters"),
        ({"steps": 1}, "2 to 200"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
    ],
)
def test_mistakes_are_told(folder: str, weights: editing.TextWeights, change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(editing.edit(weights.get(folder), TASK._replace(**change)))
