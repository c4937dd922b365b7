"""scripts/user_study.py from folders to the figure."""

import json

import pytest
from PIL import Image
from programs import load_program


@pytest.fixture(scope="module")
def program():
    return load_program("scripts/user_study.py")


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
        (["summarise", "nowhere.json", "y.json"], "nowhere.json: no such file"),
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


def test_a_key_of_something_else_is_refused(program, capsys, tmp_path):
    (tmp_path / "key.json").write_text("{}")
    assert program.main(["summarise", str(tmp_path / "key.json"), str(tmp_path / "answers.json")]) == 2
    assert "key.json: not the key of a study" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "not answers to a study"),
        ("null", "not answers to a study"),
        ("{}", "study: Field required"),
        ('{"study": "s"}', "answers: Field required"),
        ('{"study": 3, "answers": {}}', "study: "),
        ('{"study": "s", "answers": []}', "answers: "),
        ('{"study": "s", "answers": {"0": []}}', "answers.0: "),
        ('{"study": "s", "answers": {"0": {"style": [1, 2]}}}', "answers.0.style: "),
        ('{"study": "s", "answers": {"0": {"style": {"A": "1", "B": 2}}}}', "answers.0.style.A: "),
        ('{"study": "s", "answers": {"0": {"style": {"A": true, "B": 2}}}}', "answers.0.style.A: "),
        ('{"study": "s", "answers": {"0": {"style": {"A": NaN, "B": 2}}}}', "NaN"),
        ('{"study": "s", "answers": {"0": {"style": {"A": 1, "B": 1}}}}', "is not a ranking of 2"),
        ('{"study": "s", "answers": {}}', "part 1, style: [0, 0] is not a ranking of 2"),
        ('{"study": "other", "answers": {}}', "answers to study 'other'"),
        ("{", "not readable as JSON"),
        ("[" * 100_000, "not readable as JSON"),
    ],
)
def test_malformed_answers_are_one_line(program, capsys, tmp_path, content, words):
    key = {"study": "s", "trials": [{"name": "0", "order": ["a", "b"]}]}
    (tmp_path / "key.json").write_text(json.dumps(key))
    (tmp_path / "answers.json").write_text(content)
    assert program.main(["summarise", str(tmp_path / "key.json"), str(tmp_path / "answers.json")]) == 2
    error = capsys.readouterr().err
    assert "answers.json: " in error and words in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        ([], "trials: "),
        ([{"name": "0", "order": ["a"]}], "trials.0.order: "),
        ([{"name": "0", "order": ["a", "a"]}], "each once"),
        ([{"name": "0", "order": ["a", "b"]}, {"name": "1", "order": ["a", "c"]}], "the same in each"),
        ([{"order": ["a", "b"]}], "trials.0.name: "),
    ],
)
def test_a_malformed_key_is_one_line(program, capsys, tmp_path, trials, words):
    (tmp_path / "key.json").write_text(json.dumps({"study": "s", "trials": trials}))
    (tmp_path / "answers.json").write_text("{}")
    assert program.main(["summarise", str(tmp_path / "key.json"), str(tmp_path / "answers.json")]) == 2
    error = capsys.readouterr().err
    assert "key.json: " in error and words in error and error.count("\n") == 1


def test_a_participant_ranks_in_a_browser(program, capsys, chromium, tmp_path):
    """From folders of pictures through the page in a real browser to the figure with its intervals."""
    methods = ("ours", "theirs", "third")
    for place, role in enumerate((*methods, "conditions", "exemplars")):
        (tmp_path / role).mkdir()
        for pair in range(2):
            Image.new("RGB", (48, 32), (50 * place, 90 * pair, 60)).save(tmp_path / role / f"{pair}.png")
    folders = [f"--{role}={tmp_path / role}" for role in ("conditions", "exemplars")]
    named = [f"{name}={tmp_path / name}" for name in methods]
    assert program.main(["make", "--methods", *named, *folders, "--out", str(tmp_path / "study")]) == 0
    key = json.loads((tmp_path / "study" / "key.json").read_text())
    answers = [
        participate(chromium, tmp_path, key, person, best) for person, best in enumerate(("ours", "ours", "theirs"))
    ]
    capsys.readouterr()
    arguments = ["summarise", str(tmp_path / "study" / "key.json"), *map(str, answers), "--json"]
    assert program.main([*arguments, "--out", str(tmp_path / "figure.png")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["participants"] == 3
    shares = {(row["question"], row["method"]): row for row in record["results"]}
    assert shares["style", "ours"]["share"] == pytest.approx(2 / 3)
    assert shares["style", "ours"]["low"] < 2 / 3 < shares["style", "ours"]["high"]
    assert shares["quality", "third"]["share"] == 0
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.width > 400


def participate(chromium, folder, key, person, best):
    """Open the page, try to hand in too early, rank everything (`best` first), save; returns the saved file."""
    context = chromium.new_context(offline=True, accept_downloads=True)
    page, problems, requests = context.new_page(), [], []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((folder / "study" / "study.html").as_uri())
    assert page.locator("img").count() == len(key["trials"]) * (2 + len(key["trials"][0]["order"]))
    assert page.evaluate("Array.from(document.images).every(image => image.complete && image.naturalWidth > 0)")
    page.click("#save")
    assert page.inner_text("#state") == "Part 1: please give each rank once (style)."
    for index, trial in enumerate(key["trials"]):
        ranked = sorted(trial["order"], key=lambda method: method != best)
        for question in ("style", "quality"):
            for letter, method in zip("ABC", trial["order"], strict=True):
                box = f'select[data-trial="{index}"][data-question="{question}"][data-letter="{letter}"]'
                page.select_option(box, str(ranked.index(method) + 1))
    with page.expect_download() as download:
        page.click("#save")
    file = folder / f"answers{person}.json"
    download.value.save_as(file)
    assert download.value.suggested_filename.startswith("answers-") and "Thank you" in page.inner_text("#state")
    page.screenshot(path=str(folder / "study.png"), full_page=True)
    assert not problems and all(url.startswith(("file:", "data:", "blob:")) for url in requests)
    context.close()
    return file
