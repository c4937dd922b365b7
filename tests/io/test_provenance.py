"""Settings inside a PNG are read back as they were written."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from midms.config import ConfigError
from midms.io.provenance import (
    SHIPPED,
    Record,
    changed_files,
    file_digest,
    png_bytes,
    read_settings,
    text_chunk,
    versions,
    weight_digests,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), values, max_size=5), st.sampled_from([(3, 4, 3), (1, 1, 3), (5, 2)]))
@settings(max_examples=40, deadline=None)
def test_record_and_pixels_come_back(
    tmp_path_factory: pytest.TempPathFactory, numbers: dict[str, Any], shape: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    record = Record(program="tests", weights="demo", seed=1, settings=numbers)
    content = png_bytes(pixels, text_chunk(record))
    assert content == png_bytes(pixels, text_chunk(record))
    file = tmp_path_factory.mktemp("png") / "a.png"
    file.write_bytes(content)
    assert Record(**read_settings(file)) == record
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels)


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"seed": 2**63}, {"seed": True}, {"settings": {"eta": math.nan}}, {"T": 8}]
)
def test_a_record_of_another_form_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Record(**{"program": "tests", "weights": "demo", "seed": 1, "settings": {}, **wrong})


@pytest.mark.parametrize(
    ("text", "words"),
    [({}, "no settings inside"), ({"midms": "{"}, "not a JSON object"), ({"midms": "[1]"}, "not a JSON object")],
)
def test_other_pictures_are_refused(tmp_path: Path, text: dict[str, str], words: str) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(np.zeros((2, 2, 3), np.uint8), text))
    with pytest.raises(ConfigError, match=words):
        read_settings(tmp_path / "a.png")


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(ConfigError, match="not a picture"):
        read_settings(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="no such file"):
        read_settings(tmp_path / "b.png")


def test_digests_name_contents_and_versions_are_known(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (file_digest(tmp_path / name) for name in "abc")
    assert a == b != c and len(a) == 16
    assert {"python", "midms", "torch", "numpy"} <= set(versions())


def test_weights_are_named_by_the_digests_that_their_folder_records() -> None:
    recorded = json.loads((SHIPPED / "demo" / "config.json").read_text())["components"].values()
    assert weight_digests(SHIPPED / "demo") == {entry["file"]: entry["sha256"][:16] for entry in recorded}


def test_changed_weights_and_inputs_are_told(tmp_path: Path) -> None:
    same, other = tmp_path / "a.png", tmp_path / "b.png"
    same.write_text("content")
    other.write_text("other")
    made = {"weights": "demo", "weight_files": weight_digests(SHIPPED / "demo"), "inputs": {"x": file_digest(same)}}
    assert changed_files(made) == changed_files(made, [same]) == []
    assert changed_files(made, [same, other]) == [f"{other} is none of the files that it was made from"]
    (told,) = changed_files(made | {"weight_files": {}})
    assert told == "the weights 'demo' are not what they were; the picture will differ"
    assert (
        changed_files({"weights": "demo"})
        == changed_files({"inputs": 3, "weights": "../demo", "weight_files": {}})
        == []
    )
