"""Painted faces as condition maps."""

from __future__ import annotations

import numpy as np
import pytest

from midms.app.drawing import (
    PALETTE,
    PALETTE_WORDS,
    drawing_on_square,
    paintable,
    painted_face,
    painting_of_sample,
)
from midms.app.framing import enlarge
from midms.conditions.edges import FACE_PARTS
from midms.config import ConfigError
from midms.data.samples import draw_sample


def blank(size: int = 64) -> np.ndarray:
    return np.full((size, size, 3), 255, np.uint8)


def test_parts_land_in_their_channels_and_sides() -> None:
    painting = blank()
    painting[10:50, 10:50] = PALETTE["skin"]
    painting[20:24, 16:22] = PALETTE["eye"]
    painting[20:24, 38:44] = PALETTE["eye"]
    maps = painted_face(painting, 64)
    assert maps.shape == (15, 64, 64) and maps.dtype == np.uint8
    present = {name for name, channel in zip(FACE_PARTS, maps[1:14], strict=True) if (channel == 0).any()}
    assert present == {"skin", "l_eye", "r_eye"}
    left, right = maps[1 + FACE_PARTS.index("l_eye")], maps[1 + FACE_PARTS.index("r_eye")]
    assert left[20, 16] == 0 and left[20, 38] > 0 and right[20, 38] == 0
    skin = maps[1 + FACE_PARTS.index("skin")]
    assert skin[22, 19] > 0, "the skin goes on below the eyes: no outline there"


def test_canvas_size_does_not_matter() -> None:
    painting = painting_of_sample(64, 4)
    large = enlarge(painting, 384, smooth=False)
    np.testing.assert_array_equal(painted_face(painting, 64), painted_face(large, 64))


def test_lines_alone_are_a_line_drawing() -> None:
    painting = blank(384)
    painting[100:103] = 0  # half a cell of the grid
    maps = painted_face(painting, 64)
    assert (maps[0, 16:18] == 255).any() and (maps[1:14] == 255).all() and (maps[14] == 0).all()


def test_a_painted_sample_has_the_outlines_of_its_condition() -> None:
    for number in range(1, 5):
        maps, expected = painted_face(painting_of_sample(64, number), 64), draw_sample("faces", 64, number).condition
        both = ((maps[14] > 0) & (expected[14] > 0)).sum()
        assert both / (expected[14] > 0).sum() > 0.85, number


def test_an_empty_canvas_is_told() -> None:
    with pytest.raises(ConfigError, match="empty"):
        painted_face(blank(), 64)
    with pytest.raises(ConfigError, match="at most 2048"):
        painted_face(np.zeros((4, 5000, 3), np.uint8), 64)


def line_on(paper: int, pencil: int, size: tuple[int, int] = (384, 384)) -> tuple[np.ndarray, np.ndarray]:
    """A drawing with the grain of a scan, and where its lines are."""
    lines = np.zeros(size, bool)
    lines[size[0] // 4 : size[0] // 4 + 6, 20:-20] = True
    pixels = np.where(lines, pencil, paper) + np.random.default_rng(0).integers(-5, 6, size)
    return pixels.clip(0, 255).astype(np.uint8)[..., None].repeat(3, axis=2), lines


@pytest.mark.parametrize(("paper", "pencil"), [(255, 150), (200, 140), (128, 0), (0, 90), (90, 255), (240, 60)])
def test_uploaded_drawings_become_black_lines_on_white_paper(paper: int, pencil: int) -> None:
    """The lines that the command line finds, of light pencils and on grey paper too."""
    drawing, lines = line_on(paper, pencil)
    canvas, note = drawing_on_square(drawing, 384)
    np.testing.assert_array_equal(canvas, np.where(lines, 0, 255)[..., None].repeat(3, axis=2))
    maps = painted_face(canvas, 64)
    assert (maps[0, 16] == 255).any() and (maps[1:14] == 255).all() and not note


def test_an_uploaded_drawing_of_any_shape_keeps_its_thin_lines_and_gets_a_white_frame() -> None:
    drawing, _ = line_on(128, 0, (900, 1800))
    drawing[300] = drawing[225]  # a line of one pixel
    canvas, note = drawing_on_square(drawing, 384)
    ink = canvas[..., 0] == 0
    assert canvas.shape == (384, 384, 3) and set(np.unique(canvas)) == {0, 255} and not note
    assert not ink[:96].any() and not ink[288:].any() and ink[96 + 64].mean() > 0.9


def test_blank_paper_photos_and_colours_on_the_canvas() -> None:
    coloured = np.full((8, 8, 3), PALETTE["skin"], np.uint8)
    np.testing.assert_array_equal(drawing_on_square(coloured, 8)[0], coloured)
    canvas, note = drawing_on_square(blank(), 64)
    assert (canvas == 255).all() and note.startswith("no line was found in the drawing")
    halves = np.repeat([[0, 255]], 64, 0).repeat(32, 1).astype(np.uint8)[..., None].repeat(3, 2)
    note = drawing_on_square(halves, 64)[1]
    assert note.startswith("50% of the drawing counts as ink") and "--" not in note


def test_weights_for_edges_take_painted_faces() -> None:
    assert paintable(15) and not paintable(20)
    assert set(PALETTE_WORDS) == set(PALETTE)
