"""Painted faces as condition maps."""

from __future__ import annotations

import numpy as np
import pytest

from midms.app.drawing import PALETTE, PALETTE_WORDS, has_no_parts, ink_on_paper, paintable, painted_face
from midms.app.scenes import COUNT, FIRST, enlarge, painting_of_scene, pair_number, picture_of_maps, scene, scene_task
from midms.conditions.edges import FACE_PARTS
from midms.config import ConfigError


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
    painting = painting_of_scene("faces", 64, 3)
    large = enlarge(painting, 384, smooth=False)
    np.testing.assert_array_equal(painted_face(painting, 64), painted_face(large, 64))


def test_lines_alone_are_a_line_drawing() -> None:
    painting = blank(384)
    painting[100:103] = 0  # half a cell of the grid
    maps = painted_face(painting, 64)
    assert (maps[0, 16:18] == 255).any() and (maps[1:14] == 255).all() and (maps[14] == 0).all()


def test_a_painted_scene_has_the_outlines_of_its_condition() -> None:
    for index in range(4):
        maps, expected = painted_face(painting_of_scene("faces", 64, index), 64), scene("faces", 64, index).condition
        both = ((maps[14] > 0) & (expected[14] > 0)).sum()
        assert both / (expected[14] > 0).sum() > 0.85, index


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


def test_scenes_suit_the_weights() -> None:
    assert scene_task("celeba", 15) == "faces" and scene_task("figures", 20) == "figures"
    assert scene_task(None, 151) is None
    assert paintable(15) and not paintable(20)


def test_every_pair_is_shown_once() -> None:
    for task, first in FIRST.items():
        numbers = [pair_number(task, index) for index in range(COUNT)]
        assert numbers[0] == first and sorted(numbers) == list(range(COUNT))


@pytest.mark.slow
@pytest.mark.parametrize("task", FIRST)
def test_the_pair_shown_first_comes_out_well(task: str) -> None:
    """Its distance from the true picture is among the smallest third."""
    from midms.data.procedural.dataset import test_pairs as pairs
    from midms.pipelines.midms import MIDMsPipeline

    pipe = MIDMsPipeline.from_pretrained("demo" if task == "faces" else f"demo-{task}")
    drawn = pairs(task, int(pipe.info["size"]), COUNT)
    errors = []
    for index in range(COUNT):
        pair = drawn[index]
        made = pipe(pair["condition"][None], pair["exemplar"][None], seed=0, output_type="pt").images
        errors.append(float((made[0] - pair["truth"]).square().mean()))
    assert sorted(errors).index(errors[FIRST[task]]) < COUNT / 3


def test_lines_without_parts_are_told_from_faces() -> None:
    painting = blank(64)
    painting[20:22] = 0
    assert has_no_parts(painted_face(painting, 64))
    assert not has_no_parts(painted_face(painting_of_scene("faces", 64, 0), 64))
    assert not has_no_parts(np.full((20, 8, 8), 255, np.uint8))
    assert set(PALETTE_WORDS) == set(PALETTE)


def test_scenes_are_the_benchmarks_pairs() -> None:
    from midms.data.procedural.dataset import test_pairs as pairs
    from midms.visualize import to_pixels

    item, built_in = pairs("faces", 64, 4)[2], scene("faces", 64, 3)  # behind the one that is shown first
    np.testing.assert_array_equal(built_in.exemplar, to_pixels(item["exemplar"]))
    np.testing.assert_allclose(built_in.condition / 255, item["condition"], atol=1e-6)
    assert picture_of_maps(built_in.condition).shape == (64, 64, 3)
