"""Outputs go to new files and to our own, and to others' only with `--overwrite`; never over an input."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from midms.config import ConfigError
from midms.evaluation.report import write_page
from midms.io.outputs import check_output_files, check_output_folder, is_ours
from midms.visualize import curves, save_animation, save_png

PIXELS = np.zeros((8, 8, 3), np.uint8)


def test_outputs_are_neither_inputs_nor_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo, other = Path("photo.png"), Path("other.png")
    photo.touch()
    os.link(photo, "hard.png")
    check_output_files([Path("new.png"), Path("newer.png")], [photo, Path("missing.png")])
    for outputs in ([tmp_path / "photo.png"], [Path("./photo.png")], [Path("hard.png")]):
        with pytest.raises(ConfigError, match=r"is also read \(photo\.png\)"):
            check_output_files(outputs, [photo])
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    inside = Path("folder/deep/a.png")
    check_output_files([inside], [Path("folder")])
    inside.touch()
    with pytest.raises(ConfigError, match=r"a\.png: is also read \(folder\)"):
        check_output_files([inside], [Path("folder")])
    with pytest.raises(ConfigError, match="is the name of two outputs"):
        check_output_files([other, tmp_path / "other.png"])
    with pytest.raises(ConfigError, match="is a folder"):
        check_output_files([tmp_path])


def test_the_files_of_others_need_a_word_and_an_input_is_never_replaced(tmp_path: Path) -> None:
    photo, notes = tmp_path / "photo.png", tmp_path / "notes.txt"
    Image.fromarray(PIXELS).save(photo)
    notes.write_text("about midms")
    for file in (photo, notes):
        with pytest.raises(ConfigError, match=f"{file.name}: exists, and holds no mark of midms.* --overwrite"):
            check_output_files([file])
        check_output_files([file], overwrite=True)
        check_output_files([file], ours=lambda file: True)
        with pytest.raises(ConfigError, match="is also read"):
            check_output_files([file], [file], overwrite=True)


def test_what_we_wrote_is_known_by_its_mark(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", PIXELS)
    save_png(tmp_path / "b.PNG", PIXELS, {"midms": "{}"})
    for name in ("a.gif", "a.webp"):
        save_animation(tmp_path / name, [PIXELS, PIXELS + 200])
    write_page(tmp_path / "a.html", "A", "<p>a</p>", "")
    curves(tmp_path / "curves.png", {"loss": [(0, 1), (1, 2)]}, "a")
    made = sorted(tmp_path.iterdir())
    assert len(made) == 6
    assert [file.name for file in made if not is_ours(file)] == []
    check_output_files(made)


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.webp", "a.jpg"])
def test_pictures_of_other_programs_and_broken_ones_are_not_ours(tmp_path: Path, name: str) -> None:
    Image.fromarray(PIXELS).save(tmp_path / name)
    assert not is_ours(tmp_path / name)
    (tmp_path / name).write_bytes(b"midms")
    assert not is_ours(tmp_path / name)


def test_a_folder_is_new_or_marked(tmp_path: Path) -> None:
    check_output_folder(tmp_path / "new", "plan.json")
    check_output_folder(tmp_path, "plan.json")
    (tmp_path / "photo.png").touch()
    with pytest.raises(ConfigError, match=r"holds files, but no plan\.json"):
        check_output_folder(tmp_path, "plan.json")
    with pytest.raises(ConfigError, match="is no folder"):
        check_output_folder(tmp_path / "photo.png", "plan.json")
    (tmp_path / "plan.json").touch()
    check_output_folder(tmp_path, "plan.json")
