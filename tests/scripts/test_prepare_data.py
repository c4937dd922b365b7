"""The data program: what it writes, that it goes on where it stopped, and what it says of mistakes."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from files_on_disk import celeba, photo, standing
from PIL import Image
from programs import load_program

from midms.conditions.edges import FACE_PARTS
from midms.conditions.keypoints import JOINTS
from midms.conditions.photos import annotate, models
from midms.conditions.poses import read_json_poses, read_text_poses, text_files, write_json_poses, write_text_poses
from midms.data import CelebAEdges, ImageFolder, pair_lists, preparation
from midms.data.exemplars import read_pairs
from midms.data.verify import verify

program = load_program("scripts/prepare_data.py")


def run(*words: object) -> int:
    return program.main([str(word) for word in words] + ["--quiet"])


@pytest.fixture()
def photos(tmp_path):
    for k in range(5):
        photo(tmp_path / "photos" / f"person{k // 2}" / f"{k}.jpg", k // 2, (60, 50))
    return tmp_path / "photos"


def test_edges_without_a_parser_are_canny_pictures_and_a_second_run_makes_none(photos, capsys):
    assert run("edges", photos) == 0
    made = sorted(photos.with_name("photos_edges").rglob("*.png"))
    assert len(made) == 5 and np.asarray(Image.open(made[0])).shape == (256, 256)
    made[2].unlink()
    times = {file: file.stat().st_mtime_ns for file in made if file.exists()}
    capsys.readouterr()
    assert run("edges", photos) == 0
    assert "1 made, 4 already there, 0 skipped" in capsys.readouterr().out
    assert all(file.stat().st_mtime_ns == time for file, time in times.items())


@pytest.mark.slow
@pytest.mark.parametrize("command", ["edges", "pairs"])
def test_worker_processes_make_the_same_files(photos, tmp_path, command):
    made = []
    for workers in (0, 2):
        out = tmp_path / f"made{workers}"
        more = ("--out", out / "list.txt", "--count", 2) if command == "pairs" else ("--out", out)
        assert run(command, photos, *more, "--workers", workers) == 0
        files = sorted(file for file in out.rglob("*") if file.suffix in (".txt", ".png"))
        made.append([file.read_bytes() for file in files])
    assert made[0] == made[1] and made[0]


@pytest.mark.parametrize("command", ["edges", "keypoints", "pairs"])
def test_a_stopped_run_leaves_whole_files_and_is_gone_on_with(photos, tmp_path, monkeypatch, capsys, command):
    """Stopped by Ctrl-C in the third photo."""
    name, calls = {"edges": "_canny", "keypoints": "_poses", "pairs": "_colour_features"}[command], []
    module = pair_lists if command == "pairs" else preparation
    work = getattr(module, name)

    def stopped(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return work(*arguments)

    words = [command, photos]
    if command == "keypoints":
        words += ["--tool", "convert"]
        for file in photos.rglob("*.jpg"):
            stem = (photos.with_name("photos_poses") / file.relative_to(photos)).with_suffix("")
            write_text_poses(stem, [standing(60, 50)])
    if command == "pairs":
        monkeypatch.setattr(module, "_BLOCK", 2)
        words += ["--out", tmp_path / "photos_pairs.txt", "--count", 2]
    monkeypatch.setattr(module, name, stopped)
    assert run(*words) == 130
    assert "stopped; run the same command again to continue" in capsys.readouterr().err
    assert not list(tmp_path.rglob(".unfinished*")) and not (tmp_path / "photos_pairs.txt").exists()
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert run(*words) == 0
    assert len(calls) == 3 + 3  # two of the five were done, and are not done again
    assert all(file.read_bytes() == content for file, content in before.items())


def test_broken_photos_are_told_and_the_rest_is_done(photos, capsys):
    (photos / "person0" / "0.jpg").write_bytes(b"")
    assert run("edges", photos) == 1
    printed = capsys.readouterr()
    assert "4 made, 0 already there, 1 skipped" in printed.out and "0.jpg: 0 bytes" in printed.err


def test_pairs_never_hold_the_photo_itself_or_the_same_person(photos, tmp_path):
    out = tmp_path / "pairs.txt"
    assert run("pairs", photos, "--out", out, "--count", 2) == 0
    pairs = read_pairs(out)
    assert len(pairs) == 5 and all(name not in row and len(row) == 2 for name, row in pairs.items())
    assert run("pairs", photos, "--out", tmp_path / "all.txt") == 0  # 20 a line, or as many as there are
    assert {len(row) for row in read_pairs(tmp_path / "all.txt").values()} == {4}
    assert pairs["person0/0.jpg"][0] == "person0/1.jpg"  # drawn alike
    assert run("pairs", "--overwrite", photos, "--out", out, "--count", 2, "--identities", "folder") == 0
    assert all(name[:7] != other[:7] for name, row in read_pairs(out).items() for other in row)
    assert len(ImageFolder(photos, "edges", pairs=out, size=8)) == 5
    names = [f"{name} {k % 4}" for k, name in enumerate(sorted(pairs))]
    (tmp_path / "who.txt").write_text("\n".join(names))
    assert run("pairs", "--overwrite", photos, "--out", out, "--count", 2, "--identities", tmp_path / "who.txt") == 0
    assert "person2/4.jpg" not in read_pairs(out)["person0/0.jpg"]


@pytest.mark.parametrize("first", ["text", "json"])
def test_poses_are_converted_both_ways(photos, first):
    folder = photos.with_name("photos_poses")
    for file in photos.rglob("*.jpg"):
        stem = (folder / file.relative_to(photos)).with_suffix("")
        if first == "text":
            write_text_poses(stem, [standing(60, 50)])
        else:
            write_json_poses(stem.with_name(f"{stem.name}_keypoints.json"), [standing(60, 50)])
    assert run("keypoints", photos, "--tool", "convert") == 0
    stem = folder / "person1" / "2"
    (text,), (json,) = read_text_poses(*text_files(stem)), read_json_poses(folder / "person1" / "2_keypoints.json")
    np.testing.assert_allclose(text, standing(60, 50))
    np.testing.assert_allclose(json, text)


def test_poses_by_rtmlib_have_unsure_joints_left_out(photos, monkeypatch):
    class Body:
        def __init__(self, **options: object) -> None:
            assert options["to_openpose"] is True

        def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            scores = np.full((1, 18), 0.9)
            scores[0, 3] = 0.1
            return np.full((1, 18, 2), 7.0), scores

    monkeypatch.setitem(sys.modules, "rtmlib", types.SimpleNamespace(Body=Body))
    assert run("keypoints", photos, "--tool", "rtmlib") == 0
    (pose,) = read_json_poses(photos.with_name("photos_poses") / "person2" / "4_keypoints.json")
    assert np.flatnonzero(np.isnan(pose[:, 0])).tolist() == [3] and (np.delete(pose, 3, 0)[:, :2] == 7).all()


def half_known(photo: Image.Image, align: bool = True) -> annotate.Portrait:
    """Stands in for the networks: the left half is skin; a photo of one colour has no face."""
    pixels = np.asarray(photo)
    if (pixels == pixels[0, 0]).all():
        raise annotate.PhotoError("no face was found; give another photo")
    ids = np.zeros(pixels.shape[:2], np.uint8)
    ids[:, : ids.shape[1] // 2] = 1
    return annotate.Portrait(photo, ids)


def test_the_networks_for_photos_are_the_default(photos, monkeypatch, capsys):
    """Parts and joints without another tool named; a photo without a face is told, and the rest is done once."""
    monkeypatch.setattr(models, "have_models", lambda: True)
    monkeypatch.setattr(annotate, "portrait", half_known)
    monkeypatch.setattr(annotate, "pose_of_person", lambda photo: standing(*photo.size))
    Image.new("RGB", (40, 40)).save(photos / "person0" / "0.jpg")
    assert run("edges", photos) == 1
    told = capsys.readouterr()
    assert "4 made, 0 already there, 1 skipped" in told.out and "0.jpg: no face was found" in told.err
    assert len(list(photos.with_name("photos_parts").rglob("*.png"))) == 4
    assert (ImageFolder(photos, "edges", size=16)[2]["condition"][1] < 1).any()
    assert run("edges", photos) == 1 and "0 made, 4 already there, 1 skipped" in capsys.readouterr().out
    assert run("keypoints", photos) == 0 and "5 made" in capsys.readouterr().out
    (pose,) = read_json_poses(photos.with_name("photos_poses") / "person2" / "4_keypoints.json")
    np.testing.assert_allclose(pose, standing(60, 50))
    assert run("keypoints", photos) == 0 and "0 made, 5 already there" in capsys.readouterr().out


def test_without_networks_it_is_said_what_to_run(photos, capsys):
    assert run("edges", photos) == 0 and "`midms get photos` gets the networks" in capsys.readouterr().err
    assert run("keypoints", photos) == 2
    told = capsys.readouterr().err
    assert "run `midms get photos`, or name a --tool" in told and told.count("\n") == 1


def test_many_photos_are_shared_by_processes():
    options = types.SimpleNamespace(workers=None)
    assert preparation._processes(options, 3) == 0 and preparation._processes(options, 500) >= 1
    assert preparation._processes(types.SimpleNamespace(workers=0), 500) == 0


def test_processes_with_the_real_networks_make_the_same_files(photo_networks, shared, tmp_path):
    root = shared / "samples" / "CelebAMask-HQ" / "CelebA-HQ-img"
    for name in ("14721.jpg", "26397.jpg"):
        photo = Image.open(root / name).resize((256, 256))
        (tmp_path / "photos").mkdir(exist_ok=True)
        photo.save(tmp_path / "photos" / name)
    made = []
    for workers in (0, 2):
        assert run("edges", tmp_path / "photos", "--out", tmp_path / f"{workers}", "--workers", workers) == 0
        made.append([file.read_bytes() for file in sorted((tmp_path / f"{workers}").iterdir())])
    assert made[0] == made[1] and len(made[0]) == 2


def constant_network(file: Path, size: tuple[int, int], outputs: dict[str, np.ndarray]) -> Path:
    """An ONNX network for images of (width, height) that always answers the same."""
    onnx = pytest.importorskip("onnx", reason="needs the package onnx")
    input_info = onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1, 3, size[1], size[0]])
    output_info = [onnx.helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, v.shape) for k, v in outputs.items()]
    nodes = [onnx.helper.make_node("Constant", [], [k], value=onnx.numpy_helper.from_array(v.astype(np.float32)))
             for k, v in outputs.items()]  # fmt: skip
    graph = onnx.helper.make_graph(nodes, "constant", [input_info], output_info)
    opset = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), file)
    return file


def test_poses_by_rtmlib_from_files_of_any_input_size(photos, tmp_path, capsys):
    """The detector sees a person in the right half; the pose network all joints in the middle of what it is given."""
    pytest.importorskip("rtmlib", reason="needs the package rtmlib")
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    scale = 96 / 60  # of the detector's picture, 96 pixels wide, to the photo, 60 x 50
    box = np.array([[[30 * scale, 0, 60 * scale, 50 * scale, 0.95]]])
    middle = {f"simcc_{axis}": np.zeros((1, 17, 2 * side)) for axis, side in (("x", 48), ("y", 64))}
    for values in middle.values():
        values[..., values.shape[-1] // 2] = 0.9
        values[:, 9] *= 0.1  # the left wrist is unsure
    detector = constant_network(tmp_path / "det.onnx", (96, 96), {"boxes": box})
    pose = constant_network(tmp_path / "pose.onnx", (48, 64), middle)
    assert run("keypoints", photos, "--det", detector, "--weights", pose) == 0
    (pose,) = read_json_poses(photos.with_name("photos_poses") / "person2" / "4_keypoints.json")
    assert np.flatnonzero(np.isnan(pose[:, 0])).tolist() == [JOINTS.index("l_wrist")]
    np.testing.assert_allclose(np.delete(pose, 7, 0)[:, :2], [[45, 25]] * 17, atol=0.5)
    (tmp_path / "text.onnx").write_text("no network")
    capsys.readouterr()
    assert run("keypoints", photos, "--out", tmp_path / "other", "--weights", tmp_path / "text.onnx") == 2
    assert "text.onnx: no ONNX network" in capsys.readouterr().err


@pytest.mark.slow
def test_face_parts_and_scene_classes_by_networks_of_the_right_form(photos, tmp_path):
    from transformers import (
        SegformerConfig,
        SegformerForSemanticSegmentation,
        SwinConfig,
        UperNetConfig,
        UperNetForSemanticSegmentation,
    )

    torch.manual_seed(0)
    names = ["background", *reversed(FACE_PARTS), "neck"]
    tiny = {"hidden_sizes": [8, 8, 8, 8], "depths": [1] * 4, "decoder_hidden_size": 8, "num_attention_heads": [1] * 4}
    config = SegformerConfig(**tiny, id2label=dict(enumerate(names)), label2id={n: k for k, n in enumerate(names)})
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "parser")
    assert run("edges", photos, "--parser", tmp_path / "parser", "--batch-size", 2) == 0
    parts = np.asarray(Image.open(photos.with_name("photos_parts") / "person0" / "0.png"))
    assert parts.shape == (50, 60) and parts.max() <= 13
    stages = ["stage1", "stage2", "stage3", "stage4"]
    swin = SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, out_features=stages)
    upernet = UperNetConfig(backbone_config=swin, hidden_size=8, num_labels=150, auxiliary_in_channels=32)
    UperNetForSemanticSegmentation(upernet).save_pretrained(tmp_path / "upernet")
    assert run("segment", photos, "--weights", tmp_path / "upernet") == 0
    labels = np.asarray(Image.open(photos.with_name("photos_labels") / "person0" / "0.png"))
    assert labels.shape == (50, 60) and 1 <= labels.min() and labels.max() <= 150
    assert ImageFolder(photos, "segmentation", size=16)[0]["condition"].shape == (151, 16, 16)


def test_the_cache_command_prepares_what_the_data_set_reads(tmp_path):
    root = celeba(tmp_path / "data", train=3, val=2)
    for split in ("train", "val"):
        words = ("--data", "celeba", "--root", root, "--split", split, "--size", 16, "--out", tmp_path / "cache")
        assert run("cache", *words) == 0
    raw = [CelebAEdges(root, split, size=16)[k, 1] for split in ("train", "val") for k in range(2)]
    for file in root.rglob("*.jpg"):
        file.unlink()
    settings = {"size": 16, "cache_folder": tmp_path / "cache"}
    prepared = [CelebAEdges(root, split, **settings)[k, 1] for split in ("train", "val") for k in range(2)]
    assert all(torch.equal(a["condition"], b["condition"]) for a, b in zip(raw, prepared, strict=True))


def test_verify_prints_faults_and_counts(tmp_path, capsys):
    root = celeba(tmp_path)
    assert run("verify", "--data", "celeba", "--root", root) == 0
    assert "photos 9" in capsys.readouterr().out
    (root / "CelebA-HQ-img" / "1.jpg").write_bytes(b"")
    assert run("verify", "--data", "celeba", "--root", root) == 1
    assert "CelebA-HQ-img/1.jpg: 0 bytes" in capsys.readouterr().out


def test_verify_reads_own_photos_with_their_annotations(photos, capsys):
    folder = photos.with_name("photos_poses")
    for file in photos.rglob("*.jpg"):
        write_text_poses((folder / file.relative_to(photos)).with_suffix(""), [standing(60, 50)])
    words = ("verify", "--data", "folder", "--root", photos, "--condition", "keypoints")
    assert run(*words) == 0
    (folder / "person1" / "2_candidate.txt").unlink()
    capsys.readouterr()
    assert run(*words) == 1
    printed = capsys.readouterr()
    assert "photos 5\n1 faults" in printed.out and printed.err.strip().endswith("2_candidate.txt: no such file")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("edges", "nowhere"), "nowhere: no such folder"),
        (("edges", "PHOTOS", "--parser", "PHOTOS"), "photos: no SegformerForSemanticSegmentation weights there"),
        (("segment", "PHOTOS", "--weights", "PHOTOS"), "photos: no UperNetForSemanticSegmentation weights there"),
        (("keypoints", "PHOTOS", "--tool", "controlnet-aux"), "controlnet"),
        (("pairs", "PHOTOS", "--features", "vgg19", "--weights", "none.pth"), "none.pth: no VGG-19 weights"),
        (("pairs", "PHOTOS", "--count", "9"), "9 nearest of 5 photos"),
        (("verify", "--data", "celeba", "--root", "PHOTOS"), "no photo in the layout of celeba"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(photos, capsys, words, message):
    assert run(*(str(photos) if word == "PHOTOS" else word for word in words)) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 1 and message in printed[0]


def test_pairs_of_one_split_take_exemplars_from_it_alone(tmp_path, capsys):
    """The documented command for CelebAMask-HQ; without --names the mix is said."""
    root = celeba(tmp_path / "set", 6, 3)
    (root / "lists" / "celebahq_ref.txt").unlink()
    words = ("pairs", root / "CelebA-HQ-img", "--out", root / "lists" / "celebahq_ref.txt")
    assert run(*words, "--names", root / "train.txt") == 0
    training = {f"{name}.jpg" for name in (root / "train.txt").read_text().split()}
    pairs = read_pairs(root / "lists" / "celebahq_ref.txt")
    assert set(pairs) == training and all(set(row) == training - {name} for name, row in pairs.items())
    assert "note" not in capsys.readouterr().err and verify("celeba", root).faults == []
    out = tmp_path / "test.txt"
    named = ("--names", root / "val.txt", "--key-names", root / "train.txt", "--count", 2)
    assert run(*words[:2], "--out", out, *named) == 0
    assert all(name not in training and set(row) <= training for name, row in read_pairs(out).items())
    assert run(*words[:2], "--out", out, "--overwrite") == 0
    assert "give its --names" in capsys.readouterr().err


def test_names_without_a_photo_are_told_and_counted(photos, tmp_path, capsys):
    (tmp_path / "split.txt").write_text("person0/0.jpg\nphotos/person0/1\nperson1\\2.jpg\ngone.jpg\n")
    assert run("pairs", photos, "--out", tmp_path / "pairs.txt", "--names", tmp_path / "split.txt") == 1
    printed = capsys.readouterr()
    assert "skipped gone.jpg: named in" in printed.err and "3 made, 0 already there, 1 skipped" in printed.out
    assert sorted(read_pairs(tmp_path / "pairs.txt")) == ["person0/0.jpg", "person0/1.jpg", "person1/2.jpg"]
    (tmp_path / "split.txt").write_text("gone.jpg\n")
    assert run("pairs", "--overwrite", photos, "--out", tmp_path / "pairs.txt", "--names", tmp_path / "split.txt") == 2
    assert "names no photo of" in capsys.readouterr().err


@pytest.mark.parametrize("separator", [" ", "\t", ","])
def test_names_with_commas_spaces_and_tabs_in_lists(tmp_path, separator):
    names = ["Smith, John 1.jpg", "Smith, John 2.jpg", "a\tb.jpg", "plain.jpg"]
    for k, name in enumerate(names):
        photo(tmp_path / "mine" / name, k)
    (tmp_path / "who.txt").write_text("".join(f"{n}{separator}{w}\n" for n, w in zip(names, "JJAP", strict=True)))
    out = tmp_path / "pairs.txt"
    assert run("pairs", tmp_path / "mine", "--out", out, "--identities", tmp_path / "who.txt") == 0
    pairs = read_pairs(out)
    assert sorted(pairs) == names and set(pairs["Smith, John 1.jpg"]) == {"a\tb.jpg", "plain.jpg"}
    assert len(list(ImageFolder(tmp_path / "mine", "edges", training=False, pairs=out, size=8))) == 4


def test_verifying_a_folder_counts_what_is_left_out(photos, tmp_path, capsys):
    (photos / "notes.txt").write_text("x")
    assert run("verify", "--data", "folder", "--root", photos) == 0
    assert "files of other kinds 1, first notes.txt\nphotos 5\n0 faults" in capsys.readouterr().out
    (tmp_path / "pairs.txt").write_text("person0/0.jpg,person0/1.jpg\nx.jpg,person0/0.jpg\n")
    assert run("verify", "--data", "folder", "--root", photos, "--pairs", tmp_path / "pairs.txt") == 1
    printed = capsys.readouterr()
    assert "person1/2.jpg: no line in" in printed.err and "x.jpg: a line in" in printed.err
    assert "photos 5\n5 faults" in printed.out
    assert run("verify", "--data", "folder", "--root", photos, "--part-order", "face-parsing.PyTorch") == 0


def test_verifying_a_folder_splits_what_is_usable(tmp_path, capsys):
    """Every photo without a fault is in one list, a tenth of them in val.txt, the same in another run."""
    for number in range(23):
        photo(tmp_path / "mine" / f"{number:02d}.png", number)
    (tmp_path / "mine/07.png").write_bytes(b"no photo")
    words = ("verify", "--data", "folder", "--root", tmp_path / "mine", "--lists", tmp_path / "lists")
    assert run(*words) == 1
    assert "train.txt 20, val.txt 2 photos" in capsys.readouterr().out
    train, val = ((tmp_path / f"lists/{split}.txt").read_text().splitlines() for split in ("train", "val"))
    assert sorted(train + val) == [f"{number:02d}.png" for number in range(23) if number != 7] and len(val) == 2
    (tmp_path / "lists/val.txt").write_text("the user's own\n")
    assert run(*words) == 2
    assert "val.txt: exists" in capsys.readouterr().err
    assert (tmp_path / "lists/val.txt").read_text() == "the user's own\n"
    words = (*words, "--overwrite")
    assert run(*words) == 1
    assert (tmp_path / "lists/val.txt").read_text().splitlines() == val
    for number in range(8, 23):
        (tmp_path / f"mine/{number:02d}.png").unlink()
    capsys.readouterr()
    assert run(*words) == 2
    assert "7 usable photos, expected at least 8" in capsys.readouterr().err
    assert run("verify", "--data", "celeba", "--root", celeba(tmp_path / "set"), "--lists", tmp_path / "lists") == 2
    assert "it is for --data folder" in capsys.readouterr().err
