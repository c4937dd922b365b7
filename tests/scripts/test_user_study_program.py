"""scripts/user_study.py from folders to the figure."""

import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "scripts" / "user_study.py"


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("user_study_program", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_from_folders_to_the_figure(program, capsys, tmp_path):
    for role in ("a", "b", "conditions", "exemplars"):
        (tmp_path / role).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / role / "0.png")
    folders = [f"--{role}={tmp_path / role}" for role in ("conditions", "exemplars")]
    methods = [f"a={tmp_path / 'a'}", f"b={tmp_path / 'b'}"]
    assert program.main(["make", "--methods", *methods, *folders, "--out", str(tmp_path / "study")]) == 0
    key = json.loads((tmp_path / "study" / "key.json").read_text())
    ranks = {"style": {"A": 1, "B": 2}, "quality": {"A": 2, "B": 1}}
    (tmp_path / "answers.json").write_text(json.dumps({"study": key["study"], "answers": {"0": ranks}}))
    arguments = ["summarise", str(tmp_path / "study" / "key.json"), str(tmp_path / "answers.json")]
    capsys.readouterr()
    assert program.main([*arguments, "--json", "--out", str(tmp_path / "figure.png")]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    first = {r["question"]: r["method"] for r in results if r["share"] == 1}
    assert first == {"style": key["trials"][0]["order"][0], "quality": key["trials"][0]["order"][1]}
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["make", "--methods", "x"], "expected NAME=DIR, got 'x'"),
        (["summarise", "nowhere.json", "y.json"], "nowhere.json: cannot be read as JSON"),
        (["make", "--methods", "a=x", "a=y", "--conditions=c", "--exemplars=e", "--out=o"], "given twice"),
        (["make", "--methods", "a=x", "b=y", "--conditions=c", "--exemplars=e", "--out=o"], "x: no such folder"),
    ],
)
def test_a_mistake_is_one_line(program, capsys, arguments, words):
    try:
        code = program.main(arguments)
    except SystemExit as error:
        code = error.code
    output = capsys.readouterr()
    assert code == 2 and not output.out and words in output.err.splitlines()[-1]
