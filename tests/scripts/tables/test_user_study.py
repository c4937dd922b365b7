"""The user study: blind pages, orders that are drawn, answers that are checked, shares that are right."""

import json

import numpy as np
import pytest
from PIL import Image

from tables.user_study import QUESTIONS, draw_figure, draw_trials, make_study, preferences, read_answers


@pytest.fixture
def folders(tmp_path):
    for index, role in enumerate(("midms", "rival", "condition", "exemplar")):
        (tmp_path / role).mkdir()
        for k in range(4):
            Image.new("RGB", (8, 8), (60 * index, 60 * k, 0)).save(tmp_path / role / f"pair{k}.png")
    return tmp_path


def answer(key, best):
    """Answers of somebody who always ranks `best` first."""
    answers = {}
    for index, trial in enumerate(key["trials"]):
        ranks = {"AB"[k]: 1 if method == best else 2 for k, method in enumerate(trial["order"])}
        answers[str(index)] = dict.fromkeys(QUESTIONS, ranks)
    return {"study": key["study"], "answers": answers}


def study(folders, **options):
    methods = {name: folders / name for name in ("midms", "rival")}
    return make_study(methods, folders / "condition", folders / "exemplar", **options)


def test_the_page_is_blind_whole_and_repeatable(folders):
    page, key = study(folders, count=3, seed=1)
    assert "midms" not in page and "rival" not in page and "pair" not in page
    assert page.count("data:image/jpeg;base64,") == 3 * 4 and "http" not in page
    assert page.count("<select") == 3 * 2 * 2 and key["study"] in page
    assert study(folders, count=3, seed=1) == (page, key)
    assert study(folders, count=3, seed=2)[1] != key


def test_orders_are_balanced_and_pairs_differ():
    trials = draw_trials([str(k) for k in range(400)], ["a", "b"], 400, 0)
    assert len({trial.name for trial in trials}) == 400
    assert 150 < sum(trial.order[0] == "a" for trial in trials) < 250
    with pytest.raises(ValueError, match="2 to 10 methods, got 1"):
        draw_trials(["x"], ["a"], 1, 0)
    with pytest.raises(ValueError, match="at least 1 trial, got a count of 0"):
        draw_trials(["x"], ["a", "b"], 0, 0)


def test_folders_without_a_common_name_are_refused(folders):
    (folders / "other").mkdir()
    Image.new("RGB", (8, 8)).save(folders / "other" / "z.png")
    with pytest.raises(ValueError, match="no image name is in all folders"):
        make_study({"a": folders / "midms", "b": folders / "other"}, folders / "condition", folders / "exemplar")


def test_shares_and_intervals(folders, tmp_path):
    _, key = study(folders)
    people = [read_answers(key, answer(key, best), "x") for best in ("midms", "midms", "midms", "rival")]
    results = preferences(key, people)
    assert [(r.question, r.method) for r in results[:2]] == [("style", "midms"), ("style", "rival")]
    assert results[0].share == 0.75 and results[1].share == 0.25 and results[0].mean_rank == 1.25
    assert results[0].low < 0.75 < results[0].high == 1
    unanimous = preferences(key, people[:3])
    assert (unanimous[0].low, unanimous[0].high) == (1, 1)
    alone = preferences(key, people[:1])
    assert alone[0].share == 1 and np.isnan(alone[0].low)  # one person says nothing about the spread
    draw_figure(alone, 1, tmp_path / "alone.png")
    draw_figure(results, 4, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert np.asarray(image).std() > 10


def test_answers_that_are_no_ranking_are_named(folders):
    _, key = study(folders)
    good = answer(key, "midms")
    broken = json.loads(json.dumps(good))
    broken["answers"]["1"]["style"]["A"] = broken["answers"]["1"]["style"]["B"]
    with pytest.raises(ValueError, match=r"anna.json: part 2, style: .* not a ranking"):
        read_answers(key, broken, "anna.json")
    with pytest.raises(ValueError, match=r"anna.json: answers to study 'x'"):
        read_answers(key, good | {"study": "x"}, "anna.json")
