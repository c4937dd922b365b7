"""Where the data program writes, what it never replaces, and what it says of maps that deserve a look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from files_on_disk import photo
from PIL import Image
from programs import load_program

program = load_program("scripts/prepare_data.py")


def run(*words: object) -> int:
    return int(program.main([*map(str, words), "--quiet"]))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for k in range(3):
        photo(tmp_path / "photos" / f"{k}.png", k)
    return tmp_path / "photos"


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_pair_list_never_takes_the_place_of_a_photo(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(tmp_path / "keys" / "a.jpg", 9)
    before = contents(tmp_path)
    for words in ((photos / "1.png",), (tmp_path / "keys" / "a.jpg", "--keys", tmp_path / "keys")):
        assert run("pairs", photos, "--out", *words) == 2
        error = capsys.readouterr().err
        assert "is also read" in error and error.count("\n") == 1 and contents(tmp_path) == before
    words = ("pairs", photos, "--out", photos / "pairs.txt")
    assert run(*words) == 0 and run(*words, "--overwrite") == 0  # a list among the photos may be written again
    (photos / "pairs.txt").write_text("a list of the user's")
    assert run(*words) == 2 and "--overwrite" in capsys.readouterr().err
    assert (photos / "pairs.txt").read_text() == "a list of the user's"


@pytest.mark.parametrize("place", ["photos", "photos/maps", "./photos/../photos"])
@pytest.mark.parametrize("command", ["edges", "segment"])
def test_maps_are_not_written_among_the_photos(
    photos: Path, capsys: pytest.CaptureFixture[str], command: str, place: str
) -> None:
    """There they would count as photos, or photos as finished maps."""
    before = contents(photos)
    assert run(command, photos, "--out", photos.parent / place) == 2
    error = capsys.readouterr().err
    assert "lies in the folder of the photos" in error and error.count("\n") == 1
    assert contents(photos) == before


def test_photos_without_a_part_map_are_counted_where_others_have_one(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("verify", "--data", "folder", "--root", photos)
    assert run(*words) == 0 and "part map" not in capsys.readouterr().out
    parts = photos.with_name("photos_parts")
    parts.mkdir()
    Image.fromarray(np.ones((40, 40), np.uint8)).save(parts / "1.png")
    assert run(*words) == 0
    assert "photos without a part map 2, first 0.png\nphotos 3\n0 faults" in capsys.readouterr().out


def test_class_maps_with_ids_of_255_are_counted(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = photos.with_name("photos_labels")
    labels.mkdir()
    for k in range(3):
        ids = np.full((40, 40), k, np.uint8)
        ids[0, 0] = 255 if k else 0
        Image.fromarray(ids).save(labels / f"{k}.png")
    assert run("verify", "--data", "folder", "--root", photos, "--condition", "segmentation", "--classes", "4") == 0
    told = capsys.readouterr().out
    assert "class maps with ids of 255, which are read as class 3: 2, first 1.png\nphotos 3\n0 faults" in told
