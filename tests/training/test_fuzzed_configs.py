"""Configs as nobody writes them, through main.py: it ends well, or in one line and 2, and leaves nothing."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from small_runs import program, stage_one

from midms.config import TARGETS, load_config, resolve

#: A whole small training, as one config.
SMALL = stage_one(Path("run"), 1, "trainer.limit_val_batches=1", "run.export=false")
BASE = SMALL[1]
OVERRIDES = [word for word in SMALL[2:] if "=" in word]

scalars = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["", "x", "on", "1e-4", "${run.seed}", "${oc.env:HOME}", "${a}", "???", "\x1b[2J", *TARGETS])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["target", "params", "a", "size"]) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a config."""
    found = [path] if path else []
    if isinstance(node, dict):
        found += [place for key, value in node.items() for place in paths(value, (*path, key))]
    return found


PLAIN = resolve(load_config([BASE], OVERRIDES))


def changed(place: tuple[Any, ...], value: Any, add: bool) -> dict[str, Any]:
    """The config with another value at a place, or with one more key beside it."""
    config = json.loads(json.dumps(PLAIN))
    node = config
    for step in place[:-1]:
        node = node[step]
    node[f"{place[-1]}_" if add else place[-1]] = value
    return config


def outcome(config: Any, *arguments: str) -> None:
    """Run main.py on a config in an empty folder and look at what it did."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        file = Path(name) / "config.yaml"
        try:
            file.write_text(OmegaConf.to_yaml(OmegaConf.create(config)), encoding="utf-8")
        except Exception:  # what OmegaConf cannot write is no config file
            return
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = program()(["--base", str(file), *arguments])
        assert code in (0, 2), code
        if code == 2:
            lines = err.getvalue().strip().splitlines()
            assert lines[-1].startswith("main.py: ") and lines[-1].isprintable() and len(lines[-1]) < 2000
            assert "Traceback" not in err.getvalue()
            left = {path.name for path in Path(name).iterdir()} - {".hypothesis"}  # where hypothesis keeps its own
            assert left == {"config.yaml"}


@settings(suppress_health_check=list(HealthCheck))
@given(st.sampled_from(paths(PLAIN)), values, st.booleans())
def test_a_changed_config_is_understood_or_told(place, value, add):
    outcome(changed(place, value, add), "--dry-run")


@pytest.mark.slow
@settings(suppress_health_check=list(HealthCheck), max_examples=60)
@given(st.sampled_from(paths(PLAIN)), values)
def test_a_changed_config_trains_or_is_told(place, value):
    outcome(changed(place, value, add=False), "-t", "trainer.accelerator=cpu", "trainer.max_steps=1", "run.root=runs")


@settings(suppress_health_check=list(HealthCheck))
@given(st.text(max_size=40) | st.builds("{}={}".format, st.text(max_size=8), st.text(max_size=8)))
def test_any_override(text):
    if not text.startswith("-"):
        outcome(PLAIN, "--dry-run", *([text] if text else []))
