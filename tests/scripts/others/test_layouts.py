"""Pairs in the layouts of other methods: read again by the loaders of those data sets, and by hand."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
from own_photos import PAIRS, SIDE, write_photos
from PIL import Image

from midms.conditions.poses import read_text_poses
from midms.data.celeba import CelebAEdges
from midms.data.deepfashion import DeepFashionKeypoints
from others.layouts import LAYOUTS, write_layout
from others.pairs import PairSource, read_manifest


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("own"))


def _source(photos, condition, **options):
    return PairSource(*photos, condition, size=SIDE, **options)


def _pixels(file):
    return np.asarray(Image.open(file).convert("RGB")).astype(float)


def test_celebas_layout_is_read_by_the_loader_of_celeba(photos, tmp_path):
    source = _source(photos, "edges")
    command = write_layout("cocosnet", source, tmp_path, "")
    root = tmp_path / "dataroot" / "CelebAMask-HQ"
    dataset = CelebAEdges(root, split="val", size=SIDE, pairs=tmp_path / "data" / "celebahq_ref_test.txt")
    assert len(dataset) == len(PAIRS)
    own = list(source.pictures())
    for item, (pair, pictures) in zip((dataset[k] for k in range(len(dataset))), own, strict=True):
        got = ((item["exemplar"] + 1) * 127.5).permute(1, 2, 0).numpy()
        assert np.abs(got - pictures.exemplar).mean() < 12, pair  # one photo is stored again as JPEG
        assert (item["condition"][4].min() == 0) and (item["condition"][1].min() == 0)  # an eye and skin
    assert shlex.split(command)[:2] == ["cp", str((tmp_path / "data").absolute()) + "/*.txt"]
    assert "--dataset_mode celebahqedge" in command and str(root.absolute()) in command


def test_deepfashions_layout_is_read_by_the_loader_of_deepfashion(photos, tmp_path):
    source = _source(photos, "keypoints")
    write_layout("cocosnet", source, tmp_path, "")
    root, pairs = tmp_path / "dataroot" / "DeepFashion", tmp_path / "data" / "deepfashion_ref_test.txt"
    assert pairs.read_text().splitlines()[0] == r"img\pairs\00000.jpg,img\pairs\00002.jpg"
    (pose,) = read_text_poses(*(root / "pose" / "pairs" / f"00001_{kind}.txt" for kind in ("candidate", "subset")))
    assert pose[1, :2].tolist() == [30, 21]
    dataset = DeepFashionKeypoints(root, split="val", size=SIDE, pairs=pairs)
    assert [dataset[k]["exemplar_name"] for k in range(3)] == [f"img/pairs/0000{k}" for k in (2, 0, 3)]


def test_ade20ks_layout_has_each_condition_and_exemplar_with_its_labels(photos, tmp_path):
    write_layout("cocosnet", _source(photos, "segmentation"), tmp_path, "")
    root = tmp_path / "dataroot" / "ade20k"
    assert (tmp_path / "data" / "ade20k_ref_test.txt").read_text().splitlines()[2] == "00002.jpg,00002.jpg"
    assert np.asarray(Image.open(root / "validation" / "00002.png")).max() == 3  # c.jpg
    assert np.asarray(Image.open(root / "training" / "00002.png")).max() == 4  # d.jpg
    np.testing.assert_array_equal(_pixels(root / "training" / "00002.jpg"), _pixels(photos[0] / "d.jpg"))


@pytest.mark.parametrize("layout", ["diffusers", "ctrl-x"])
@pytest.mark.parametrize("condition", ["edges", "keypoints", "segmentation"])
def test_numbered_pictures_and_their_texts(photos, tmp_path, layout, condition):
    source = _source(photos, condition, count=2)
    write_layout(layout, source, tmp_path, "a photo of a face")
    assert sorted(file.name for file in (tmp_path / "conditions").iterdir()) == ["00000.png", "00001.png"]
    np.testing.assert_allclose(_pixels(tmp_path / "exemplars" / "00001.png"), _pixels(photos[0] / "a.png"), atol=1)
    if layout == "diffusers":
        assert json.loads((tmp_path / "prompts.json").read_text())["00001"] == "a photo of a face"
        return
    lines = [shlex.split(line) for line in (tmp_path / "run.sh").read_text().splitlines()[1:]]
    assert len(lines) == 2 and lines[1][:2] == ["python", "run_ctrlx.py"]
    options = dict(zip(lines[1][2::2], lines[1][3::2], strict=True))
    assert options["--structure_image"].endswith("conditions/00001.png")
    assert options["--appearance_image"].endswith("exemplars/00001.png")
    assert options["--prompt"] == "a photo of a face" and options["--structure_prompt"].endswith("of a photo of a face")


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_layout_has_a_record_and_the_pictures_for_the_evaluation(photos, tmp_path, layout):
    write_layout(layout, _source(photos, "edges"), tmp_path, "a photo")
    manifest = read_manifest(tmp_path)
    assert {pair.condition: pair.exemplar for pair in manifest.pairs} == PAIRS and manifest.layout == layout
    np.testing.assert_allclose(
        _pixels(tmp_path / "evaluation" / "exemplars" / "sub" / "b.png"), _pixels(photos[0] / "a.png"), atol=1
    )
    np.testing.assert_allclose(_pixels(tmp_path / "evaluation/photos/a.png"), _pixels(photos[0] / "a.png"), atol=1)


def test_photos_without_face_parts_are_named(photos, tmp_path):
    own_photos, pairs = write_photos(tmp_path / "own")
    (tmp_path / "own" / "photos_parts" / "c.png").unlink()
    with pytest.raises(ValueError, match=r"no face parts of 1 photos, the first is c.jpg; .*`prepare_data.py edges"):
        write_layout("cocosnet", PairSource(own_photos, pairs, "edges", SIDE), tmp_path / "out", "")
    pairs.write_text("a.png,c.jpg\nnowhere.jpg,c.jpg\n")
    with pytest.raises(ValueError, match=r"1 conditions are no photos of .*, the first is nowhere.jpg"):
        PairSource(own_photos, pairs, "edges", SIDE)
    pairs.write_text("a.png,nowhere.jpg\n")
    with pytest.raises(ValueError, match=r"exemplar nowhere.jpg of a.png is no photo"):
        PairSource(own_photos, pairs, "edges", SIDE)
