"""CelebA-HQ as a data set: items, views, exemplars, the cache, broken files."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from files_on_disk import celeba, write_lines
from torch.utils.data import DataLoader

from midms.data import CelebAEdges
from midms.data.transforms import View, apply_view, image_tensor, unit_tensor
from midms.io.files import BrokenFileError
from parity.data import celeba_checks

SELF = {"self": 1.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return celeba(tmp_path_factory.mktemp("celeba"))


@pytest.mark.parametrize("name", ["celeba_edge_eyes_only_eval", "celeba_edge_eyes_only_train"])
def test_equal_to_the_released_tensors(shared, name):
    checks = celeba_checks(shared / "goldens_data" / f"{name}.npz")
    assert checks and all(check.passed for check in checks)


def test_evaluation_items_are_documented_dicts(root):
    dataset = CelebAEdges(root, "val", size=32)
    item = dataset[0]
    assert len(dataset) == 3
    assert item["condition"].shape == item["exemplar_condition"].shape == (15, 32, 32)
    assert item["source"].shape == item["exemplar"].shape == (3, 32, 32)
    assert item["condition"].dtype == item["source"].dtype == torch.float32
    assert 0 <= item["condition"].min() and item["condition"].max() == 1
    assert -1 <= item["source"].min() < item["source"].max() <= 1
    assert (item["name"], item["exemplar_name"]) == ("2006", "7")
    assert (item["condition"][5] == 1).all()  # r_eye: no file, so the part is absent
    again = dataset[0]
    assert all(torch.equal(item[key], again[key]) for key in ("condition", "source", "exemplar"))


def test_condition_and_source_share_a_view_and_the_exemplar_has_its_own(root):
    dataset = CelebAEdges(root, "train", size=32, load_size=40, exemplars=SELF)
    raw, views = dataset.read(dataset.names[1]), {}
    for key, maps_key in (("source", "condition"), ("exemplar", "exemplar_condition")):
        item = dataset[1, 5]
        fitting = [
            view
            for view in (View(x, y, flip, 32) for x in range(9) for y in range(9) for flip in (False, True))
            if torch.equal(image_tensor(apply_view(raw[:3], view)), item[key])
        ]
        assert len(fitting) == 1
        views[key] = fitting[0]
        assert torch.equal(unit_tensor(apply_view(raw[3:], fitting[0])), item[maps_key])
    assert views["source"] != views["exemplar"]


def test_the_released_loader_misaligns_a_self_exemplar(root):
    item = CelebAEdges(root, "train", size=32, exemplars=SELF, released=True)[1, 5]
    ours = CelebAEdges(root, "train", size=32, exemplars=SELF)[1, 5]
    assert torch.equal(item["exemplar"], item["source"])
    assert not torch.equal(item["exemplar_condition"], item["condition"])
    assert torch.equal(item["exemplar_condition"], ours["exemplar_condition"])


def test_exemplars_are_the_first_the_last_and_the_photo_itself(root, tmp_path):
    dataset = CelebAEdges(root, "train", size=8, cache_folder=tmp_path)
    easy, hard = dataset.pairs["1.jpg"]
    drawn = {dataset[1, draw]["exemplar_name"] for draw in range(30)}
    assert drawn == {easy.removesuffix(".jpg"), hard.removesuffix(".jpg"), "1"}


def test_a_draw_number_fixes_an_item_and_plain_indices_draw_anew(root):
    dataset = CelebAEdges(root, "train", size=16)
    assert torch.equal(dataset[2, 9]["source"], dataset[2, 9]["source"])
    torch.manual_seed(0)
    first = [dataset[2]["source"] for _ in range(4)]
    torch.manual_seed(0)
    assert all(torch.equal(a, dataset[2]["source"]) for a in first)
    assert any(not torch.equal(first[0], other) for other in first[1:])


def test_prepared_items_are_bit_equal_and_need_no_raw_file(tmp_path):
    root = celeba(tmp_path / "data")
    raw = CelebAEdges(root, "train", size=32)
    items = [raw[k, k] for k in range(len(raw))]
    for k in range(len(raw)):
        assert CelebAEdges(root, "train", size=32, cache_folder=tmp_path / "cache")[k, k]["name"] == items[k]["name"]
    for file in (*root.rglob("*.jpg"), *root.rglob("*.png")):
        file.unlink()
    prepared = CelebAEdges(root, "train", size=32, cache_folder=tmp_path / "cache")
    for k in range(len(raw)):
        prepared_item = prepared[k, k]
        assert all(torch.equal(items[k][key], prepared_item[key]) for key in items[k] if "name" not in key)
    assert not list((tmp_path / "cache").rglob(".unfinished*"))


def test_an_unfinished_prepared_item_is_made_anew(root, tmp_path):
    dataset = CelebAEdges(root, "val", size=16, cache_folder=tmp_path)
    want = dataset[0]["condition"]
    for file in tmp_path.rglob("*.npy"):
        file.write_bytes(file.read_bytes()[:200])
    assert torch.equal(dataset[0]["condition"], want)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_files_are_named_or_skipped_and_counted(tmp_path, workers):
    root = celeba(tmp_path, train=8)
    (root / "CelebA-HQ-img" / "1.jpg").write_bytes(b"")
    mask = root / "CelebAMask-HQ-mask-anno" / "0" / "00004_skin.png"
    mask.write_bytes(mask.read_bytes()[:-30])
    with pytest.raises(BrokenFileError, match=r"1\.jpg: 0 bytes"):
        CelebAEdges(root, "train", size=8, exemplars=SELF)[1]
    dataset = CelebAEdges(root, "train", size=8, exemplars=SELF, skip_broken=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batches = list(DataLoader(dataset, 4, num_workers=workers))
    assert sum(len(batch["name"]) for batch in batches) == 8
    assert sorted(dataset.broken) == ["1.jpg", "4.jpg"]


def test_a_face_without_any_mask_and_a_mask_of_zero_and_one_are_broken(tmp_path):
    root = celeba(tmp_path, parts=("skin",))
    dataset = CelebAEdges(root, "train", size=8)
    mask = root / "CelebAMask-HQ-mask-anno" / "0" / "00001_skin.png"
    from PIL import Image

    Image.fromarray(np.asarray(Image.open(mask)) // 255).save(mask)
    with pytest.raises(BrokenFileError, match="expected 0 and 255"):
        dataset.read("1.jpg")
    mask.unlink()
    with pytest.raises(BrokenFileError, match="nor any other part"):
        dataset.read("1.jpg")


def test_lists_that_cannot_be_used_are_told_in_one_line(tmp_path):
    root = celeba(tmp_path)
    with pytest.raises(ValueError, match="expected 'train' or 'val'"):
        CelebAEdges(root, "test")
    write_lines(root / "lists" / "celebahq_ref.txt", ["1.jpg,2.jpg", "2.jpg"])
    with pytest.raises(ValueError, match=r"celebahq_ref\.txt: line 2: '2\.jpg' holds no exemplar"):
        CelebAEdges(root, "train")
    write_lines(root / "lists" / "celebahq_ref.txt", ["1.jpg,2.jpg"])
    with pytest.raises(ValueError, match=r"5 of 6 images have no exemplar, first '2000\.jpg'"):
        CelebAEdges(root, "train")
    assert len(CelebAEdges(root, "train", skip_broken=True)) == 1
    (root / "lists" / "celebahq_ref.txt").unlink()
    with pytest.raises(ValueError, match="no such pair list; make one"):
        CelebAEdges(root, "train")
    assert len(CelebAEdges(root, "train", exemplars=SELF)) == 6


def test_a_config_may_name_the_options_and_a_misspelt_one_is_told(root):
    from midms.config import ConfigError, check_node, instantiate

    node = {"target": "midms.data.CelebAEdges", "params": {"root": str(root), "split": "val", "size": 16}}
    check_node(node, "data.params.train")
    assert len(instantiate(node)) == 3
    node["params"] |= {"cach_folder": "prepared"}
    with pytest.raises(ConfigError, match="did you mean 'cache_folder'"):
        check_node(node, "data.params.train")


def test_importing_the_package_of_data_imports_nothing_heavy():
    code = "import sys, midms.data; assert not {'torch', 'cv2', 'skimage'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    import midms.data

    assert all(getattr(midms.data, name).__name__ == name for name in midms.data.__all__)
