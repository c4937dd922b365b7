"""Pictures: right size, right colours, written whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from midms.conditions.keypoints import pose_condition
from midms.diffusion.interleave import StepRecord
from midms.pipelines.midms import MIDMsPipeline
from midms.visualize import (
    LoopPictures,
    StepPictures,
    animation,
    condition_image,
    coordinate_colours,
    correspondence_field,
    correspondence_figure,
    correspondence_lines,
    curves,
    grid,
    iterations_figure,
    loop_pictures,
    overlay,
    predictions_figure,
    save_animation,
    save_png,
    to_pixels,
)


def test_pixels_are_rounded_and_clipped():
    pixels = to_pixels(torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0]).view(5, 1, 1, 1))
    assert pixels.shape == (5, 1, 1, 3)
    assert pixels[:, 0, 0, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_no_picture(value):
    images = torch.zeros(2, 3, 4, 4)
    images[1, 2, 3, 0] = value
    with pytest.raises(ValueError, match="the computed picture holds NaN or infinite values"):
        to_pixels(images)


def test_a_grid_has_a_row_a_sample_and_a_column_a_caption():
    sheet = grid([("red", torch.ones(2, 3, 8, 8)), ("dark", -torch.ones(2, 3, 8, 8))], cell=20, gap=2)
    assert sheet.shape == (18 + 2 * 22, 2 + 2 * 22, 3)
    assert sheet[30, 10].tolist() == [255] * 3 and sheet[30, 30].tolist() == [0] * 3
    assert (sheet[18 + 20 : 18 + 22] == 255).all() and sheet[18 + 22, 30].tolist() == [0] * 3  # no room for captions
    assert grid([("wide", torch.ones(1, 3, 8, 16))], cell=20, gap=2).shape == (18 + 22, 2 + 42, 3)  # none is squeezed


def test_png_carries_its_settings_and_leaves_no_part_behind(tmp_path):
    save_png(tmp_path / "a/b.png", np.zeros((4, 4, 3), np.uint8), {"midms": "{}"})
    assert Image.open(tmp_path / "a/b.png").text == {"midms": "{}", "Software": "midms"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.png"]


def test_conditions_of_every_kind_have_a_picture():
    edges = torch.zeros(1, 15, 4, 4)
    edges[0, 0, 1, 1] = 1
    assert condition_image(edges)[0, :, 1, 1].tolist() == [-1] * 3 and condition_image(edges)[0, 0, 0, 0] == 1
    labels = torch.nn.functional.one_hot(torch.tensor([[[0, 1, 3, 150]]]), 151).movedim(-1, 1).float()
    picture = to_pixels(condition_image(labels))  # unlabelled, wall, sky, flag: the colours that the field draws
    assert picture.reshape(4, 3).tolist() == [[0, 0, 0], [120, 120, 120], [6, 230, 230], [92, 0, 255]]
    assert condition_image(torch.ones(1, 200, 4, 4)).shape == (1, 3, 4, 4)


def test_the_right_shoulder_is_red_and_the_eyes_are_violet_as_openpose_draws_them():
    joints = np.full((18, 2), np.nan)
    joints[[1, 2, 14]] = (40, 20), (10, 20), (40, 50)  # neck, right shoulder, right eye
    picture = to_pixels(condition_image(torch.from_numpy(pose_condition(joints, 64, 64))[None] / 255))[0]
    limb, eye = picture[20, 25].tolist(), picture[50, 40].tolist()
    assert limb[0] > 100 and limb[1:] == [0, 0]
    assert eye == [170, 0, 255]


def test_rejected_regions_turn_red_and_coordinates_have_colours():
    washed = overlay(torch.zeros(1, 3, 4, 4), torch.tensor([[1.0, 0.0], [1.0, 1.0]])[None, None])
    assert washed[0, 0, 0, 3] > 0 > washed[0, 1, 0, 3] and (washed[0, :, 3, 3] == 0).all()
    assert coordinate_colours(torch.zeros(2, 2, 3, 3)).shape == (2, 3, 3, 3)


def test_curves(tmp_path):
    curves(tmp_path / "curves.png", {"loss": [(0, 1.0), (1, 0.5)], "psnr": [(0, 3.0)]}, "training")
    assert Image.open(tmp_path / "curves.png").width > 900


@pytest.fixture
def pictures() -> LoopPictures:
    """A made-up translation with four steps, whose first two warp the exemplar again."""
    colour = torch.linspace(-1, 1, 8)
    steps = [StepPictures(n, colour[n].expand(3, 24, 36)) for n in (4, 3, 2, 1)]
    mask = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])[None]
    steps[:2] = [step._replace(warp=colour[6].expand(3, 24, 36), mask=mask) for step in steps[:2]]
    ys, xs = torch.meshgrid(torch.linspace(-1, 1, 4), torch.linspace(-1, 1, 6), indexing="ij")
    image = torch.rand(3, 24, 36, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return LoopPictures(image, image[:, :, :20], image, steps, image, torch.stack([xs, ys]))


def test_figure_3_has_a_column_a_step_and_falls_back_to_one_row(pictures):
    whole = iterations_figure(pictures, shown=2, cell=48)
    assert whole.shape == (3 * (48 + 18 + 6), 72 * 4 + 6 * 5, 3)
    plain = iterations_figure(pictures._replace(steps=[s._replace(warp=None, mask=None) for s in pictures.steps]))
    assert plain.shape[1] > whole.shape[1] and len(np.unique(plain)) > 100
    assert iterations_figure(pictures._replace(steps=[]), cell=48).shape[1] == 72 * 2 + 6 * 3


def test_figure_11_has_every_prediction(pictures):
    figure = predictions_figure(pictures, columns=3, cell=48)
    assert figure.shape == (2 * (48 + 18 + 6), 3 * 72 + 4 * 6, 3)
    for step in pictures.steps:
        assert (figure == to_pixels(step.prediction)[0, 0]).all(axis=-1).sum() >= 48 * 70
    assert predictions_figure(pictures, shown=2, columns=9, cell=48).shape[1] == 4 * 72 + 5 * 6


def test_lines_join_positions_with_their_matches():
    blank, h, w = torch.ones(3, 40, 40), 5, 5
    left = torch.full((2, h, w), -1.0)  # everything was found in the exemplar's upper left corner
    figure = correspondence_lines(blank, blank, left, count=5, cell=100, gap=4)
    assert figure.shape == (100, 204, 3)
    ink = (figure < 200).any(axis=-1)
    assert ink[:, 104:].sum() > 0 and not ink[30:, 130:].any()  # all ends lie there
    assert all(ink[row, :100].any() for row in (10, 30, 50, 70, 90))
    right = correspondence_lines(blank, torch.ones(3, 40, 80), -left, count=5, cell=100, gap=4)
    assert right.shape == (100, 304, 3) and (right[80:, 270:] < 200).any()


def test_the_field_and_its_legend(pictures):
    field = correspondence_field(pictures.correspondence, (24, 36))
    assert field.shape == (3, 24, 36) and field[0, 0, -1] == 1 and field[1, -1, 0] == 1
    figure = correspondence_figure(pictures, cell=64)
    assert figure.shape[0] == 64 + 12 + 64 + 18 + 6 and figure.std() > 20
    with pytest.raises(ValueError, match="return_intermediates"):
        correspondence_figure(pictures._replace(correspondence=None))


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_an_animation_has_every_frame_and_stays_on_the_last(pictures, tmp_path, ending):
    frames = animation(pictures, cell=48)
    assert len(frames) == 1 + 4 + 2 * 2 + 1 and len({frame.shape for frame in frames}) == 1
    save_animation(tmp_path / f"a.{ending}", frames, milliseconds=100, last=900)
    read = Image.open(tmp_path / f"a.{ending}")
    durations = []
    for index in range(read.n_frames):
        read.seek(index)
        read.load()
        durations.append(read.info["duration"])
    assert sum(durations) == 100 * (len(frames) - 1) + 900 and durations[-1] >= 900
    assert read.info["loop"] == 0 and read.size == frames[0].shape[1::-1]
    close = np.abs(np.asarray(read.convert("RGB")).astype(int) - frames[-1]).mean()
    assert close < 12
    assert [path.name for path in tmp_path.iterdir()] == [f"a.{ending}"]


def test_animations_of_other_kinds_are_refused(pictures, tmp_path):
    for name, frames in (("a.mp4", animation(pictures)), ("a.gif", [])):
        with pytest.raises(ValueError, match=r"\.gif or \.webp"):
            save_animation(tmp_path / name, frames)


def test_pictures_are_collected_from_a_call(tiny_pipeline_folder):
    pipe = MIDMsPipeline.from_pretrained(tiny_pipeline_folder)
    rng = torch.Generator().manual_seed(0)
    maps, photos = torch.rand(2, 15, 32, 32, generator=rng), torch.rand(2, 3, 32, 32, generator=rng) * 2 - 1
    records: list[StepRecord] = []
    output = pipe(maps[1], photos[1], return_intermediates=True, output_type="pt", callback=records.append)
    inputs = condition_image(maps)[1], photos[1], output.warps, records, pipe.decode_all, output.images
    collected = loop_pictures(*inputs, output.correspondence)
    assert [step.n for step in collected.steps] == [4, 3, 2, 1]
    for step, prediction in zip(collected.steps, output.predictions, strict=True):
        torch.testing.assert_close(step.prediction, prediction[0], atol=1e-5, rtol=0)
    masks = [step.mask for step in collected.steps if step.mask is not None]
    assert len(masks) == len(output.masks) and torch.equal(masks[0], output.masks[0][0])
    assert torch.equal(collected.result, output.images[0])
    assert torch.equal(collected.correspondence, output.correspondence[0])


@pytest.mark.parametrize(
    ("figure", "draw"), [("steps", iterations_figure), ("predictions", predictions_figure), ("animation", animation)]
)
def test_a_figure_is_the_same_whatever_else_is_decoded(tiny_pipeline_folder, figure, draw):
    pipe = MIDMsPipeline.from_pretrained(tiny_pipeline_folder)
    maps, photo = torch.rand(1, 15, 32, 32, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 3, 32, 32)
    records: list[StepRecord] = []
    settings = pipe.settings.replace(num_inference_steps=60, num_interleaved_steps=15, refine_steps=0)
    output = pipe(maps, photo, settings=settings, return_intermediates=True, output_type="pt", callback=records.append)
    inputs = condition_image(maps)[0], photo[0], output.warps, records, pipe.decode_all, output.images
    alone, everything = loop_pictures(*inputs, figures=[figure]), loop_pictures(*inputs)
    one, other = np.asarray(draw(alone), np.int16), np.asarray(draw(everything), np.int16)
    assert one.shape == other.shape and np.abs(one - other).mean() < 0.1  # batches of other sizes round differently
    with pytest.raises(ValueError, match="lack what this figure shows"):
        draw(loop_pictures(*inputs, figures=["correspondence"]))
