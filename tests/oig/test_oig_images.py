"""Pictures of every kind become upright RGB of a workable size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from midms.oig.images import prepare_images, working_size


def test_arrays_and_tensors_agree_with_pictures() -> None:
    array = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    tensor = torch.from_numpy(array).permute(2, 0, 1) / 255
    batches = [prepare_images(i, 16, 4) for i in (Image.fromarray(array), array, array / 255.0, tensor, tensor[None])]
    for batch in batches[1:]:
        torch.testing.assert_close(batch, batches[0])
    assert batches[0].min() >= -1 and batches[0].max() <= 1


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 512), (512, 512)), ((1001, 667), (640, 448)), ((9, 4000), (64, 10816))]
)
def test_fit_keeps_area_and_shape(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert working_size(size, 512, 64, "fit") == expected
    assert working_size(size, 512, 64, "stretch") == (512, 512)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("cat.png", "got str"),
        ([], "empty list"),
        (np.zeros((4, 4, 2)), "expected shape"),
        (np.full((4, 4, 3), 200.0), "floats must lie in 0..1"),
        (np.full((4, 4, 3), np.nan), "floats must lie in 0..1"),
        ([Image.new("RGB", (30, 60)), Image.new("RGB", (60, 30))], "one shape"),
        (torch.zeros(2, 2), r"expected a tensor \(C, H, W\)"),
    ],
)
def test_refusals(image: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        prepare_images(image, 16, 4)


@pytest.mark.parametrize(("resolution", "resize"), [(10, "fit"), (0, "fit"), (16, "crop")])
def test_impossible_sizes(resolution: int, resize: str) -> None:
    with pytest.raises(ValueError, match=r"(resolution|resize) must be"):
        prepare_images(Image.new("RGB", (8, 8)), resolution, 4, resize)
