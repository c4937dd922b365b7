"""Drawn churches: labels in ADE20K's terms, stone that goes with its wall, parts that come and go."""

from __future__ import annotations

import dataclasses
from functools import partial

import drawn_scenes
import numpy as np

from midms.data.procedural import churches
from midms.data.procedural.churches import ADE20K, CLASSES, IDS, Part

layout_and_style = partial(drawn_scenes.layout_and_style, "churches")
draw = partial(drawn_scenes.draw, "churches")


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
