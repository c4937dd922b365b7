"""Damaged pictures, lists, poses and masks through the programs of data and of evaluation.

A program ends with 0, with 1 where it has listed faults, or with one line and 2. `-m slow` tries many random ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from files_on_disk import celeba, photo, standing
from fuzzing import EDITS, NASTY, Edit, damaged, ends_well, picture, try_examples
from hypothesis import strategies as st
from programs import load_program

from midms.conditions.poses import write_json_poses, write_text_poses

NAMES = st.sampled_from(["a.jpg", "a b.jpg", "a,b.jpg", '"a.jpg', "\x1b[2Ja.jpg", "a\nb.jpg", "-a.jpg", "ü.JPG", "a"])
KINDS = st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"])
LINES = st.lists(
    st.sampled_from(["0.jpg", "1.jpg", "0.jpg,1.jpg", "../0.jpg", "/etc/passwd,0.jpg", "0.jpg 7", "0.jpg folder", ",,"])
    | st.sampled_from(NASTY).map(lambda content: content.decode("latin-1"))
    | st.text(max_size=8),
    max_size=5,
)


def prepare(folder: Path, *words: object) -> int:
    main = load_program("scripts/prepare_data.py").main
    arguments = [*map(str, words), "--quiet"]
    return ends_well(folder, main, arguments, told=(0, 1), notes="prepare_data.py: ", kept=".features")


def two_photos(folder: Path) -> Path:
    for k in range(2):
        photo(folder / "photos" / f"{k}.jpg", k)
    return folder / "photos"


def photos(folder: Path, name: str, kind: str, edits: Sequence[Edit]) -> None:
    place = two_photos(folder)
    (place / name).write_bytes(damaged(picture(kind), edits))
    prepare(folder, "edges", place)
    prepare(folder, "pairs", place)


def lists(folder: Path, names: Sequence[str], people: Sequence[str]) -> None:
    place = two_photos(folder)
    for file, lines in (("names.txt", names), ("people.txt", people)):
        (folder / file).write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
    prepare(folder, "pairs", place, "--names", folder / "names.txt")
    prepare(folder, "pairs", place, "--out", folder / "b.txt", "--identities", folder / "people.txt")
    prepare(folder, "verify", "--data", "folder", "--root", place, "--pairs", folder / "names.txt")


def poses(folder: Path, as_json: bool, edits: Sequence[Edit]) -> None:
    place, stem = two_photos(folder), folder / "photos_poses" / "0"
    stem.parent.mkdir()
    if as_json:
        write_json_poses(stem.with_name("0_keypoints.json"), [standing(40, 40)])
    else:
        write_text_poses(stem, [standing(40, 40)])
    for file in stem.parent.iterdir():
        file.write_bytes(damaged(file.read_bytes(), edits))
    prepare(folder, "keypoints", place, "--tool", "convert")
    prepare(folder, "verify", "--data", "folder", "--root", place, "--condition", "keypoints")


def data_sets(folder: Path, file: str, edits: Sequence[Edit]) -> None:
    root = celeba(folder / "celeba", train=2, val=1)
    found = sorted(root.rglob(file))[0]
    found.write_bytes(damaged(found.read_bytes(), edits))
    prepare(folder, "verify", "--data", "celeba", "--root", root)
    prepare(folder, "cache", "--data", "celeba", "--root", root, "--size", "8", "--out", folder / "cache")


def evaluations(folder: Path, role: str, kind: str, edits: Sequence[Edit]) -> None:
    for name in ("generated", "truth", "masks"):
        (folder / name).mkdir()
        for file in ("a.png", "b.png"):
            (folder / name / file).write_bytes(picture("PNG"))
    (folder / role / "b.png").write_bytes(damaged(picture(kind), edits))
    words = ["--quiet", "--json", "--metrics", "background" if role == "masks" else "psnr"]
    for name in ("generated", "truth", "masks"):
        words += [f"--{name}", str(folder / name)]
    words += ["--reference", str(folder / "truth")]
    ends_well(folder, load_program("scripts/evaluate.py").main, words)


def answers(folder: Path, edits: Sequence[Edit]) -> None:
    for name in ("generated", "reference"):
        (folder / name).mkdir()
        (folder / name / "a.png").write_bytes(picture("PNG"))
    (folder / "p.json").write_bytes(damaged(json.dumps({"a.png": "a stone church"}).encode(), edits))
    words = ["--generated", str(folder / "generated"), "--metrics", "clip", "--prompts", str(folder / "p.json")]
    ends_well(folder, load_program("scripts/evaluate.py").main, [*words, "--clip", str(folder), "--quiet"])


FILES = st.sampled_from(["train.txt", "celebahq_ref.txt", "*.jpg", "*_hair.png", "val.txt"])
CASES: dict[str, tuple[Callable[..., None], dict[str, st.SearchStrategy[Any]]]] = {
    "photos": (photos, {"name": NAMES, "kind": KINDS, "edits": EDITS}),
    "lists": (lists, {"names": LINES, "people": LINES}),
    "poses": (poses, {"as_json": st.booleans(), "edits": EDITS}),
    "data sets": (data_sets, {"file": FILES, "edits": EDITS}),
    "evaluations": (
        evaluations,
        {"role": st.sampled_from(["generated", "truth", "masks"]), "kind": KINDS, "edits": EDITS},
    ),
    "answers": (answers, {"edits": EDITS}),
}


@pytest.mark.parametrize("name", CASES)
def test_damaged_data_end_in_one_line(name: str, tmp_path: Path) -> None:
    run, strategies = CASES[name]
    try_examples(8, run, strategies, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_many_damaged_data_end_in_one_line(name: str, tmp_path: Path) -> None:
    run, strategies = CASES[name]
    try_examples(1000, run, strategies, tmp_path)
