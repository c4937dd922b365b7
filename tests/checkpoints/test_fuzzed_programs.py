"""Damaged files through the real programs: 0, or one line and 2, and nothing left behind.

`make test` tries the same few examples in every run; `-m slow` tries many random ones.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fuzzing import EDITS, ODD, Edit, damaged, ends_well, picture, try_examples
from hypothesis import strategies as st
from PIL import Image
from programs import load_program
from small_ldm import LDM_YAML

from midms import cli
from midms.io.files import sha256_of

# --- pictures


def pictures(folder: Path, weights: Path, kind: str, edits: Sequence[Edit]) -> None:
    (folder / "bad").write_bytes(damaged(picture(kind), edits))
    (folder / "sketch.png").write_bytes(picture("PNG"))
    base = ["--weights", str(weights), "--calls", "1", "--out", str(folder / "out.png"), "--exemplar"]
    words = ["translate", "--condition", str(folder / "sketch.png"), *base, str(folder / "bad")]
    if ends_well(folder, cli.main, words) == 0:
        assert Image.open(folder / "out.png").size == (16, 12)


def records(folder: Path, command: str, edits: Sequence[Edit]) -> None:
    from midms.io.provenance import png_bytes

    record = {"program": "x", "command": command, "inputs": {"/etc/passwd": "0"}, "weights": "demo", "weight_files": {}}
    content = png_bytes(
        np.zeros((2, 2, 3), np.uint8), {"midms": damaged(json.dumps(record).encode(), edits).decode("latin-1")}
    )
    (folder / "a.png").write_bytes(content)
    ends_well(folder, cli.main, ["show", str(folder / "a.png")])


# --- folders of weights


def folders(folder: Path, weights: Path, path: Sequence[str], value: Any, edits: Sequence[Edit]) -> None:
    copied = Path(shutil.copytree(weights, folder / "weights", dirs_exist_ok=True))
    document = json.loads((copied / "config.json").read_text())
    node = document
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    (copied / "config.json").write_bytes(damaged(json.dumps(document).encode(), edits))
    ends_well(folder, cli.main, ["info", str(copied)])


def tensors(folder: Path, weights: Path, part: str, edits: Sequence[Edit], consistent: bool) -> None:
    copied = Path(shutil.copytree(weights, folder / "weights", dirs_exist_ok=True))
    file = copied / f"{part}.safetensors"
    file.write_bytes(damaged(file.read_bytes(), edits))
    if consistent:  # a stranger can write sums that fit
        document = json.loads((copied / "config.json").read_text())
        document["components"][part] |= {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
        (copied / "config.json").write_text(json.dumps(document))
    ends_well(folder, cli.main, ["info", str(copied)])


# --- checkpoints


def checkpoints(folder: Path, state: dict[str, Any], text: str, edits: Sequence[Edit], inside: bool) -> None:
    stream = io.BytesIO()
    torch.save({"state_dict": state, "epoch": 3}, stream)
    content = stream.getvalue()
    (folder / "a.ckpt").write_bytes(_with_damaged_pickle(content, edits) if inside else damaged(content, edits))
    (folder / "a.yaml").write_text(text)
    main = load_program("scripts/convert_checkpoint.py").main
    arguments = [str(folder / "a.ckpt"), "--to", str(folder / "ours"), "--config", str(folder / "a.yaml")]
    ends_well(folder, main, arguments)
    assert not (folder / "ran").exists()


def _with_damaged_pickle(content: bytes, edits: Sequence[Edit]) -> bytes:
    """The archive with other bytes in its pickle and sums that fit, so that the reader of pickles sees them."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for member in old.infolist():
            data = old.read(member)
            new.writestr(member.filename, damaged(data, edits) if member.filename.endswith("data.pkl") else data)
    return out.getvalue()


def configs(folder: Path, state: dict[str, Any], path: Sequence[str], value: Any, edits: Sequence[Edit]) -> None:
    document = json.loads(json.dumps(LDM_YAML))
    node = document["model"]["params"]
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    text = damaged(yaml.safe_dump(document).encode(), edits).decode("utf-8", "replace")
    checkpoints(folder, state, text, [Edit(0, 0, b"")], False)


STAGE, UNET = ("first_stage_config", "params"), ("unet_config", "params")
YAML_KEYS = [("linear_start",), ("timesteps",), ("beta_schedule",), ("scale_factor",), (*UNET, "channel_mult"),
             (*UNET, "num_res_blocks"), (*UNET, "num_head_channels"), (*STAGE, "n_embed"), (*STAGE, "ddconfig"),
             (*STAGE, "ddconfig", "ch_mult"), (*STAGE, "ddconfig", "z_channels"), ("unet_config",)]  # fmt: skip
JSON_KEYS = [("info", "temperature"), ("info", "settings"), ("info", "settings", "threshold"), ("info", "size"),
             ("info", "schedule"), ("components", "denoiser"), ("components", "denoiser", "config", "channel_mult"),
             ("components", "encoders", "config", "widths"), ("components", "first_stage", "config", "ch"),
             ("components", "first_stage", "config", "kind"), ("version",), ("components",)]  # fmt: skip
NOTHING = st.just([Edit(0, 0, b"")])

CASES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "pictures": {"kind": st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "EPS"]), "edits": EDITS},
    "records": {"command": st.text(max_size=20) | st.just("midms translate --out a.png"), "edits": EDITS | NOTHING},
    "folders": {"path": st.sampled_from(JSON_KEYS), "value": ODD, "edits": EDITS | NOTHING},
    "tensors": {"part": st.sampled_from(["denoiser", "encoders"]), "edits": EDITS, "consistent": st.booleans()},
    "checkpoints": {"edits": EDITS, "inside": st.booleans()},
    "configs": {"path": st.sampled_from(YAML_KEYS), "value": ODD, "edits": EDITS | NOTHING},
}
RUN: dict[str, Callable[..., None]] = {
    "pictures": pictures,
    "records": records,
    "folders": folders,
    "tensors": tensors,
    "checkpoints": checkpoints,
    "configs": configs,
}


def prepared(name: str, weights: Path, state: dict[str, Any]) -> Callable[..., None]:
    if name in ("pictures", "folders", "tensors"):
        return partial(RUN[name], weights=weights)
    if name == "records":
        return RUN[name]
    extra = {"text": yaml.safe_dump(LDM_YAML)} if name == "checkpoints" else {}
    return partial(RUN[name], state=state, **extra)


@pytest.mark.parametrize("name", CASES)
def test_damaged_files_end_in_one_line(
    name: str, tiny_pipeline_folder: Path, ldm_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    try_examples(12, prepared(name, tiny_pipeline_folder, ldm_state), CASES[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_many_damaged_files_end_in_one_line(
    name: str, tiny_pipeline_folder: Path, ldm_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    try_examples(1500, prepared(name, tiny_pipeline_folder, ldm_state), CASES[name], tmp_path)
