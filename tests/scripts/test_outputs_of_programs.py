"""No program replaces a file of the user's, or one it reads, without being told; `--overwrite` tells it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from programs import load_program

from midms.cli import main as midms
from midms.data.procedural.__main__ import main as procedural

MINE = "the user's own"


def program(name: str) -> Callable[[list[str]], int]:
    main: Callable[[list[str]], int] = load_program(f"scripts/{name}.py").main
    return main


def training(words: list[str]) -> int:
    return int(load_program("main.py").main(words))


PAIR = ["translate", "--condition", "sample:1", "--exemplar", "sample:1"]
FOLDERS = ["--generated", "photos", "--reference", "photos", "--metrics", "swd"]
STUDY = ["make", "--methods", "a=photos", "b=photos", "--conditions", "photos", "--exemplars", "photos"]
FOLDER = ["--data", "folder", "--root", "photos"]
#: The output that is there already -> the command that would write it.
COMMANDS: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
    "out.png": (midms, [*PAIR, "--out", "out.png"]),
    "steps.png": (midms, [*PAIR, "--out", "new.png", "--steps-picture", "steps.png"]),
    "loop.gif": (midms, [*PAIR, "--out", "new.png", "--animation", "loop.gif"]),
    "samples.png": (midms, ["samples", "--out", "samples.png"]),
    "scenes.png": (procedural, ["--show", "1", "scenes.png"]),
    "report.html": (program("evaluate"), [*FOLDERS, "--report", "report.html"]),
    "table.tex": (program("evaluate"), [*FOLDERS, "--latex", "table.tex"]),
    "table.csv": (program("evaluate"), [*FOLDERS, "--csv", "table.csv"]),
    "tables/table3.md": (program("reproduce_tables"), ["--table", "3", "--out", "tables"]),
    "tables.html": (program("reproduce_tables"), ["--table", "3", "--out", "new", "--report", "tables.html"]),
    "photos_pairs.txt": (program("prepare_data"), ["pairs", "photos", "--quiet"]),
    "lists/train.txt": (program("prepare_data"), ["verify", *FOLDER, "--lists", "lists", "--quiet"]),
    "study/key.json": (program("user_study"), [*STUDY, "--out", "study"]),
    "layout/data.txt": (
        program("pairs_for"),
        ["write", "ctrl-x", "--photos", "photos", "--pairs", "pairs.txt", "--out", "layout"],
    ),
    "read/0.png": (program("pairs_for"), ["read", "photos", "--of", "pairs.json", "--by", "order", "--out", "read"]),
    "page/gallery.md": (program("gallery"), ["--out", "page"]),
    "demo/shipped.png": (program("demo"), ["--skip-training", "--out", "demo"]),
    "mine/photo.png": (program("train_on_folder"), ["photos", "--out", "mine", "--dry-run"]),
    "plot.png": (program("benchmark"), ["sampling", "--config", "tiny", "--size", "32", "--plot", "plot.png"]),
    "run/config.yaml": (training, ["--base", "run.yaml", "-t", "--run", "run"]),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with photos, a record of pairs, and a training config."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(8):
        Image.new("RGB", (32, 32), (30 * number, 0, 0)).save(f"photos/{number}.png")
    pairs = [{"number": k, "name": str(k), "condition": f"{k}.png", "exemplar": "0.png"} for k in range(8)]
    Path("pairs.json").write_text(json.dumps({"layout": "ctrl-x", "condition": "edges", "size": 32, "pairs": pairs}))
    Path("pairs.txt").write_text("0.png,1.png\n")
    drawn = "{task: faces, size: 16, split: train, length: 8}"
    images = f"{{target: midms.data.procedural.dataset.ProceduralImages, params: {drawn}}}"
    stage = "{ch: 8, ch_mult: [1, 1, 1], num_res_blocks: 1, n_embed: 8, norm_groups: 4}"
    Path("run.yaml").write_text(
        f"model: {{target: midms.training.first_stage.FirstStageTraining, params: {{first_stage: {stage}}}}}\n"
        f"data: {{target: midms.data.module.DataModule, params: {{batch_size: 2, train: {images}}}}}\n"
        "trainer: {max_steps: 1, accelerator: cpu, devices: 1, enable_progress_bar: false}\n"
    )
    return tmp_path


@pytest.mark.parametrize("output", COMMANDS)
def test_a_file_of_the_users_is_kept(here: Path, capsys: pytest.CaptureFixture[str], output: str) -> None:
    main, words = COMMANDS[output]
    file = Path(output)
    file.parent.mkdir(exist_ok=True)
    file.write_text(MINE)
    before = sorted(here.rglob("*"))
    try:
        code = main(words)
    except SystemExit as error:
        assert isinstance(error.code, int)
        code = error.code
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert ("exists" in said or "holds files" in said) and output.split("/", 1)[0] in said
    assert file.read_text() == MINE and sorted(here.rglob("*")) == before
