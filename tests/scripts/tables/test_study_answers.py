"""Answers of the user study: what is read, what is refused, and what the shares of many people mean."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from midms.io.files import BrokenFileError
from tables.user_study import QUESTIONS, check_key, draw_trials, make_study, preferences, read_answers

METHODS = ["gan", "midms", "warp"]
KEY = {
    "study": "0123456789abcdef",
    "trials": [trial._asdict() for trial in draw_trials([f"pair{k}" for k in range(6)], METHODS, 6, seed=1)],
}


def answers(ranks: dict[str, int]) -> dict[str, Any]:
    """Answers of somebody who gives every method the same rank in all trials."""
    given = {
        str(k): {q: {"ABC"[i]: ranks[method] for i, method in enumerate(trial["order"])} for q in QUESTIONS}
        for k, trial in enumerate(KEY["trials"])
    }
    return {"study": KEY["study"], "answers": given}


BEST = answers({"midms": 1, "warp": 2, "gan": 3})


def test_ranks_are_those_of_methods_whatever_their_letters_were() -> None:
    assert len({tuple(trial["order"]) for trial in KEY["trials"]}) > 1, "the letters stand for other methods"
    for ranks in read_answers(KEY, BEST, "anna.json").values():
        assert np.array_equal(ranks, np.tile([3, 1, 2], (6, 1))), "columns: gan, midms, warp"


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"A": 1, "B": 2}, "[1, 2, 0]"),
        ({"A": 1, "B": 1, "C": 2}, "[1, 1, 2]"),
        ({"A": 0, "B": 1, "C": 2}, "[0, 1, 2]"),
        ({"A": 2, "B": 3, "C": 4}, "[2, 3, 4]"),
        ({"A": -1, "B": 1, "C": 3}, "[-1, 1, 3]"),
        ({}, "[0, 0, 0]"),
    ],
)
def test_a_part_without_each_rank_once_is_named(row: dict[str, int], shown: str) -> None:
    content = copy.deepcopy(BEST)
    content["answers"]["4"]["quality"] = row
    with pytest.raises(ValueError, match=re.escape(f"anna.json: part 5, quality: {shown} is not a ranking of 3")):
        read_answers(KEY, content, "anna.json")


@pytest.mark.parametrize("index", ["0", "5"])
def test_a_part_without_answers_is_named(index: str) -> None:
    content = copy.deepcopy(BEST)
    del content["answers"][index]
    with pytest.raises(ValueError, match=rf"anna.json: part {int(index) + 1}, style: .* is not a ranking of 3"):
        read_answers(KEY, content, "anna.json")


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {"study": KEY["study"]},
        {"study": 3, "answers": {}},
        {"study": KEY["study"], "answers": {"0": {"style": {"A": "1"}}}},
        {"study": KEY["study"], "answers": {"0": {"style": {"A": 1.5}}}},
        {"study": KEY["study"], "answers": {"0": {"style": {"A": True}}}},
    ],
)
def test_another_file_is_no_answers(content: Any) -> None:
    """Ranks are whole numbers; a text or a truth value is not read as one."""
    with pytest.raises(BrokenFileError, match=r"anna.json.*answers to a study, which its page saves") as caught:
        read_answers(KEY, content, "anna.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("orders", "words"),
    [
        ([["a", "b"], ["a", "c"]], "trials with other methods; expected the same in each, each once"),
        ([["a", "b"], ["a", "b", "c"]], "trials with other methods"),
        ([["a", "a"]], "trials with other methods"),
        ([["a"]], "key of a study"),
        ([list("abcdefghijk")], "key of a study"),
        ([], "key of a study"),
    ],
)
def test_a_key_has_the_same_two_to_ten_methods_in_every_trial(orders: list[list[str]], words: str) -> None:
    content = {"study": "x", "trials": [{"name": str(k), "order": order} for k, order in enumerate(orders)]}
    with pytest.raises(BrokenFileError, match=rf"key\.json.*{words}"):
        check_key(content, "key.json")


def test_a_key_survives_its_file() -> None:
    assert check_key(json.loads(json.dumps(KEY)), "key.json") == KEY


def test_shares_of_first_ranks_add_up_to_one_and_mean_ranks_to_their_middle() -> None:
    rng = np.random.default_rng(0)
    people = [
        {question: np.stack([rng.permutation(3) + 1 for _ in range(6)]) for question in QUESTIONS} for _ in range(7)
    ]
    results = preferences(KEY, people)
    assert [(r.question, r.method) for r in results] == [(q, m) for q in QUESTIONS for m in METHODS]
    for question in QUESTIONS:
        rows = [result for result in results if result.question == question]
        assert sum(row.share for row in rows) == pytest.approx(1)
        assert sum(row.mean_rank for row in rows) == pytest.approx(6)
    assert all(r.low <= r.share <= r.high and 0 <= r.low and r.high <= 1 for r in results)
    assert preferences(KEY, people) == results, "the same draws in every run"
    assert preferences(KEY, people[::-1])[0].share == pytest.approx(results[0].share), "in any order of people"


def test_the_interval_is_over_people_and_shrinks_with_their_number() -> None:
    sides = [
        read_answers(KEY, answers(dict(zip(METHODS, ranks, strict=True))), "x") for ranks in ((1, 2, 3), (3, 1, 2))
    ]
    widths = []
    for count in (2, 10, 40):
        midms = next(r for r in preferences(KEY, sides * count) if (r.question, r.method) == ("style", "midms"))
        assert midms.share == 0.5 and midms.mean_rank == 1.5
        widths.append(midms.high - midms.low)
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(80), rel=0.2), "the normal interval of a share"


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (5, 5), (99, 8)])
def test_no_more_trials_than_pairs_each_with_every_method(count: int, expected: int) -> None:
    names = [f"p{k}" for k in range(8)]
    trials = draw_trials(names, METHODS, count, seed=3)
    assert len(trials) == expected == len({trial.name for trial in trials})
    assert all(sorted(trial.order) == METHODS for trial in trials) and {t.name for t in trials} <= set(names)
    assert draw_trials(names, METHODS, count, seed=3) == trials


def test_pairs_are_those_that_every_folder_has_in_any_format(tmp_path: Path) -> None:
    kept = {"one": "ab", "two": "bc", "conditions": "abc", "exemplars": "b"}
    for place, (folder, names) in enumerate(kept.items()):
        (tmp_path / folder).mkdir()
        for name in names:
            suffix = "jpg" if place % 2 else "png"
            Image.new("RGB", (8, 8), (80 * place, 0, 0)).save(tmp_path / folder / f"{name}.{suffix}")
    methods = {name: tmp_path / name for name in ("one", "two")}
    page, key = make_study(methods, tmp_path / "conditions", tmp_path / "exemplars")
    assert [trial["name"] for trial in key["trials"]] == ["b"] and page.count("<section>") == 1
    assert check_key(key, "key.json") == key
