"""Translations as the page runs them, and the way back: from a pixel to the exemplar, from a picture to its command."""

from __future__ import annotations

import json
import shlex
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from midms import cli
from midms.app import actions, framing, marks, record, uploads
from midms.app.actions import ChosenExemplar, Result, Task
from midms.config import ConfigError
from midms.io.provenance import read_settings
from midms.matching.correspondence import argmax_correspondence
from midms.pipelines.midms import MIDMsPipeline

SIZE = 32
RNG = np.random.default_rng(0)
CONDITION = RNG.integers(0, 256, (15, SIZE, SIZE), np.uint8)
PHOTOS = [RNG.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for _ in range(2)]
FRAMES = [actions.Frame("first warp", PHOTOS[0]), actions.Frame("1 · prediction", PHOTOS[1])]
LEFT = np.zeros((SIZE, SIZE), bool)
LEFT[:, : SIZE // 2] = True


@pytest.fixture(scope="module")
def pipe(tiny_pipeline_folder: Path) -> MIDMsPipeline:
    return MIDMsPipeline.from_pretrained(tiny_pipeline_folder)


def task(*exemplars: ChosenExemplar, **changes: Any) -> Task:
    whole = Task(CONDITION, exemplars or (ChosenExemplar(PHOTOS[0]),), 8, 4, 4.0, 7)
    return whole._replace(**changes)


def run(pipe: MIDMsPipeline, chosen_task: Task) -> Result:
    *_, last = actions.translate(pipe, chosen_task)
    assert last.result is not None
    return last.result


@pytest.fixture(scope="module")
def pair(pipe: MIDMsPipeline) -> Result:
    """Of two exemplars, the right half of the first forbidden."""
    return run(pipe, task(ChosenExemplar(PHOTOS[0], LEFT), ChosenExemplar(PHOTOS[1])))


def test_steps_come_one_by_one_and_the_result_is_the_pipelines(pipe: MIDMsPipeline) -> None:
    chosen_task = task()
    seen = list(actions.translate(pipe, chosen_task))
    assert [progress.done for progress in seen] == [0, 1, 2, 3, 4, 4]
    assert [frame.caption for frame in seen[0].frames] == ["first warp"]
    assert [frame.caption for frame in seen[1].frames[1:]] == ["4 · prediction", "4 · warp", "4 · mask"]
    assert all(frame.pixels.shape == (SIZE, SIZE, 3) for frame in seen[-1].frames)
    settings = pipe.settings.replace(num_inference_steps=8, num_interleaved_steps=4, threshold=4.0)
    alone = pipe(CONDITION, PHOTOS[0], settings=settings, seed=7).images[0]
    assert seen[-1].result is not None
    np.testing.assert_array_equal(seen[-1].result.pixels, np.asarray(alone))


def test_reasons_against_a_good_picture_are_shown_and_recorded(pipe: MIDMsPipeline, tmp_path: Path) -> None:
    """From the first step on; the note of the upload comes first, and a sample as exemplar has none of its own."""
    lines = CONDITION.copy()
    lines[1:14] = 255
    small = ChosenExemplar(PHOTOS[0], size=(9, 12))
    *between, last = actions.translate(pipe, task(small, ChosenExemplar(PHOTOS[1]), condition=lines))
    assert last.result is not None and all(progress.notes == last.notes for progress in between)
    parts, pixels, *_ = last.notes
    assert "no parts of a face" in parts and pixels.startswith("exemplar 1 has 9 x 12 pixels")
    assert not any("exemplar 2" in note for note in last.notes)
    saved = record.save_result(tmp_path, last.result, "mine", FRAMES)
    assert read_settings(saved.picture)["notes"] == list(last.notes)
    *_, told = actions.translate(pipe, task(condition=lines, read_note="as it was read"))
    assert told.notes == ["as it was read"] and not run(pipe, task()).notes


def test_every_number_matters(pipe: MIDMsPipeline) -> None:
    base = run(pipe, task()).pixels
    for change in ({"seed": 8}, {"calls": 2}, {"steps": 16}, {"threshold": 0.0}):
        assert (run(pipe, task(**change)).pixels != base).any(), change


def test_no_step_gives_the_warp(pipe: MIDMsPipeline) -> None:
    seen = list(actions.translate(pipe, task(calls=0)))
    assert [frame.caption for frame in seen[-1].frames] == ["first warp", "result"]
    assert seen[-1].result is not None and set(seen[-1].result.matches) == {"first"}


@pytest.mark.parametrize("size", [(50, 36), (32, 64)])
def test_maps_of_any_size(pipe: MIDMsPipeline, size: tuple[int, int]) -> None:
    result = run(pipe, task(condition=np.zeros((15, *size), np.uint8)))
    assert result.pixels.shape == (*size, 3)
    assert actions.trace(result, size[1] - 1, size[0] - 1).exemplar == 0


def test_many_steps_are_thinned_for_showing() -> None:
    shown = actions.shown_steps(50)
    assert len(shown) == actions.SHOWN and {1, 50} <= shown
    assert actions.shown_steps(3) == {1, 2, 3} and actions.shown_steps(0) == set()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"calls": 8}, "num_interleaved_steps"),
        ({"calls": -1}, "N = -1"),
        ({"steps": 5000, "calls": 1}, "at most 1000"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**40}, "seed"),
        ({"threshold": -1.0}, "threshold"),
        ({"exemplars": ()}, "no exemplar"),
        ({"condition": np.zeros((20, SIZE, SIZE), np.uint8)}, "20 maps"),
        ({"condition": np.zeros((15, 4096, 8), np.uint8)}, "at most 1024"),
        ({"exemplars": (ChosenExemplar(PHOTOS[0], np.zeros((SIZE, SIZE), bool)),)}, "paint more"),
    ],
)
def test_mistakes_are_told(pipe: MIDMsPipeline, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(actions.translate(pipe, task(**change)))


def test_leaving_stops_the_work(pipe: MIDMsPipeline) -> None:
    calls = []
    hook = pipe.model.denoiser.register_forward_hook(lambda *_: calls.append(1))
    progress = actions.translate(pipe, task(steps=100, calls=90))
    next(progress)
    next(progress)
    progress.close()
    hook.remove()
    assert 1 <= len(calls) <= 30


def test_a_single_exemplars_trace_is_its_argmax(pipe: MIDMsPipeline) -> None:
    result = run(pipe, task())
    match = result.matches["first"]
    best = argmax_correspondence(match.query, match.keys[0])[0]  # (2, h, w)
    tokens = best.shape[-1]
    for row, column in ((0, 0), (3, 5), (tokens - 1, 2)):
        trace = actions.trace(result, (column + 0.5) * SIZE / tokens, (row + 0.5) * SIZE / tokens, "first")
        expected = ((best[:, row, column] + 1) / 2 * (tokens - 1) + 0.5) * SIZE / tokens
        assert (trace.x, trace.y) == pytest.approx(tuple(expected.tolist()), abs=1e-3)
        assert trace.exemplar == 0 and -1 <= trace.cosine <= 1


def test_traces_stay_in_the_allowed_part(pair: Result) -> None:
    for which in ("first", "last"):
        for x, y in RNG.integers(0, SIZE, (20, 2)):
            trace = actions.trace(pair, int(x), int(y), which)
            assert sum(float(weights.sum()) for weights in trace.weights) == pytest.approx(1, abs=1e-4)
            middle = trace.weights[0].shape[1] // 2
            assert trace.weights[0][:, middle:].sum() < 1e-6
            assert trace.exemplar == 1 or trace.x < SIZE / 2
            assert 0 <= trace.trusted <= trace.rewarps == len(pair.trusted)


@pytest.mark.parametrize("place", [(-1, 0), (0, SIZE), (SIZE, 0)])
def test_pixels_outside_are_refused(pair: Result, place: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="expected a position in the picture"):
        actions.trace(pair, *place)


def test_paint_says_what_is_allowed() -> None:
    paint = np.zeros((100, 100, 4), np.uint8)
    assert actions.allowed_part(None, (SIZE, SIZE)) is None
    assert actions.allowed_part(paint, (SIZE, SIZE)) is None
    paint[:, :50, 3] = 140  # half transparent, as the brush is
    allowed = actions.allowed_part(paint, (SIZE, SIZE))
    np.testing.assert_array_equal(allowed, LEFT)


def test_paint_on_an_exemplar_that_is_not_square() -> None:
    """It lies in the middle of the canvas, the rows above and below are no part of it."""
    paint = np.zeros((100, 100, 4), np.uint8)
    paint[:25, :, 3] = paint[75:, :, 3] = 255
    assert actions.allowed_part(paint, (20, 40)) is None
    paint[:, 75:, 3] = 255
    allowed = actions.allowed_part(paint, (20, 40))
    assert allowed is not None and allowed.shape == (20, 40)
    assert allowed[:, 30:].all() and not allowed[:, :30].any()
    shown = framing.on_square(np.zeros((20, 40, 3), np.uint8), 100)
    assert shown.shape == (100, 100, 3) and not shown[25:75].any() and (shown[:25] == 255).all()


def test_an_uploaded_photo_of_any_shape_is_used_as_the_command_uses_it(
    pipe: MIDMsPipeline, tiny_pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(RNG.integers(0, 256, (61, 110, 3), dtype=np.uint8)).save("photo.png")
    np.save("maps.npy", CONDITION)
    pixels, size = uploads.read_exemplar(Path("photo.png"), SIZE)
    assert size == (110, 61) and pixels.shape == (24, 43, 3)  # all of it: SIZE x SIZE pixels in its own aspect ratio
    words = (
        "translate --condition maps.npy --exemplar photo.png --steps 8 --calls 4 --seed 7 --threshold 4 --out out.png"
    )
    assert cli.main([*words.split(), "--weights", str(tiny_pipeline_folder)]) == 0
    result = run(pipe, task(ChosenExemplar(pixels)))
    np.testing.assert_array_equal(np.asarray(Image.open("out.png")), result.pixels)


def test_the_command_makes_the_same_picture(
    pair: Result, tiny_pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    saved = record.save_result(tmp_path / "results", pair, str(tiny_pipeline_folder), FRAMES)
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(saved.bundle) as archive:
        archive.extractall(unpacked)
    monkeypatch.chdir(unpacked)
    words = shlex.split(Path("command.txt").read_text())
    assert words[0] == "midms" and shlex.join(words) == saved.command
    assert cli.main(words[1:]) == 0
    again = np.asarray(Image.open("again.png"))
    np.testing.assert_array_equal(again, pair.pixels)
    np.testing.assert_array_equal(np.asarray(Image.open("result.png")), pair.pixels)
    capsys.readouterr()
    assert cli.main(["show", "result.png"]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == saved.command and printed.err == ""


def test_the_picture_holds_its_settings(pair: Result, tmp_path: Path) -> None:
    saved = record.save_result(tmp_path, pair, "demo", FRAMES)
    settings = read_settings(saved.picture)
    expected = {"program": "midms app", "seed": 7, "weights": "demo", "command": saved.command}
    assert expected.items() <= settings.items()
    loop = {"num_inference_steps": 8, "num_interleaved_steps": 4, "threshold": 4.0}
    assert loop.items() <= settings["settings"].items()
    assert set(settings["inputs"]) == {"condition.npy", "exemplar_1.png", "exemplar_2.png", "mask_1.png", "mask_2.png"}
    assert json.dumps(settings)
    assert all(tmp_path in file.parents for file in (saved.picture, saved.animation, saved.bundle))
    with Image.open(saved.animation) as animation:
        assert animation.format == "GIF" and animation.n_frames == 2


def test_where_a_pixel_came_from_in_words() -> None:
    trace = actions.Trace(0, 10.4, 20.6, 0.934, [], 3, 3)
    copied = "This pixel was copied from the exemplar in 3 of 3 steps."
    assert marks.describe_trace(trace, 1, 2, 1) == f"{copied} Best match of (1, 2): (10, 21), similarity 0.93."
    some = marks.describe_trace(trace._replace(exemplar=1, trusted=1), 1, 2, 3)
    assert some.startswith("This pixel was copied from exemplar 2 in 1 of 3 steps; in the others the network drew it.")
    one = [marks.describe_trace(trace._replace(trusted=trusted, rewarps=1), 1, 2, 1) for trusted in (1, 0)]
    assert one[0].startswith("This pixel was copied from the exemplar in the one step that matched again. Best")
    assert one[1].startswith(
        "This pixel was not copied from the exemplar in the one step that matched again, but drawn by"
    )
    once = marks.describe_trace(trace._replace(trusted=0, rewarps=0), 1, 2, 1)
    assert once.startswith("This pixel was matched with the exemplar before the first step, and not again.")


def test_threads_do_not_leave_gradients_on(pipe: MIDMsPipeline) -> None:
    assert torch.is_grad_enabled()
    run(pipe, task(calls=1))
    assert torch.is_grad_enabled()
