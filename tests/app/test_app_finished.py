"""Pictures that a page shows again after it was loaded again, and canvases on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="needs the extra app")
from midms.app.actions import ChosenExemplar, Result, Task, allowed_part
from midms.app.canvases import CANVAS, flattened, picture_file, to_canvas
from midms.app.exemplar_ui import paint_of
from midms.app.finished import KEPT, ChosenCondition, Finished, FinishedPictures
from midms.app.record import SavedResult
from midms.diffusion.settings import InterleaveSettings
from midms.pipelines.making import Computed

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))


def finished(folder: Path, name: str) -> Finished:
    files = [folder / f"{name}.{ending}" for ending in ("png", "gif", "zip")]
    files[0].write_bytes(b"x")
    task = Task(np.zeros((15, 8, 8), np.uint8), [ChosenExemplar(PIXELS)], 8, 2, 0.3, 0)
    result = Result(task, InterleaveSettings(), PIXELS, {}, [], 0.01, Computed("cpu", 1, "float32", False, {}))
    return Finished(result, [], SavedResult(*files, "midms"), ChosenCondition("sample", 0, None, None))


def test_the_last_pictures_are_kept_under_names_of_their_own(tmp_path: Path) -> None:
    kept = FinishedPictures()
    names = [kept.add(finished(tmp_path, str(number))) for number in range(KEPT + 2)]
    assert len(set(names)) == KEPT + 2 and all(len(name) >= 20 for name in names)
    assert [kept.get(name) is not None for name in names] == [False] * 2 + [True] * KEPT
    assert kept.get(None) is None and kept.get(["list"]) is None and kept.get("other") is None


def test_a_picture_whose_files_are_gone_is_gone(tmp_path: Path) -> None:
    kept = FinishedPictures()
    name = kept.add(finished(tmp_path, "old"))
    (tmp_path / "old.png").unlink()
    assert kept.get(name) is None


def test_a_file_that_is_being_read_is_not_written_again(tmp_path: Path) -> None:
    first = Path(picture_file(PIXELS))
    before = first.stat().st_ino
    assert picture_file(PIXELS.copy()) == str(first) and first.stat().st_ino == before
    assert [file.name for file in first.parent.iterdir()] == ["image.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(first)), PIXELS)
    assert picture_file(PIXELS[::-1].copy()) != str(first)


def test_a_canvas_is_what_it_shows_without_a_stroke() -> None:
    background, layer = np.full((8, 8, 4), 200, np.uint8), np.zeros((8, 8, 4), np.uint8)
    background[..., 3] = 255
    layer[:4] = (10, 20, 30, 255)
    assert flattened(None) is None and flattened({"background": None, "layers": [], "composite": None}) is None
    shown = flattened({"background": background, "layers": [layer], "composite": None})
    assert shown is not None and (shown[:4] == (10, 20, 30)).all() and (shown[4:] == 200).all()
    uploaded = flattened({"background": background[..., :3].copy(), "layers": [], "composite": None})
    assert uploaded is not None and (uploaded == 200).all()
    see_through = flattened({"background": np.zeros((8, 8, 4), np.uint8), "layers": [], "composite": None})
    assert see_through is not None and (see_through == 255).all(), "paper, not black"


def test_paint_comes_back_as_it_was() -> None:
    allowed = np.zeros(PIXELS.shape[:2], bool)
    allowed[:, :10] = True
    paint = paint_of(ChosenExemplar(PIXELS, allowed))
    assert paint is not None and paint.shape == (CANVAS, CANVAS, 4)
    np.testing.assert_array_equal(allowed_part(paint, PIXELS.shape[:2]), allowed)
    assert paint_of(ChosenExemplar(PIXELS)) is None
    canvas = to_canvas(PIXELS, paint=paint)
    assert np.asarray(Image.open(canvas["background"])).shape == (CANVAS, CANVAS, 3) and len(canvas["layers"]) == 1
