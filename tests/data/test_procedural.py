"""The drawn benchmark: deterministic, with an answer that is really the answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn_scenes import draw, layout_and_style

from midms.data.procedural import faces, figures
from midms.data.procedural.dataset import (
    TASKS,
    ProceduralImages,
    ProceduralPairs,
    crop_and_flip,
    generator,
)
from midms.data.procedural.dataset import (
    test_pairs as fixed_test_pairs,
)
from midms.data.procedural.scene import correspondence

CHANNELS = {"faces": 15, "figures": 20, "churches": 151}
every_task = pytest.mark.parametrize("task", TASKS)


@every_task
def test_items_do_not_depend_on_length_or_order(task):
    short, long = ProceduralImages(task, length=3, size=32), ProceduralImages(task, length=50, size=32)
    long[40]
    assert torch.equal(short[2]["image"], long[2]["image"])


@every_task
def test_splits_and_seeds_share_no_scene(task):
    images = [
        ProceduralImages(task, split=split, seed=seed, size=32)[0]["image"]
        for split, seed in (("train", 0), ("val", 0), ("test", 0), ("train", 1))
    ]
    for i, first in enumerate(images):
        assert all(not torch.equal(first, second) for second in images[i + 1 :])


@every_task
def test_forms_and_ranges(task):
    item = fixed_test_pairs(task, size=48, length=1)[0]
    assert item["condition"].shape == (CHANNELS[task], 48, 48) == item["exemplar_condition"].shape
    assert item["truth"].shape == (3, 48, 48) and item["coordinates"].shape == (2, 48, 48)
    for key, low in (("condition", 0), ("truth", -1), ("exemplar", -1)):
        assert item[key].min() >= low and item[key].max() <= 1
    if task == "faces":
        assert set(item["condition"][[0, 14]].unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("task", "above", "most", "better"),
    [("faces", -1, 0.035, 5), ("figures", figures.Part.shadow, 0.06, 5), ("churches", -1, 0.06, 3)],
)
def test_truth_is_the_exemplar_pulled_along_the_true_correspondence(task, above, most, better):
    """Where a surface is seen in both pictures its colour is the same, up to shading decals and pixel size.

    Counted are pixels two or more inside a part, of a label > `above`; the exemplar as it is errs `better` times more.
    """
    dataset, errors, copies = fixed_test_pairs(task, 128, 12), [], []
    for index in range(12):
        item = dataset[index]
        pulled = F.grid_sample(item["exemplar"][None], item["coordinates"].movedim(0, -1)[None], align_corners=True)[0]
        labels = item["labels"][None].float()
        inner = item["visible"] & (F.max_pool2d(labels, 5, 1, 2)[0] == -F.max_pool2d(-labels, 5, 1, 2)[0])
        inner &= item["labels"] > above
        errors.append((pulled - item["truth"]).abs()[:, inner].mean())
        copies.append((item["exemplar"] - item["truth"]).abs()[:, inner].mean())
    assert np.nanmean(errors) < most and np.nanmean(copies) > better * np.nanmean(errors)


@every_task
def test_a_scene_corresponds_to_itself(task):
    scene = draw(task, 0)
    match = correspondence(scene, scene)
    axis = torch.linspace(-1, 1, 64).numpy()
    np.testing.assert_allclose(match.coordinates[0], np.broadcast_to(axis, (64, 64)), atol=1e-5)
    np.testing.assert_allclose(match.coordinates[1], np.broadcast_to(axis[:, None], (64, 64)), atol=1e-5)
    assert match.visible.all()


@every_task
@pytest.mark.parametrize("index", range(4))
def test_crop_and_flip_keeps_frames_true(index, task):
    scene = draw(task, 1, 128)
    view = crop_and_flip(scene, np.random.default_rng(index))
    match = correspondence(view, scene)
    places = torch.from_numpy(match.coordinates).movedim(0, -1)[None]
    photo = torch.from_numpy(scene.image).permute(2, 0, 1)[None].float()
    pulled = F.grid_sample(photo, places, align_corners=True)[0].permute(1, 2, 0)
    seen = torch.from_numpy(view.image).float()
    error, in_place = (pulled - seen).abs().mean(), (photo[0].permute(1, 2, 0) - seen).abs().mean()
    assert error < 4 and error < 0.4 * in_place  # what remains is the nearest-pixel zoom of sharp edges


@pytest.mark.parametrize(("task", "optional", "always"), [
    ("figures", "bag hat skirt hips torso_back torso_side r_forearm mane", "background"),
    ("churches", "c_tower l_tower wing mountain path clock l_oak bush", "sky nave"),
])  # fmt: skip
def test_some_exemplars_lack_parts(task, optional, always):
    part = TASKS[task].Part
    present = np.zeros((40, len(part)), bool)
    for index in range(40):
        present[index, np.unique(draw(task, index).labels)] = True
    share = present.mean(axis=0)
    assert all(0 < share[part[name]] < 1 for name in optional.split())
    assert all(share[part[name]] == 1 for name in always.split())


@every_task
def test_style_moves_nothing_and_layout_recolours_nothing(task):
    layout, style = layout_and_style(task, 4)
    other = layout_and_style(task, 5)[1]
    first, second = TASKS[task].render(layout, style, 64), TASKS[task].render(layout, other, 64)
    np.testing.assert_array_equal(first.labels, second.labels)
    if task != "faces":  # Canny edges of the picture belong to their condition
        np.testing.assert_array_equal(TASKS[task].condition(first), TASKS[task].condition(second))
    assert np.abs(first.image.astype(int) - second.image).mean() > 15


def test_absent_parts_say_so_and_layouts_vary():
    absent = [ProceduralPairs(size=32, split="val")[index]["condition"][12].min() == 1 for index in range(24)]
    assert 0 < sum(absent) < 24
    centres = np.array([faces.sample_layout(generator("train", index, 0)).center for index in range(200)])
    assert (np.ptp(centres, axis=0) > 0.3).all()


@every_task
def test_drawing_has_no_resolution(task):
    layout, style = layout_and_style(task, 3)
    small, large = TASKS[task].render(layout, style, 64).image, TASKS[task].render(layout, style, 256).image
    reduced = large.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - reduced).mean() < 4


@every_task
def test_layouts_vary_so_that_copying_in_place_scores_badly(task):
    dataset = fixed_test_pairs(task, size=32, length=16)
    copies = [F.mse_loss(item["exemplar"], item["truth"]).item() for item in (dataset[i] for i in range(16))]
    assert 10 * np.log10(4 / np.mean(copies)) < 19  # dB


def test_exemplar_kinds_and_bad_arguments():
    same = ProceduralPairs(size=32, exemplars={"easy": 1.0}, truth=True)[0]
    assert torch.equal(same["truth"], same["source"])
    with pytest.raises(ValueError, match="add up to 1"):
        ProceduralPairs(exemplars={"self": 0.5})
    with pytest.raises(ValueError, match="'gardens': expected one of faces"):
        ProceduralImages(task="gardens")
    with pytest.raises(ValueError, match="split 'dev'"):
        ProceduralImages(split="dev")[0]
