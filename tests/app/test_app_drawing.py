"""Painted faces as condition maps."""

from __future__ import annotations

import numpy as np
import pytest

from midms.app.drawing import PALETTE, PALETTE_WORDS, ink_on_paper, paintable, painted_face, painting_of_sample
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


def test_uploaded_drawings_become_ink_on_paper() -> None:
    dark = np.zeros((8, 8, 3), np.uint8)
    dark[4] = 220
    light = np.full((8, 8, 3), 240, np.uint8)
    light[4] = 60
    np.testing.assert_array_equal(ink_on_paper(dark), ink_on_paper(light))
    coloured = np.full((8, 8, 3), PALETTE["skin"], np.uint8)
    np.testing.assert_array_equal(ink_on_paper(coloured), coloured)


def test_weights_for_edges_take_painted_faces() -> None:
    assert paintable(15) and not paintable(20)
    assert set(PALETTE_WORDS) == set(PALETTE)
