"""A folder of one's own photos."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from files_on_disk import photo, standing, write_lines
from PIL import Image
from torch.utils.data import DataLoader

from midms.conditions.edges import FACE_PARTS
from midms.conditions.poses import read_json_poses, write_json_poses, write_text_poses
from midms.data import ImageFolder
from midms.data.folder import annotation_folder, list_photos, part_masks, scan_folder
from midms.io.files import BrokenFileError


@pytest.fixture()
def root(tmp_path):
    for k, name in enumerate(("b/two.jpg", "a.png", "b/one.jpeg", "c.jpg")):
        photo(tmp_path / "mine" / name, k, (50, 40))
    return tmp_path / "mine"


def test_edges_need_nothing_but_photos(root):
    dataset = ImageFolder(root, "edges", size=32)
    assert dataset.names == ["a.png", "b/one.jpeg", "b/two.jpg", "c.jpg"]
    batch = next(iter(DataLoader(dataset, 4)))
    assert batch["condition"].shape == (4, 15, 32, 32) and batch["exemplar"].shape == (4, 3, 32, 32)
    assert batch["condition"][:, 0].any() and (batch["condition"][:, 1:14] == 1).all()


def test_evaluation_takes_another_photo_of_the_folder(root):
    dataset = ImageFolder(root, "edges", training=False, size=16)
    assert [item["exemplar_name"] for item in dataset] == ["b/one", "b/two", "c", "a"]
    write_lines(root.parent / "pairs.txt", ["c.jpg,b\\two.jpg", "gone.jpg,c.jpg"])
    with pytest.warns(UserWarning, match=r"3 photos without a line, first a.png; 1 lines without a photo, first gone"):
        listed = ImageFolder(root, "edges", training=False, pairs=root.parent / "pairs.txt", size=16)
    assert listed.without_line == ["a.png", "b/one.jpeg", "b/two.jpg"] and listed.without_photo == ["gone.jpg"]
    assert [(item["name"], item["exemplar_name"]) for item in listed] == [("c", "b/two")]


def test_part_maps_give_the_face_channels(root):
    parts = np.zeros((40, 50), np.uint8)
    parts[10:30, 10:40], parts[12:16, 14:20] = 1, 4
    file = annotation_folder(root, "edges") / "a.png"
    file.parent.mkdir()
    Image.fromarray(parts).save(file)
    condition = ImageFolder(root, "edges", training=False, size=32)[0]["condition"]
    present = [k for k in range(1, 14) if (condition[k] < 1).any()]
    assert present == [1, 4] and sorted(part_masks(parts)) == ["l_eye", "skin"]


def test_poses_as_text_and_as_json_are_the_same_condition(root):
    folder = annotation_folder(root, "keypoints")
    for name in list_photos(root):
        stem = (folder / name).with_suffix("")
        write_text_poses(stem, [standing(50, 40)])
    from_text = ImageFolder(root, "keypoints", training=False, size=40)[2]
    stem = folder / "b" / "two"
    write_json_poses(stem.with_name("two_keypoints.json"), [standing(50, 40)])
    for ending in ("candidate", "subset"):
        stem.with_name(f"two_{ending}.txt").unlink()
    assert torch.equal(ImageFolder(root, "keypoints", training=False, size=40)[2]["condition"], from_text["condition"])


def test_a_pose_of_25_joints_loses_the_mid_hip_and_the_feet(tmp_path):
    table = np.stack([np.arange(25), 100 + np.arange(25), np.full(25, 0.5)], axis=1)
    table[3, 2] = 0
    people = [{"pose_keypoints_2d": table.flatten().tolist()}]
    import json

    (tmp_path / "x.json").write_text(json.dumps({"people": people}))
    (pose,) = read_json_poses(tmp_path / "x.json")
    assert np.isnan(pose[3]).all()
    assert np.delete(pose[:, 0], 3).tolist() == [0, 1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]


def test_segmentation_with_own_classes(root):
    folder = annotation_folder(root, "segmentation")
    for name in list_photos(root):
        file = (folder / name).with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 7, (40, 50)).astype(np.uint8)).save(file)
    item = ImageFolder(root, "segmentation", classes=7, size=16)[0]
    assert item["condition"].shape == (7, 16, 16) and (item["condition"].sum(0) == 1).all()


def test_photos_are_turned_upright(tmp_path):
    image = Image.fromarray(np.repeat(np.arange(0, 240, 6, np.uint8)[:, None], 40, 1)).convert("RGB")
    entry = Image.Exif()
    entry[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=entry)
    pixels = ImageFolder(tmp_path, "edges", training=False, size=40, exemplars={"self": 1.0})[0]["source"]
    assert pixels[0, 0, 0] > pixels[0, 0, -1] and pixels[0, 0, 0] == pixels[0, -1, 0]


def test_mistakes_are_told_in_one_line(root, tmp_path):
    for arguments, message in [
        ((root, "sketch"), "condition 'sketch': expected one of edges"),
        ((root, "keypoints"), "no such folder; make it with `prepare_data.py keypoints"),
        ((tmp_path / "none", "edges"), "none: no such folder"),
    ]:
        with pytest.raises(ValueError, match=message):
            ImageFolder(*arguments)
    photo(root / "a.jpg", 1)
    with pytest.raises(ValueError, match="differ in their extension alone"):
        ImageFolder(root, "edges")


def test_pictures_of_every_ending_and_in_linked_folders_are_photos(root, tmp_path):
    for k, name in enumerate(("d.tif", "e.gif", "f.JFIF", "g.webp", "j.avif")):
        photo(tmp_path / "made.png", k)
        Image.open(tmp_path / "made.png").save(root / name, format={"f.JFIF": "JPEG"}.get(name))
    photo(tmp_path / "elsewhere" / "h.jpg", 9)
    (root / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "b" / "again").symlink_to(root, target_is_directory=True)
    (root / "above").symlink_to(tmp_path, target_is_directory=True)
    (root / "notes.txt").write_text("x")
    (root / "i.heic").write_bytes(b"x")
    found = scan_folder(root)
    assert found.photos == sorted(
        ["a.png", "b/one.jpeg", "b/two.jpg", "c.jpg", "d.tif", "e.gif", "f.JFIF", "g.webp", "j.avif", "linked/h.jpg"]
    )
    assert found.others == ["i.heic", "notes.txt"]
    assert len(list(ImageFolder(root, "edges", training=False, size=8))) == 10


def test_part_ids_in_another_order(root):
    file = annotation_folder(root, "edges") / "a.png"
    file.parent.mkdir()
    ids = np.zeros((40, 50), np.uint8)
    ids[5:15], ids[20:30] = 17, 1  # hair, skin in face-parsing.PyTorch
    Image.fromarray(ids).save(file)
    dataset = ImageFolder(root, "edges", training=False, size=32)
    with pytest.raises(BrokenFileError, match=r"a.png: part id 17; .*face-parsing.PyTorch"):
        dataset[0]
    known = ImageFolder(root, "edges", training=False, size=32, part_order="face-parsing.PyTorch")
    condition = known[0]["condition"]
    assert [FACE_PARTS[k - 1] for k in range(1, 14) if (condition[k] < 1).any()] == ["skin", "hair"]
    assert known.kind != dataset.kind  # prepared items are kept apart
    with pytest.raises(ValueError, match="part order 'x'"):
        ImageFolder(root, "edges", part_order="x")


def test_class_ids_in_a_jpeg_are_refused(root):
    folder = annotation_folder(root, "segmentation")
    folder.mkdir()
    Image.fromarray(np.full((40, 50), 3, np.uint8)).save(folder / "a.png", "JPEG")
    with pytest.raises(BrokenFileError, match="JPEG compression changes class ids"):
        ImageFolder(root, "segmentation", training=False, size=16)[0]


def test_poses_in_shares_of_the_photo(root):
    folder = annotation_folder(root, "keypoints")
    for name in list_photos(root):
        write_json_poses((folder / name).with_suffix("").with_name(f"{(folder / name).stem}_keypoints.json"),
                         [standing(50, 40) / (50, 40, 1)])  # fmt: skip
    shares = ImageFolder(root, "keypoints", training=False, size=40)[0]["condition"]
    write_json_poses(folder / "a_keypoints.json", [standing(50, 40)])
    assert torch.equal(shares, ImageFolder(root, "keypoints", training=False, size=40)[0]["condition"])


def test_class_maps_beside_photos_are_no_photos(tmp_path):
    for k, name in enumerate(("a.jpg", "a.png", "b.PNG", "b.JPEG", "c.png", "d/a.png")):
        photo(tmp_path / "scenes" / name, k)
    scan = scan_folder(tmp_path / "scenes", maps_beside=True)
    assert scan.photos == ["a.jpg", "b.JPEG", "c.png", "d/a.png"] and scan.others == ["a.png", "b.PNG"]
    with pytest.raises(ValueError, match="differ in their extension alone"):
        scan_folder(tmp_path / "scenes")
