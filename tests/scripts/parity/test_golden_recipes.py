"""What the goldens of metrics are drawn from: recipes are read as they were written, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import RandomState

from parity import data, evaluation


def test_a_recipe_of_two_feature_sets() -> None:
    first, second = evaluation._fid_features("feats(10,4,1) vs feats(12,4,2,scale=2.0,shift=0.5)")
    assert first.shape == (10, 4) and second.shape == (12, 4)
    assert first.min() >= 0 and second.min() >= 0.5
    np.testing.assert_array_equal(first, evaluation._fid_features("feats(10,4,1) vs itself")[1])
    plain = evaluation._fid_features("feats(12,4,2) vs itself")[0]
    np.testing.assert_allclose(second, 2 * plain + 0.5)


def test_features_of_a_low_rank_have_it() -> None:
    first, _ = evaluation._fid_features("feats_lin(50,8,3,rank=2) vs itself")
    assert first.shape == (50, 8) and np.linalg.matrix_rank(first) == 2


def test_a_ramp_is_the_same_row_again() -> None:
    first, second = evaluation._fid_features("np.tile(np.arange(4.)/4,(3,1)) vs itself")
    np.testing.assert_allclose(first, [[0, 0.25, 0.5, 0.75]] * 3)
    assert second is first


@pytest.mark.parametrize("recipe", ["feats(10,4,1)", "noise(3) vs noise(4)", ""])
def test_another_form_is_refused(recipe: str) -> None:
    with pytest.raises(ValueError, match="no two feature sets in the recipe"):
        evaluation._fid_features(recipe)


def test_distances_are_held_to_the_precision_their_covariances_allow() -> None:
    regular = {"pytorch_fid": 10.0, "min_eig1": 0.5, "min_eig2": 0.5, "trace1": 4.0}
    assert evaluation._frechet_check("x", 10.0 + 5e-9, regular).passed
    assert not evaluation._frechet_check("x", 10.0 + 5e-8, regular).passed
    singular = regular | {"min_eig1": 0.0}
    assert evaluation._frechet_check("x", 10.0 + 5e-6, singular).passed
    assert not evaluation._frechet_check("x", 10.0 + 5e-5, singular).passed
    equal = regular | {"pytorch_fid": -3e-8}
    assert evaluation._frechet_check("x", 3e-9, equal).passed, "an equal pair must be 0, whatever rounding gave there"
    assert not evaluation._frechet_check("x", 1e-7, equal).passed


def test_drawn_images_are_pictures_and_the_blocky_ones_are_means() -> None:
    sets = {"A128": {"seed": 3, "n": 2, "size": 32, "gain": 40.0, "mean": [120, 110, 100]}}
    recipe = {"image_sets": sets}
    images = evaluation._golden_images("A128", recipe)
    assert images.shape == (2, 3, 32, 32) and images.dtype == torch.uint8
    assert torch.equal(images, evaluation._golden_images("A128", recipe))
    blocks = evaluation._golden_images("D128", recipe)
    assert torch.equal(blocks[..., ::2, ::2], blocks[..., 1::2, 1::2])
    mean = torch.nn.functional.avg_pool2d(images.double(), 2)
    assert (blocks[..., ::2, ::2].double() - mean).abs().max() <= 0.5


def test_directions_are_unit_vectors_of_a_patch() -> None:
    directions = evaluation._reference_directions(RandomState(0))
    assert directions.shape == (147, 512)
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(512))
    drawn = RandomState(0).randn(147, 128)
    first = (drawn[:, 0] / np.linalg.norm(drawn[:, 0])).reshape(3, 7, 7)  # stored as (channel, column, row)
    np.testing.assert_allclose(directions[:, 0].view(3, 7, 7).numpy(), first.transpose(0, 2, 1), atol=1e-6)


def test_patches_are_cut_at_the_places_that_the_reference_draws() -> None:
    images = torch.randint(0, 255, (3, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    levels = evaluation._reference_patches(images, RandomState(1), batch=2)
    assert [level.shape for level in levels] == [(3 * 128, 3, 7, 7)] * len(levels)
    again = evaluation._reference_patches(images[:2], RandomState(1), batch=2)
    assert all(torch.equal(a[:256], b) for a, b in zip(levels, again, strict=True))


def test_caffes_vgg_reads_pictures_in_caffes_way() -> None:
    network = evaluation.caffe_vgg19(evaluation._recipe_vgg19().state_dict())
    assert network.weights == "caffe"
    image = torch.zeros(1, 3, 32, 32)
    plain = evaluation.VGG19Features("random")
    plain.load_state_dict(network.state_dict())
    assert not torch.allclose(network(image)["relu1_2"], plain(image)["relu1_2"])


def test_samples_are_looked_for_beside_the_goldens(tmp_path: Path) -> None:
    path = tmp_path / "goldens_data" / "deepfashion_eval.npz"
    path.parent.mkdir()
    with pytest.raises(
        ValueError, match=r"DeepFashion: the samples that deepfashion_eval.npz was made from are not there"
    ):
        data._samples(path, "DeepFashion")
    (tmp_path / "samples" / "DeepFashion").mkdir(parents=True)
    assert data._samples(path, "DeepFashion").name == "DeepFashion"
    assert data._load_size(path) == 256 and data._load_size(Path("lsun_ade_train.npz")) == 286


class Photos:
    """A data set of one item: a photo and one map."""

    load_size, size = 8, 8

    def __init__(self, item: np.ndarray) -> None:
        self.item = item

    def read(self, name: str) -> np.ndarray:
        return self.item


@pytest.mark.parametrize(("changed", "failing"), [(None, []), (1, ["a image"]), (3, ["a label pixels that differ"])])
def test_photos_and_labels_are_compared_through_the_stored_view(
    tmp_path: Path, changed: int | None, failing: list[str]
) -> None:
    item = np.random.default_rng(0).integers(0, 255, (4, 8, 8), dtype=np.uint8)
    seen = item[:, :, ::-1]
    golden = {"a::crop_x_y_flip": [0, 0, 1], "a::image_u8": seen[:3], "a::label_u8": seen[3:]}
    np.savez(tmp_path / "cases.npz", **golden)
    other = item.copy()
    if changed is not None:
        other[changed, 2, 2] ^= 1
    checks = data._checks(tmp_path / "cases.npz", Photos(other), lambda key: f"{key}.jpg")
    assert [check.name for check in checks if not check.passed] == failing and len(checks) == 2
