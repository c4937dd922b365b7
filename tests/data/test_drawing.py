"""What drawn scenes are made of: frames that compose and invert, exact coverage, windows onto one canvas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midms.data.procedural import drawing
from midms.data.procedural.drawing import Canvas, Drawing, affine, compose, invert

places = st.floats(-0.8, 0.8)
sizes = st.floats(0.1, 2.0)
angles = st.floats(-3.0, 3.0)
frames = st.builds(lambda x, y, w, h, a: affine((x, y), (w, h), a), places, places, sizes, sizes, angles)


def apply(frame: drawing.Array, point: np.ndarray) -> np.ndarray:
    return frame[:, :2] @ point + frame[:, 2]


@given(frames, frames, places, places)
def test_composed_frames_are_applied_one_after_the_other(outer, inner, x, y):
    point = np.array([x, y])
    expected = apply(outer, apply(inner, point))
    np.testing.assert_allclose(apply(compose(outer, inner), point), expected, atol=1e-5)


@given(frames, places, places)
def test_the_way_through_a_frame_and_back_ends_where_it_began(frame, x, y):
    point = np.array([x, y])
    np.testing.assert_allclose(apply(invert(frame), apply(frame, point)), point, atol=1e-3)


def test_a_frame_scales_then_turns_then_moves():
    quarter = affine((0.5, -0.25), (2.0, 1.0), np.pi / 2)
    np.testing.assert_allclose(apply(quarter, np.array([1.0, 0.0])), [0.5, 1.75], atol=1e-6)
    np.testing.assert_allclose(apply(quarter, np.array([0.0, 1.0])), [-0.5, -0.25], atol=1e-6)
    inside = affine((1.0, 0.0), 0.5, parent=quarter)
    np.testing.assert_allclose(apply(inside, np.zeros(2)), [0.5, 1.75], atol=1e-6)


def test_many_frames_are_inverted_at_once():
    table = np.stack([affine((0.1 * k, 0.2), 0.5 + 0.1 * k, 0.3 * k) for k in range(5)])
    np.testing.assert_allclose(compose(table, invert(table))[..., :2], np.broadcast_to(np.eye(2), (5, 2, 2)), atol=1e-6)
    np.testing.assert_allclose(invert(table)[3], invert(table[3]), atol=1e-6)


def test_shapes_are_negative_inside_and_zero_on_their_outline():
    assert drawing.ellipse(np.array(0.0), np.array(0.0)) == -1
    np.testing.assert_allclose(drawing.ellipse(np.array([1.0, 0.0]), np.array([0.0, 2.0])), [0.0, 1.0])
    edges = drawing.box(np.array([1.0, 0.0, 2.0, 0.0]), np.array([0.0, -1.0, 0.0, 0.0]))
    np.testing.assert_allclose(edges, [0.0, 0.0, 1.0, -1.0], atol=1e-9)
    corner = drawing.box(np.array(1.0), np.array(1.0), corner=0.2)
    np.testing.assert_allclose(corner, 0.2 * (np.sqrt(2) - 1), atol=1e-9)
    lower, upper = (drawing.egg(np.array(0.7), np.array(y), 0.4) for y in (0.7, -0.7))
    assert lower > upper, "the chin is narrower than the forehead"


@given(st.floats(-2, 2), st.floats(0.1, 1))
def test_a_step_rises_from_nought_to_one_between_its_ends(low, width):
    values = np.linspace(low - 1, low + width + 1, 200)
    steps = drawing.smooth_step(values, low, low + width)
    assert (np.diff(steps) >= 0).all() and steps[0] == 0 and steps[-1] == 1
    assert drawing.smooth_step(np.array(low + width / 2), low, low + width) == pytest.approx(0.5)


@pytest.mark.parametrize("kind", range(5))
def test_textures_vary_over_a_surface_and_stay_colours(kind):
    u, v = np.meshgrid(np.linspace(-1, 1, 80), np.linspace(-1, 1, 80))
    texture = drawing.pattern(kind, u, v, 4.0)
    assert texture.shape == (80, 80) and texture.min() >= 0 and texture.max() <= 1 and texture.std() > 0.1


def test_textures_repeat_with_their_frequency():
    u, v = np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 40))
    for kind in (1, 2, 3):
        np.testing.assert_allclose(
            drawing.pattern(kind, u + 2 / 4, v, 4.0), drawing.pattern(kind, u, v, 4.0), atol=1e-9
        )


def test_blending_runs_from_one_colour_to_the_other():
    colours = drawing.blend((0, 0, 0), (1, 0.5, 0.25), np.array([[0.0, 0.5, 1.0]]))
    np.testing.assert_allclose(colours[0], [[0, 0, 0], [0.5, 0.25, 0.125], [1, 0.5, 0.25]])


def paint_disc(size: int, radius: float = 0.5) -> Canvas:
    canvas, frame = Canvas(size), affine((0.1, -0.2), radius)
    canvas.paint(canvas.coverage(drawing.ellipse(*canvas.local(frame)), frame), (1, 1, 1), part=3, mask="disc")
    return canvas


@pytest.mark.parametrize("size", [16, 64, 200])
def test_a_disc_covers_its_area_at_every_resolution(size):
    canvas = paint_disc(size)
    share = canvas.image[..., 0].mean()
    assert share == pytest.approx(np.pi * 0.25 / 4, rel=0.02)
    assert (canvas.labels == 3).mean() == pytest.approx(share, abs=2 / size)
    assert np.array_equal(canvas.masks["disc"], canvas.labels == 3)


def test_a_window_paints_on_the_whole_canvas():
    whole, parts = paint_disc(48), Canvas(48)
    frame = affine((0.1, -0.2), 0.5)
    window = parts.near(frame, 1.2)
    assert window.image.size < parts.image.size
    window.paint(window.coverage(drawing.ellipse(*window.local(frame)), frame), (1, 1, 1), part=3, mask="disc")
    np.testing.assert_array_equal(parts.image, whole.image)
    np.testing.assert_array_equal(parts.masks["disc"], whole.masks["disc"])


def test_a_window_outside_the_picture_is_empty_but_usable():
    window = Canvas(32).near(affine((3.0, 3.0), 0.2), 1.0)
    assert 0 < window.labels.size <= 32


def test_later_parts_lie_in_front_and_colours_are_clipped():
    canvas = Canvas(8)
    canvas.paint(np.ones((8, 8)), (2.0, -1.0, 0.5), part=1, mask="back")
    np.testing.assert_allclose(canvas.image[0, 0], [1, 0, 0.5])
    front = np.zeros((8, 8))
    front[:, 4:] = 1
    canvas.paint(front, (0, 0, 0), part=2)
    canvas.hide(["back", "absent"], front)
    assert (canvas.labels[:, :4] == 1).all() and (canvas.labels[:, 4:] == 2).all()
    assert canvas.masks["back"][:, :4].all() and not canvas.masks["back"][:, 4:].any()
    canvas.paint(np.full((8, 8), 0.4), (1, 1, 1), part=5)
    assert 5 not in canvas.labels, "less than half of a pixel is no label"


def test_a_drawing_knows_where_its_parts_are():
    table = np.stack([affine((0.0, 0.0), 0.25), affine((0.5, -0.5), (0.2, 0.1), 0.4)])
    picture = Drawing(table, 64)
    for part in range(2):
        window, u, v = picture.around(part)
        expected = window.local(table[part])
        np.testing.assert_allclose(u, expected[0], atol=1e-4)
        np.testing.assert_allclose(v, expected[1], atol=1e-4)
        assert u.min() <= -1 and u.max() >= 1 and v.min() <= -1 and v.max() >= 1, "the whole part is in the window"
