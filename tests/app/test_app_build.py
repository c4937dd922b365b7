"""The page for every kind of weights, and how it is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("gradio", reason="needs the extra app")
import gradio as gr

from midms.app import actions
from midms.app.canvases import painted_layers
from midms.app.condition_ui import chosen_condition
from midms.app.exemplar_ui import chosen_exemplars
from midms.app.page import MISTAKE, AppContext, consume_upload, show_user_errors
from midms.app.result_ui import calls_of
from midms.app.server import build
from midms.app.ui import task_of
from midms.config import ConfigError
from midms.models.encoders import CorrespondenceEncoders
from midms.pipelines.midms import MIDMsPipeline

FORMS: dict[str, dict[str, Any]] = {
    "edges": {},
    "keypoints": {"condition_channels": 20},
    "segmentation": {"condition_channels": 151, "condition_input": "nearest"},
    "image": {"condition_channels": 3, "condition_input": "latent"},
    "released": {"form": "released", "condition_input": "nearest"},
}


def context(folder: Path, form: str, results: Path) -> AppContext:
    pipe = MIDMsPipeline.from_pretrained(folder)
    torch.manual_seed(0)
    config = pipe.model.encoders.config | FORMS[form]
    pipe.model.encoders = CorrespondenceEncoders(**config).eval()
    pipe.info.pop("task")
    return AppContext(pipe, "mine", results)


@pytest.mark.parametrize(("form", "tabs"), [
    ("edges", {"Samples", "Drawing", "Your photo"}), ("keypoints", {"Samples", "Your photo"}),
    ("segmentation", {"Samples", "Your photo"}), ("image", {"Your photo"}),
    ("released", {"Samples", "Drawing", "Your photo"}),
])  # fmt: skip
def test_the_page_suits_the_weights(
    form: str, tabs: set[str], tiny_pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written_again(*values: object, **options: object) -> None:
        raise AssertionError("pixels were handed to Gradio, which rewrites files that others are reading")

    monkeypatch.setattr("gradio.processing_utils.save_pil_to_cache", written_again)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    made = context(tiny_pipeline_folder, form, tmp_path)
    page = build(made)
    shown = {block.label for block in page.blocks.values() if isinstance(block, gr.Tab)}
    assert tabs == shown - {"Translate", "Edit by text", "Exemplar 1", "Exemplar 2", "Exemplar 3", "Picture", "Compare"}
    assert not page.analytics_enabled
    condition = np.zeros((made.spec.channels, 32, 32), np.uint8)
    if made.task:
        condition, chosen = made.sample(0).condition, made.sample_exemplar(1)
    else:
        chosen = actions.ChosenExemplar(np.zeros((32, 32, 3), np.uint8))
    *_, last = actions.translate(made.pipe, actions.Task(condition, [chosen], 8, 3, 0.3, 0))
    assert last.result is not None and last.result.pixels.shape == (32, 32, 3)


def test_the_baseline_has_no_sliders_of_a_diffusion(tiny_gan_folder: Path, tmp_path: Path) -> None:
    page = build(AppContext(MIDMsPipeline.from_pretrained(tiny_gan_folder), "mine", tmp_path))
    labels = {block.label for block in page.blocks.values() if isinstance(block, gr.Slider)}
    assert "Pictures generated, N" in labels and not labels & {"Amount of change", "Steps", "Tolerance of copying"}


def test_every_tab_says_what_is_missing(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    made = context(tiny_pipeline_folder, "edges", tmp_path)
    assert chosen_condition(made, "sample", 3, None, None)[0].shape == (15, 32, 32)
    for kind, message in (("painting", "canvas is empty"), ("file", "upload a file")):
        with pytest.raises(ConfigError, match=message):
            chosen_condition(made, kind, 0, None, None)
    with pytest.raises(ConfigError, match="no such sample"):
        chosen_condition(made, "sample", 10_000, None, None)


def test_paint_belongs_to_its_exemplar() -> None:
    first, second = (actions.ChosenExemplar(np.zeros((32, 32, 3), np.uint8)) for _ in range(2))
    layer = np.zeros((64, 64, 4), np.uint8)
    layer[:32, :, 3] = 255
    assert painted_layers(None) is None and painted_layers({"layers": []}) is None
    chosen = chosen_exemplars([first, None, second], [None, {"layers": [layer]}, {"layers": [layer]}])
    assert [exemplar.allowed is None for exemplar in chosen] == [True, False]
    assert chosen[1].allowed is not None and chosen[1].allowed[:16].all() and not chosen[1].allowed[16:].any()


def test_uploads_are_removed_whatever_comes_of_them(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    for reader in (Path.read_bytes, Path.iterdir):
        file.write_bytes(b"x")
        try:
            consume_upload(str(file), reader)
            list(reader(file))
        except OSError:
            pass
        assert not file.exists()


def test_mistakes_are_said_and_all_else_stays(capsys: pytest.CaptureFixture[str]) -> None:
    line = object()

    @show_user_errors(line)
    def one(value: int) -> int:
        if value == 1:
            raise ConfigError("so\nand so")
        return 1 // (value - 2)

    @show_user_errors(line)
    def many(value: int) -> Any:
        yield 1
        raise ValueError("later")

    assert one(3) == 1
    assert one(1) == {line: f"{MISTAKE}so and so"}
    assert list(many(0)) == [1, {line: f"{MISTAKE}later"}]
    told = one(2)[line]
    assert "ZeroDivisionError" in told and "by zero" not in told
    assert "integer division" in capsys.readouterr().err, "the details are for the log"


def test_numbers_of_the_page() -> None:
    assert [calls_of(amount, 32) for amount in (0, 0.25, 0.98, 1.5)] == [0, 8, 31, 31]
    task = task_of(np.zeros((15, 8, 8), np.uint8), [], (0.25, 32, 0.3, 5))
    assert (task.steps, task.calls, task.threshold, task.seed) == (32, 8, 0.3, 5)
    with pytest.raises(ConfigError, match="a number is missing"):
        task_of(np.zeros((15, 8, 8), np.uint8), [], (0.25, 32, 0.3, None))


def test_the_text_tab_says_what_it_needs(
    tiny_pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(local: bool, weights: str | None = None) -> str:
        made = context(tiny_pipeline_folder, "edges", tmp_path)
        made.local = local
        blocks = build(made, weights).blocks.values()
        return " ".join(
            str(block.value) for block in blocks if isinstance(block, gr.Markdown) if block.elem_id == "text-needs"
        )

    assert "needs the weights of a Stable Diffusion" in said(local=True)
    assert "--text-weights" in said(local=False), "visitors from elsewhere name no folders of this machine"
    assert "--text-weights" not in said(local=False, weights="mine")
    monkeypatch.setattr("midms.app.text_ui.importlib.util.find_spec", lambda name: None)
    assert "pip install '.[text]'" in said(local=True)


def test_old_results_are_removed(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    import os
    import time

    made = context(tiny_pipeline_folder, "edges", tmp_path)
    for name in ("result-old", "result-new", "other"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "result-old", (time.time() - 4000,) * 2)
    made.prune()
    assert {path.name for path in tmp_path.iterdir()} == {"result-new", "other"}
