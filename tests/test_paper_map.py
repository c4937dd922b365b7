"""docs/paper_map.md names only what exists: functions, config keys, paths."""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import pytest
from programs import resolve

from midms.diffusion.settings import InterleaveSettings

ROOT = Path(__file__).parents[1]
QUOTED = sorted(set(re.findall(r"`([^`\s]+)`", (ROOT / "docs" / "paper_map.md").read_text())))
NAMES = [word for word in QUOTED if word.startswith("midms.")]
PATHS = [word for word in QUOTED if "/" in word]
SETTINGS = [word for word in QUOTED if word.startswith("interleave.") and word != "interleave."]
KEYS = ["denoiser_learning_rate", "encoders", "gamma", "loss_weights", "milestones", "perceptual_layer", "schedule"]
KEYS += ["source_layers", "style_layers", "temperature", "warmup_steps", "weights"]


@pytest.mark.parametrize("name", NAMES)
def test_name_imports(name: str) -> None:
    resolve(name)


@pytest.mark.parametrize("path", PATHS)
def test_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_keys_exist() -> None:
    fields = {f"interleave.{field.name}" for field in dataclasses.fields(InterleaveSettings)}
    assert set(SETTINGS) == fields, "every setting has its row, and every row its setting"
    training = importlib.import_module("midms.training.midms").MIDMsTraining
    parameters = set(inspect.signature(training.__init__).parameters)
    assert set(KEYS) <= parameters and set(KEYS) <= set(QUOTED)
    known = {"form", "condition_input", "exemplar_features", "forward_maps", "backward_maps", "cycles", "model.params"}
    rest = set(QUOTED) - set(NAMES) - set(PATHS) - set(SETTINGS) - set(KEYS) - known - {"interleave."}
    assert not rest, f"neither a name nor a key nor a path: {sorted(rest)}"
