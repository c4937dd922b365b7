"""A thousand files with 25 planted faults: all are named, nothing else is, and training goes on without them."""

from __future__ import annotations

import shutil
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from files_on_disk import celeba, churches, deepfashion, photo, standing
from omegaconf import OmegaConf
from PIL import Image
from programs import load_program
from torch.utils.data import DataLoader

from midms.conditions.poses import read_text_poses, text_files, write_text_poses
from midms.data import CelebAEdges, ChurchesSegmentation, DeepFashionKeypoints
from midms.data.verify import verify
from midms.io.files import BrokenFileError

ROOT = Path(__file__).resolve().parents[2]
MASKS = "CelebAMask-HQ-mask-anno"
Planted = list[tuple[str, str]]  # file, words of the reason


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def plant_in_faces(root: Path) -> Planted:
    photos, masks, lists = root / "CelebA-HQ-img", root / MASKS, root / "lists"
    cut(photos / "1.jpg")
    (photos / "2.jpg").write_bytes(b"")
    Image.open(photos / "4.jpg").convert("L").save(photos / "4.jpg")
    (photos / "5.jpg").rename(photos / "5.JPG")
    for part in ("skin", "l_eye", "hair"):
        (masks / "0" / f"00007_{part}.png").unlink()
    cut(masks / "0" / "00008_skin.png")
    (masks / "0" / "00010_hair.png").write_bytes(b"")
    mask = masks / "0" / "00011_hair.png"
    Image.fromarray(np.asarray(Image.open(mask)) // 255).save(mask)
    mask = masks / "0" / "00013_skin.png"
    Image.open(mask).resize((20, 10), Image.Resampling.NEAREST).save(mask)
    (masks / "0" / "00014_hair.png").rename(masks / "1" / "00014_hair.png")
    (photos / "16.jpg").unlink()
    with (root / "train.txt").open("a") as names:
        names.write("17\nface\n")
    with (lists / "celebahq_ref.txt").open("a") as pairs:
        pairs.write("20.jpg,\n")
    return [
        ("CelebA-HQ-img/1.jpg", "not a whole picture"),
        ("CelebA-HQ-img/2.jpg", "0 bytes"),
        ("CelebA-HQ-img/4.jpg", "mode L"),
        ("CelebA-HQ-img/5.jpg", "5.JPG differs in upper and lower case"),
        ("CelebA-HQ-img/7.jpg", "has no part mask"),
        (f"{MASKS}/0/00008_skin.png", "not a whole picture"),
        (f"{MASKS}/0/00010_hair.png", "0 bytes"),
        (f"{MASKS}/0/00011_hair.png", "values [0, 1]"),
        (f"{MASKS}/0/00013_skin.png", "the other masks"),
        (f"{MASKS}/1/00014_hair.png", "expected 0"),
        ("CelebA-HQ-img/16.jpg", "no such file"),
        ("train.txt", "17.jpg occurs more than once"),
        ("train.txt", "'face': expected a number"),
        ("lists/celebahq_ref.txt", "holds no exemplar"),
    ]


def plant_in_people(root: Path) -> Planted:
    folder = "pose/WOMEN/Dresses/id_{:08d}/01_1_front"
    two, gone, beyond, words, outside = (root / folder.format(k) for k in range(5))
    write_text_poses(two, read_text_poses(*text_files(two)) * 2)
    text_files(gone)[0].unlink()
    text_files(beyond)[1].write_text("99 " * 18 + "1 18\n")
    text_files(words)[0].write_text("x y score\n")
    write_text_poses(outside, [standing(400, 400)])
    edit(
        root / "lists" / "deepfashion_ref.txt", "front.jpg\n" + "img\\WOMEN\\Dresses\\id_00000009", "front.jpg\n" + "x"
    )
    return [
        (f"{folder.format(0)}_subset.txt", "2 people"),
        (f"{folder.format(1)}_candidate.txt", "no such file"),
        (f"{folder.format(2)}_subset.txt", "names row 99"),
        (f"{folder.format(3)}_candidate.txt", "not a table of numbers"),
        (f"{folder.format(4)}_subset.txt", "outside the photo"),
        ("img/x\\01_1_front.jpg".replace("\\", "/"), "no such file"),
        ("lists/deepfashion_ref.txt", "no line for img/WOMEN/Dresses/id_00000009"),
    ]


def plant_in_scenes(root: Path) -> Planted:
    training = root / "training"
    (training / "training_0.png").unlink()
    label = np.asarray(Image.open(training / "training_1.png")).copy()
    label[:6, :6] = 151
    Image.fromarray(label).save(training / "training_1.png")
    Image.fromarray(np.stack([label] * 3, -1)).save(training / "training_2.png")
    photo(training / "training_3.jpg", 3, (30, 36))
    return [
        ("training/training_0.png", "no such file"),
        ("training/training_1.png", "label 151"),
        ("training/training_2.png", "mode RGB"),
        ("training/training_3.png", "pixels, its photo"),
    ]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faulty")
    roots = {
        "celeba": celeba(folder / "celeba", 130, 13),
        "deepfashion": deepfashion(folder / "deepfashion", 60, 10),
        "churches": churches(folder / "churches", 95, 10),
    }
    files = sum(path.is_file() for path in folder.rglob("*"))
    assert abs(files - 1000) < 10
    assert all(verify(kind, root).faults == [] for kind, root in roots.items())
    planted = {
        "celeba": plant_in_faces(roots["celeba"]),
        "deepfashion": plant_in_people(roots["deepfashion"]),
        "churches": plant_in_scenes(roots["churches"]),
    }
    assert sum(map(len, planted.values())) == 25
    return roots, planted


@pytest.mark.parametrize("kind", ["celeba", "deepfashion", "churches"])
def test_every_planted_fault_is_named_and_nothing_else(faulty, kind):
    roots, planted = faulty
    faults = verify(kind, roots[kind]).faults
    for file, words in planted[kind]:
        assert any(fault.file == file and words in fault.reason for fault in faults), (file, words, faults)
    assert len(faults) == len(planted[kind]), faults


@pytest.mark.slow
def test_worker_processes_find_the_same(faulty):
    roots, _ = faulty
    assert verify("churches", roots["churches"], workers=1) == verify("churches", roots["churches"])


@pytest.mark.parametrize(
    ("kind", "make", "skipped"), [("celeba", CelebAEdges, 8), ("deepfashion", DeepFashionKeypoints, 3),
                                  ("churches", ChurchesSegmentation, 3)]
)  # fmt: skip
def test_training_completes_and_counts_what_it_skipped(faulty, tmp_path, kind, make, skipped):
    roots, _ = faulty
    dataset = make(roots[kind], "train", size=24, load_size=24, exemplars={"self": 1.0}, skip_broken=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = [name for batch in DataLoader(dataset, 8) for name in batch["name"]]
    assert len(seen) == len(dataset)
    stems = {Path(name).stem if kind != "deepfashion" else name for name in dataset.broken}
    assert len(stems) == skipped, sorted(stems)


@pytest.mark.slow
def test_the_programs_name_all_25_and_train_on_the_rest(faulty, tmp_path, tiny_weights, capsys):
    """`prepare_data.py verify` and `main.py` with `skip_broken: true`, as their users call them."""
    roots, planted = faulty
    verify_program, train_program = (load_program(file).main for file in ("scripts/prepare_data.py", "main.py"))
    named = []
    for kind, root in roots.items():
        assert verify_program(["verify", "--data", kind, "--root", str(root), "--quiet"]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == f"{len(planted[kind])} faults"
        named += lines[:-2]
        for file, words in planted[kind]:
            assert any(line.startswith(f"{file}: ") and words in line for line in lines), (file, words)
    assert len(named) == 25

    options = {"root": str(roots["celeba"]), "split": "train", "size": 32, "skip_broken": True}
    dataset = CelebAEdges(**options)
    config = OmegaConf.load(ROOT / "configs/demo.yaml")
    config.data.params = {"train": {"target": "midms.data.celeba.CelebAEdges", "params": options}, "batch_size": 10}
    config.model.params.encoders.update({"widths": [8, 8, 16], "out_channels": 16, "hidden": 8})
    config.model.params.update({"weights": str(tiny_weights), "warmup_steps": 99})
    config.trainer = {"max_steps": -(-len(dataset) // 10), "accelerator": "cpu"}
    OmegaConf.save(config, tmp_path / "faulty.yaml")
    assert train_program(["--base", str(tmp_path / "faulty.yaml"), "-t", "--run", str(tmp_path / "run")]) == 0
    for name in dataset.names:
        with suppress(BrokenFileError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.read(name)
    assert len(dataset.broken) == 8
    assert "left out 8 broken images: " in capsys.readouterr().out
    assert (tmp_path / "run/weights/encoders.safetensors").is_file()


def test_wrong_folders_are_told_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="expected one of celeba, deepfashion, churches"):
        verify("cats", tmp_path)
    with pytest.raises(ValueError, match="no photo in the layout of celeba"):
        verify("celeba", tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        verify("celeba", tmp_path)


@pytest.mark.parametrize(
    ("kind", "folder"),
    [("celeba", "CelebAMask-HQ"), ("deepfashion", "DeepFashion"), ("churches", "LSUN-church-layout")],
)
def test_the_samples_are_clean(shared, kind, folder):
    assert verify(kind, shared / "samples" / folder).faults == []


@pytest.mark.parametrize("kind", ["celeba", "deepfashion", "churches"])
def test_training_exemplars_of_another_split_are_faults(tmp_path, kind):
    """In a test list the exemplars may be training photos, as in the published ones."""
    root = {"celeba": celeba, "deepfashion": deepfashion, "churches": churches}[kind](tmp_path)
    training, test = sorted((root / "lists").iterdir())
    line, other = training.read_text().splitlines()[0], test.read_text().split(",")[0]
    other = other if kind != "churches" else f"validation/{other}"
    with test.open("a") as pairs:
        pairs.write(",".join([other, line.split(",")[0] if kind != "churches" else f"training/{line.split(',')[0]}"]))
    text = test.read_text().splitlines()
    test.write_text("\n".join(text[1:]))  # one line a photo
    assert verify(kind, root).faults == []
    training.write_text(f"{line},{other}\n" + "\n".join(training.read_text().splitlines()[1:]))
    (fault,) = verify(kind, root).faults
    assert fault.file == f"lists/{training.name}" and "is not an image of the training split" in fault.reason
    assert Path(other.replace("\\", "/")).stem in fault.reason


def test_class_ids_that_need_a_decision_are_faults(tmp_path):
    root = churches(tmp_path)
    label = np.asarray(Image.open(root / "training" / "training_0.png")).copy()
    Image.fromarray(label).save(root / "training" / "training_1.png", "JPEG")
    label[0] = 255
    Image.fromarray(label).save(root / "training" / "training_0.png")
    first, second = verify("churches", root).faults
    assert first.file == "training/training_0.png" and "id 255 is read as 150" in first.reason
    assert second.file == "training/training_1.png" and "JPEG compression changes class ids" in second.reason


@pytest.mark.parametrize("where", [(-3.0, 10.0), (10.0, -3.0), (41.0, 10.0), (10.0, 41.0)])
def test_joints_beyond_any_side_of_the_photo_are_faults(tmp_path, where):
    root = deepfashion(tmp_path)
    stem = root / "pose/WOMEN/Dresses/id_00000002/01_1_front"
    pose = standing(40, 40)
    pose[3, :2] = where
    write_text_poses(stem, [pose])
    (fault,) = verify("deepfashion", root).faults
    assert fault.file.endswith("id_00000002/01_1_front_subset.txt")
    assert fault.reason == "joints outside the photo of 40 x 40 pixels"
