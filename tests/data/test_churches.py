"""Drawn churches: labels in ADE20K's terms, stone that goes with its wall, parts that come and go."""

from __future__ import annotations

import dataclasses

import numpy as np
from true_correspondence import errors_of_the_pull

from midms.data.procedural import churches
from midms.data.procedural.churches import ADE20K, CLASSES, IDS, Part
from midms.data.procedural.dataset import generator


def layout_and_style(index: int):
    return churches.sample_layout(generator("val", index, 0)), churches.sample_style(generator("val", index, 1))


def draw(index: int, size: int = 64):
    layout, style = layout_and_style(index)
    return churches.render(layout, style, size)


def test_the_exemplar_pulled_along_the_true_correspondence_is_the_truth():
    error, copy = errors_of_the_pull("churches")
    assert error < 0.06 and copy > 3 * error


def test_every_part_has_one_class_of_ade20k():
    assert sorted(part for parts in CLASSES.values() for part in parts) == list(Part)
    assert set(IDS) == set(ADE20K.values()) and set(CLASSES) == set(ADE20K)


def test_condition_is_one_class_a_pixel():
    scene = draw(0, 48)
    maps = churches.condition(scene)
    assert maps.shape == (151, 48, 48) and maps.dtype == np.uint8
    assert set(np.unique(maps)) == {0, 255} and (maps.astype(int).sum(axis=0) == 255).all()
    np.testing.assert_array_equal(maps.argmax(axis=0), IDS[scene.labels])


def test_churches_stand_under_the_sky_on_the_ground():
    for index in range(8):
        classes = IDS[draw(index).labels]
        rows = {name: np.nonzero(classes == ADE20K[name])[0] for name in ("sky", "building", "grass")}
        assert rows["sky"].mean() < rows["building"].mean() < rows["grass"].mean()
        assert len(rows["building"]) > 60


def test_some_exemplars_lack_parts():
    present = np.zeros((40, len(Part)), bool)
    for index in range(40):
        present[index, np.unique(draw(index).labels)] = True
    share = present.mean(axis=0)
    optional = (Part.c_tower, Part.l_tower, Part.wing, Part.mountain, Part.path, Part.clock, Part.l_oak, Part.bush)
    assert all(0 < share[part] < 1 for part in optional)
    assert share[Part.sky] == share[Part.nave] == 1


def test_style_moves_nothing():
    layout, style = layout_and_style(4)
    first, second = churches.render(layout, style, 64), churches.render(layout, layout_and_style(5)[1], 64)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert np.abs(first.image.astype(int) - second.image).mean() > 15


def test_a_taller_tower_has_as_many_courses():
    """Surface coordinates are those of the part: the same stone lies at the same share of its height."""
    layout, style = layout_and_style(4)
    layout = dataclasses.replace(layout, foot=(0.0, 0.8), trees=((0.0, 0.0),) * 4, bush=2.0, lancets=False, rose=0.0)
    low, high = (churches.render(dataclasses.replace(layout, nave=(0.4, wall, 0.3)), style, 128) for wall in (0.4, 0.8))
    for scene in (low, high):
        centre = scene.frames[Part.nave][:, 2]
        column, row = ((centre + 1) * 64).astype(int)
        assert scene.labels[row, column] in (Part.nave, Part.door)
    assert high.frames[Part.nave][1, 1] > 1.9 * low.frames[Part.nave][1, 1]
