"""Samples of the package: their names, their order, and that they are the benchmark's pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from midms.config import ConfigError
from midms.data.procedural.dataset import test_pairs as pairs
from midms.data.samples import (
    COUNT,
    FIRST,
    SHOWN,
    contact_sheet,
    draw_sample,
    is_sample,
    picture_of_maps,
    sample_number,
    sample_task,
    true_translation,
)
from midms.visualize import to_pixels


def test_a_name_is_a_sample_and_a_file_is_none() -> None:
    assert is_sample("sample:3") and is_sample(Path("sample:3")) and sample_number(Path("sample:24")) == COUNT
    assert not any(map(is_sample, ("sample.png", "folder/sample:3", "", None, 3)))


@pytest.mark.parametrize("name", ["sample:", "sample:0", "sample:25", "sample:-1", "sample:x", "sample:3 ", "sample:³"])
def test_another_name_is_told_which_there_are(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no such sample; expected sample:1 to sample:24 \(`midms samples`"):
        sample_number(name)


def test_samples_suit_the_weights() -> None:
    assert sample_task("figures", 20) == "figures" and sample_task("celeba", 15) == "faces"
    assert sample_task(None, 151) == "churches" and sample_task(None, 7) is None and sample_task(["faces"], 7) is None


@pytest.mark.parametrize("task", FIRST)
def test_samples_are_the_benchmarks_pairs(task: str) -> None:
    """Sample 1 is the pair that comes out well, then come the others in their order, at any size."""
    test_list = pairs(task, 32, COUNT)  # type: ignore[arg-type]  # one of the tasks
    order = [FIRST[task], *(index for index in range(COUNT) if index != FIRST[task])]
    for number in (1, 2, COUNT):
        item, sample = test_list[order[number - 1]], draw_sample(task, 32, number)
        np.testing.assert_array_equal(sample.exemplar, to_pixels(item["exemplar"]))
        np.testing.assert_array_equal(true_translation(task, 32, number), to_pixels(item["truth"]))
        np.testing.assert_allclose(sample.condition / 255, item["condition"], atol=1e-6)
        np.testing.assert_allclose(sample.exemplar_condition / 255, item["exemplar_condition"], atol=1e-6)
        assert picture_of_maps(sample.condition).shape == (32, 32, 3)
        np.testing.assert_array_equal(sample.source.image, to_pixels(item["source"]))
    assert task in SHOWN and draw_sample(task, 48, 1).exemplar.shape == (48, 48, 3)
    with pytest.raises(ConfigError, match="sample:25"):
        draw_sample(task, 32, 25)


def test_an_image_as_condition_is_its_own_picture() -> None:
    image = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    np.testing.assert_array_equal(picture_of_maps(image), image.transpose(1, 2, 0))


def test_the_sheet_shows_all_of_them() -> None:
    sheet = contact_sheet("faces", 16, cell=24, columns=4)
    assert sheet.shape == (6 * (18 + 24 + 6), 8 * 24 + 9 * 6, 3) and sheet.std() > 40


@pytest.mark.slow
@pytest.mark.parametrize("task", FIRST)
def test_the_first_sample_comes_out_well(task: str) -> None:
    """Its distance from the true picture is among the smallest third."""
    from midms.pipelines.midms import MIDMsPipeline

    pipe = MIDMsPipeline.from_pretrained("demo" if task == "faces" else f"demo-{task}")
    errors = []
    for number in range(1, COUNT + 1):
        made = pipe(f"sample:{number}", f"sample:{number}").images[0]
        truth = true_translation(task, pipe.condition_spec().side, number)
        errors.append(float(np.square(np.asarray(made, np.float64) - truth).mean()))
    assert sorted(errors).index(errors[0]) < COUNT / 3
