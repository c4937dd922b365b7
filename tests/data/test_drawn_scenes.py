"""What holds for every drawn scene of every task: its parts, its correspondence with others, and its items."""

from __future__ import annotations

import dataclasses
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawn_scenes import draw, layout_and_style

from midms.data.exemplars import EXEMPLARS
from midms.data.procedural.cache import ProceduralCache
from midms.data.procedural.dataset import (
    SPLITS,
    TASKS,
    ProceduralImages,
    ProceduralPairs,
    crop_and_flip,
    generator,
    to_condition,
    to_image,
)
from midms.data.procedural.scene import Scene, correspondence

SIZE = 64
every_task = pytest.mark.parametrize("task", TASKS)


def centres(size: int) -> np.ndarray:
    """Image coordinates of the pixel centres along one axis, (size,)."""
    return (np.arange(size) + 0.5) * (2 / size) - 1


def mirrored(scene: Scene) -> Scene:
    """The scene in a mirror, made by hand."""
    frames = scene.frames.copy()
    frames[:, 0] *= -1
    masks = {name: mask[:, ::-1] for name, mask in scene.masks.items()}
    return Scene(scene.image[:, ::-1], scene.labels[:, ::-1], frames, masks)


@every_task
@pytest.mark.parametrize("index", range(3))
def test_parts_cover_the_picture_and_have_frames_that_can_be_inverted(task, index):
    scene = draw(task, index)
    parts = len(TASKS[task].Part)
    assert scene.labels.shape == scene.image.shape[:2] == (SIZE, SIZE)
    assert scene.labels.min() >= 0 and scene.labels.max() < parts <= len(scene.frames)
    assert scene.frames.shape[1:] == (2, 3) and np.isfinite(scene.frames).all()
    assert (np.abs(np.linalg.det(scene.frames[:, :, :2])) > 1e-7).all()
    assert all(mask.shape == (SIZE, SIZE) and mask.dtype == bool for mask in scene.masks.values())


@every_task
def test_one_layout_in_one_style_is_one_picture(task):
    first, second = draw(task, 1, 32), draw(task, 1, 32)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.frames, second.frames)


@every_task
@pytest.mark.parametrize("size", [8, 33, 100])
def test_any_size_is_drawn_and_moves_no_part(task, size):
    """Frames are in image coordinates, so that they do not depend on the number of pixels."""
    layout, style = layout_and_style(task, 2)
    scene, other = TASKS[task].render(layout, style, size), TASKS[task].render(layout, style, SIZE)
    assert scene.image.shape == (size, size, 3) and scene.image.dtype == np.uint8
    parts = len(TASKS[task].Part)
    np.testing.assert_array_equal(scene.frames[:parts], other.frames[:parts])
    condition = TASKS[task].condition(scene)
    assert condition.shape[1:] == (size, size) and condition.dtype == np.uint8


@every_task
def test_the_sampled_layout_and_style_are_plain_finite_values(task):
    for index in range(20):
        for drawn in layout_and_style(task, index):
            assert dataclasses.is_dataclass(drawn)
            numbers = [np.asarray(value, float) for value in dataclasses.astuple(drawn) if np.isscalar(value)]
            assert all(np.isfinite(number).all() for number in numbers)
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(drawn, dataclasses.fields(drawn)[0].name, None)


@every_task
def test_layouts_and_styles_are_drawn_from_numbers_of_their_own(task):
    """Roles of one item share no random numbers: another style leaves the layout as it is, and the other way round."""
    rows = [generator(split, index, role).random(4) for split in SPLITS for index in range(3) for role in range(6)]
    assert len({tuple(row) for row in rows}) == len(rows)
    again = [generator(split, index, role).random(4) for split in SPLITS for index in range(3) for role in range(6)]
    np.testing.assert_array_equal(rows, again)
    assert layout_and_style(task, 7)[0] == layout_and_style(task, 7)[0] != layout_and_style(task, 8)[0]


@every_task
def test_a_mirror_is_the_correspondence_that_turns_the_columns_round(task):
    scene = draw(task, 0)
    match = correspondence(mirrored(scene), scene)
    axis = np.linspace(-1, 1, SIZE)
    np.testing.assert_allclose(match.coordinates[0], np.broadcast_to(-axis, (SIZE, SIZE)), atol=1e-5)
    np.testing.assert_allclose(match.coordinates[1], np.broadcast_to(axis[:, None], (SIZE, SIZE)), atol=1e-5)
    assert match.visible.mean() > 0.99  # a pixel centre may round to the pixel beside it


@every_task
@pytest.mark.parametrize("pair", [(0, 1), (2, 3)])
def test_visible_points_show_the_same_part_in_both_scenes(task, pair):
    target, source = (draw(task, index) for index in pair)
    match = correspondence(target, source)
    assert 0.02 < match.visible.mean() < 1
    points = match.coordinates * (SIZE - 1) / SIZE  # align-corners units to image coordinates
    columns, rows = np.floor((points + 1) * (SIZE / 2)).astype(int)
    seen = match.visible
    assert (np.abs(points[:, seen]) <= 1 + 1e-5).all()
    columns, rows = columns.clip(0, SIZE - 1), rows.clip(0, SIZE - 1)
    np.testing.assert_array_equal(source.labels[rows[seen], columns[seen]], target.labels[seen])


@every_task
def test_the_way_to_another_scene_and_back_ends_at_the_same_point(task):
    """The surface point of a pixel, followed by each part's own frames, is one point in both directions."""
    target, source = draw(task, 4), draw(task, 5)
    match = correspondence(target, source)
    x, y = np.meshgrid(centres(SIZE), centres(SIZE))
    for part in np.unique(target.labels[match.visible]):
        here = match.visible & (target.labels == part)
        there = match.coordinates[:, here] * (SIZE - 1) / SIZE
        to_surface = np.linalg.inv(source.frames[part][:, :2])
        surface = to_surface @ (there - source.frames[part][:, 2:])
        back = target.frames[part][:, :2] @ surface + target.frames[part][:, 2:]
        np.testing.assert_allclose(back, np.stack([x[here], y[here]]), atol=2e-3)


@every_task
def test_correspondence_knows_geometry_alone(task):
    """Colours play no part: two styles of the same two layouts correspond in the same way."""
    layouts = [layout_and_style(task, index)[0] for index in (0, 1)]
    matches = []
    for style in (layout_and_style(task, 2)[1], layout_and_style(task, 3)[1]):
        target, source = (TASKS[task].render(layout, style, 32) for layout in layouts)
        matches.append(correspondence(target, source))
    np.testing.assert_array_equal(matches[0].visible, matches[1].visible)
    np.testing.assert_array_equal(matches[0].coordinates, matches[1].coordinates)


@every_task
def test_a_crop_holds_pixels_of_the_scene_alone(task):
    scene = draw(task, 6)
    view = crop_and_flip(scene, np.random.default_rng(3))
    assert view.image.shape == scene.image.shape and view.labels.shape == scene.labels.shape
    colours = {tuple(colour) for colour in scene.image.reshape(-1, 3)}
    assert {tuple(colour) for colour in view.image.reshape(-1, 3)} <= colours
    assert set(np.unique(view.labels)) <= set(np.unique(scene.labels))
    assert set(view.masks) == set(scene.masks)
    assert all(view.masks[name].sum() > 0 or not mask.sum() > SIZE for name, mask in scene.masks.items())


def test_crops_are_mirrored_half_the_time_and_enlarged_by_the_loaders_proportion():
    scene = draw("faces", 0, 143)  # 143 = 286 / 2, so that the window is 128 pixels
    views = [crop_and_flip(scene, np.random.default_rng(seed)) for seed in range(60)]
    widths = np.array([view.frames[0, 0, 0] / scene.frames[0, 0, 0] for view in views])
    np.testing.assert_allclose(np.abs(widths), 143 / 128, rtol=1e-5)
    assert 0.3 < (widths < 0).mean() < 0.7
    heights = np.array([view.frames[0, 1, 1] / scene.frames[0, 1, 1] for view in views])
    np.testing.assert_allclose(heights, 143 / 128, rtol=1e-5)


def test_pixels_and_maps_become_numbers_in_their_ranges():
    pixels = np.array([[[0, 255, 51]]], np.uint8)
    assert to_image(pixels).shape == (3, 1, 1)
    np.testing.assert_allclose(to_image(pixels).flatten(), [-1.0, 1.0, -0.6], atol=1e-6)
    np.testing.assert_allclose(to_condition(pixels).flatten(), [0.0, 1.0, 0.2], atol=1e-6)
    back = ((to_image(np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, 2)) + 1) * 127.5).round()
    assert back[0, 0].tolist() == list(range(256)), "no level is lost on the way to numbers"


@every_task
def test_a_self_exemplar_has_the_colours_of_its_source_and_an_easy_one_its_style(task):
    own = ProceduralPairs(task, 32, exemplars={"self": 1.0})[0]
    colours = {tuple(colour) for colour in own["source"].flatten(1).T.tolist()}
    assert {tuple(colour) for colour in own["exemplar"].flatten(1).T.tolist()} <= colours
    easy, hard = (ProceduralPairs(task, 32, exemplars={kind: 1.0}, truth=True)[0] for kind in ("easy", "hard"))
    assert torch.equal(easy["exemplar_condition"], hard["exemplar_condition"]) or task == "faces"
    assert torch.equal(easy["exemplar_labels"], hard["exemplar_labels"]), "a hard one differs in its style alone"
    assert not torch.equal(easy["exemplar"], hard["exemplar"])
    assert torch.equal(easy["truth"], easy["source"]) and not torch.equal(hard["truth"], hard["source"])


@every_task
def test_the_truth_adds_keys_and_changes_none(task):
    plain, known = (ProceduralPairs(task, 32, "val", truth=truth)[2] for truth in (False, True))
    assert plain.keys() < known.keys() and plain["name"] == known["name"] == f"{task}/val/00002"
    assert all(torch.equal(plain[key], known[key]) for key in plain if key != "name")
    assert known["labels"].dtype == torch.int64 and known["labels"].max() < len(TASKS[task].Part)


@pytest.mark.parametrize(
    ("task", "inside", "outside"),
    [
        ("faces", {"skin", "hair", "cloth"}, {"background"}),
        ("figures", {"torso", "face"}, {"background", "floor", "shadow"}),
        ("churches", {"nave", "door", "l_oak"}, {"sky", "mountain", "grass", "path"}),
    ],
)
def test_the_subject_ends_at_walls_floor_sky_and_ground(task, inside, outside):
    items = [ProceduralPairs(task, 64, "val", truth=True)[index] for index in range(8)]
    labels, subject = (torch.stack([item[key] for item in items]) for key in ("labels", "subject"))
    names = [{part.name for part in TASKS[task].Part if part in labels[subject == is_subject]} for is_subject in (1, 0)]
    assert names[0] >= inside and names[1] == outside and not names[0] & names[1]


def test_exemplars_come_in_the_published_shares():
    """With plain pictures in place of drawn ones: red says the layout, green the style."""

    def render(layout: int, style: int, size: int) -> Scene:
        image = np.full((size, size, 3), (layout, style, 0), np.uint8)
        return Scene(image, np.zeros((size, size), np.int64), np.zeros((1, 2, 3)), {})

    dataset = ProceduralPairs("faces", 8)
    dataset.module = SimpleNamespace(
        sample_layout=lambda rng: rng.integers(256), sample_style=lambda rng: rng.integers(256), render=render
    )
    kinds = dict.fromkeys(EXEMPLARS, 0)
    for index in range(1000):
        source, exemplar, layout, style = dataset.scenes(index)
        assert source.image[0, 0].tolist() == [layout, source.image[0, 0, 1], 0]
        same_layout, same_style = (source.image[0, 0] == exemplar.image[0, 0]).tolist()[:2]
        kinds["hard" if not same_style else "self" if same_layout else "easy"] += 1
        assert same_style is False or style == exemplar.image[0, 0, 1]
    assert {kind: count / 1000 for kind, count in kinds.items()} == pytest.approx(EXEMPLARS, abs=0.04)


@pytest.mark.parametrize("kind", [ProceduralImages, ProceduralPairs])
def test_a_loop_over_a_data_set_ends_with_its_last_item(kind):
    dataset = kind("faces", 16, length=3)
    items = list(islice(dataset, 10))
    assert len(items) == 3 == len(dataset)
    key = "image" if kind is ProceduralImages else "condition"
    assert torch.equal(dataset[-1][key], items[2][key])
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"item {index} of 3"):
            dataset[index]


def test_a_loop_over_a_cache_ends_too_and_counts_from_the_end(tmp_path):
    cached = ProceduralCache(ProceduralPairs("faces", 16, length=3), tmp_path, max_gb=2.5 * 36 * 256 / 1e9)
    assert cached.stored == 2, "the last item is drawn each time"
    for index in (-1, -3, 2, 0):
        item, plain = cached[index], cached.dataset[index]
        assert item["name"] == plain["name"] == f"faces/train/{index % 3:05d}"
        assert torch.equal(item["source"], plain["source"])
    assert len(list(islice(cached, 10))) == 3


def test_shares_in_another_order_are_other_items_and_have_a_cache_file_of_their_own(tmp_path):
    """A random number picks the exemplar's kind by the running sum of the shares as they are written."""
    one, other = ({"easy": 0.5, "hard": 0.5}, {"hard": 0.5, "easy": 0.5})
    caches = [
        ProceduralCache(ProceduralPairs("faces", 16, length=4, exemplars=kinds), tmp_path) for kinds in (one, other)
    ]
    assert caches[0].path != caches[1].path
    for cached in caches:
        for index in range(4):
            first, again = cached[index]["exemplar"], cached[index]["exemplar"]
            assert torch.equal(first, cached.dataset[index]["exemplar"]) and torch.equal(again, first)


@pytest.mark.parametrize(
    "shares", [{}, {"self": 0.5}, {"other": 1.0}, {"self": 1.5, "hard": -0.5}, {"easy": 0.6, "hard": 0.6}]
)
def test_shares_that_are_none_are_refused_at_once(shares):
    with pytest.raises(ValueError, match=r"expected shares of hard, easy, self that add up to 1"):
        ProceduralPairs(exemplars=shares)
