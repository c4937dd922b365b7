"""The user study of Fig. 7: a blind, randomised ranking page, and a figure of the answers.

A trial shows a condition, an exemplar and one result per method, under letters whose order is drawn per trial. The page
has no names of methods. Only the experimenter has the `key` (trial -> method of each letter).
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, Field, StrictInt

from midms.evaluation.folders import list_images
from midms.evaluation.report import thumbnail_uri
from midms.io.files import BrokenFileError
from midms.io.schemas import check_content
from midms.visualize import save_figure

QUESTIONS = {
    "style": "Which result takes over the style of the exemplar best?",
    "quality": "Which result looks best as a picture?",
}
_LETTERS = "ABCDEFGHIJ"
_IMAGE_SIDE = 256


class Trial(NamedTuple):
    """One pair; `order` has the methods of the letters A, B, ..."""

    name: str
    order: list[str]


class Preference(NamedTuple):
    """Share of trials in which a method was ranked first, for one question, with a 95 % interval over participants.

    The interval is NaN for a single participant.
    """

    question: str
    method: str
    share: float
    low: float
    high: float
    mean_rank: float


def _images_of(folder: Path | str) -> dict[str, Path]:
    return {file.name: file.path for file in list_images(folder)[0]}


def draw_trials(names: Sequence[str], methods: Sequence[str], count: int, seed: int) -> list[Trial]:
    """Choose pairs and the order of methods in each.

    Args:
        names: pairs that every method has. methods: two to ten.
        count: number of trials; all pairs if there are fewer.
    """
    if not 2 <= len(methods) <= len(_LETTERS):
        raise ValueError(f"user study: expected 2 to {len(_LETTERS)} methods, got {len(methods)}")
    if count < 1:
        raise ValueError(f"user study: expected at least 1 trial, got a count of {count}")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(names))[:count]
    return [Trial(names[k], [methods[m] for m in rng.permutation(len(methods))]) for k in chosen]


def make_study(
    methods: Mapping[str, Path | str], conditions: Path | str, exemplars: Path | str, count: int = 20, seed: int = 0
) -> tuple[str, dict[str, Any]]:
    """The page and its key.

    Args:
        methods: name -> folder of its results. conditions, exemplars: folders; images are paired by name.
        count: number of trials. seed: of pairs and orders.
    Returns:
        The HTML page, and the key {"study": id, "trials": [{"name", "order"}]}, needed to read the answers.
    Raises:
        ValueError: the folders have no common pair.
    """
    folders = {name: _images_of(path) for name, path in methods.items()}
    extra = {"condition": _images_of(conditions), "exemplar": _images_of(exemplars)}
    shared = set.intersection(*(set(images) for images in (*folders.values(), *extra.values())))
    if not shared:
        raise ValueError("user study: no image name is in all folders; names must agree up to the extension")
    names = [name for name in next(iter(folders.values())) if name in shared]
    trials = draw_trials(names, list(methods), count, seed)
    study = hashlib.sha256(json.dumps(trials).encode()).hexdigest()[:16]
    sections = [
        _section(k, trial, folders, {role: images[trial.name] for role, images in extra.items()})
        for k, trial in enumerate(trials)
    ]
    page = _PAGE.replace("@SECTIONS@", "\n".join(sections)).replace("@STUDY@", study)
    page = page.replace("@QUESTIONS@", json.dumps(list(QUESTIONS)))
    return page, {"study": study, "trials": [trial._asdict() for trial in trials]}


def _section(index: int, trial: Trial, folders: Mapping[str, Mapping[str, Path]], extra: Mapping[str, Path]) -> str:
    shown = [(role, thumbnail_uri(path, _IMAGE_SIDE)) for role, path in extra.items()]
    letters = _LETTERS[: len(trial.order)]
    shown += [
        (letter, thumbnail_uri(folders[method][trial.name], _IMAGE_SIDE))
        for letter, method in zip(letters, trial.order, strict=True)
    ]
    figures = "".join(
        f'<figure><img alt="{label}" src="{uri}"><figcaption>{label}</figcaption></figure>' for label, uri in shown
    )
    rows = []
    for question, text in QUESTIONS.items():
        boxes = "".join(
            f'<label>{letter} <select data-trial="{index}" data-question="{question}" data-letter="{letter}">'
            f'<option value="">rank</option>{"".join(f"<option>{r + 1}</option>" for r in range(len(letters)))}'
            "</select></label> "
            for letter in letters
        )
        rows.append(f"<p>{html.escape(text)} Rank 1 is best.<br>{boxes}</p>")
    return f"<section><h2>{index + 1}</h2>{figures}{''.join(rows)}</section>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Ranking study</title><style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem }
figure { display: inline-block; margin: 0 1rem 1rem 0 } figcaption { text-align: center }
section { border-top: 1px solid #ccc } figure img { min-width: 12rem }
#state { color: #a00 } #state.done { color: #070 }
</style></head><body><h1>Ranking study</h1>
<p>Each part shows a condition (what should be drawn), an exemplar (how it should look) and some results.
Please rank them.</p>
@SECTIONS@
<p><button id="save">Save my answers</button> <span id="state"></span></p>
<script>
const study = "@STUDY@", questions = @QUESTIONS@;
document.getElementById("save").onclick = () => {
  const answers = {}, state = document.getElementById("state");
  for (const box of document.querySelectorAll("select")) {
    const {trial, question, letter} = box.dataset;
    ((answers[trial] ??= {})[question] ??= {})[letter] = Number(box.value);
  }
  for (const [trial, byQuestion] of Object.entries(answers))
    for (const question of questions) {
      const ranks = Object.values(byQuestion[question]).sort((a, b) => a - b);
      if (ranks.some((rank, k) => rank !== k + 1)) {
        state.textContent = `Part ${Number(trial) + 1}: please give each rank once (${question}).`;
        return;
      }
    }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify({study, answers})], {type: "application/json"}));
  link.download = `answers-${Math.random().toString(36).slice(2, 10)}.json`;
  link.click();
  state.className = "done";
  state.textContent = "Thank you. Please send the file that was just saved.";
};
</script></body></html>
"""


class _TrialKey(BaseModel):
    name: str
    order: list[str] = Field(min_length=2, max_length=len(_LETTERS))


class _Key(BaseModel):
    """What `make_study` returns, and `key.json` holds."""

    study: str
    trials: list[_TrialKey] = Field(min_length=1)


class _Answers(BaseModel):
    """What the page saves: trial -> question -> letter -> rank."""

    study: str
    answers: dict[str, dict[str, dict[str, StrictInt]]]


def check_key(content: Any, source: str) -> dict[str, Any]:
    """The key of a study.

    Raises:
        BrokenFileError: it is something else, or its trials have other methods; the message names `source`.
    """
    key: _Key = check_content(_Key, content, source, "the key of a study, which `make` wrote as key.json")
    if len({tuple(sorted(trial.order)) for trial in key.trials}) > 1 or any(
        len(set(trial.order)) < len(trial.order) for trial in key.trials
    ):
        raise BrokenFileError(Path(source), "trials with other methods; expected the same in each, each once")
    return key.model_dump()


def read_answers(key: Mapping[str, Any], content: Any, source: str) -> dict[str, np.ndarray]:
    """One participant's ranks per question, (trials, methods in sorted order).

    Raises:
        ValueError: answers to another study, or invalid ranks; the message names `source`.
    """
    answers: _Answers = check_content(_Answers, content, source, "answers to a study, which its page saves")
    if answers.study != key["study"]:
        raise ValueError(f"{source}: answers to study {answers.study[:40]!r}, the key is of {key['study']!r}")
    methods = sorted(key["trials"][0]["order"])
    ranks = {question: np.zeros((len(key["trials"]), len(methods))) for question in QUESTIONS}
    for index, trial in enumerate(key["trials"]):
        for question in QUESTIONS:
            given = answers.answers.get(str(index), {}).get(question, {})
            row = [given.get(letter, 0) for letter, _ in zip(_LETTERS, trial["order"], strict=False)]
            if sorted(row) != list(range(1, len(methods) + 1)):
                raise ValueError(f"{source}: part {index + 1}, {question}: {row} is not a ranking of {len(methods)}")
            for method, rank in zip(trial["order"], row, strict=True):
                ranks[question][index, methods.index(method)] = rank
    return ranks


def preferences(
    key: Mapping[str, Any], participants: Sequence[dict[str, np.ndarray]], seed: int = 0
) -> list[Preference]:
    """Share of first ranks and mean rank per question and method.

    The interval is a bootstrap over participants (2,000 draws), because the answers of one person are not independent.
    """
    methods = sorted(key["trials"][0]["order"])
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(participants), (2000, len(participants)))
    results = []
    for question in QUESTIONS:
        ranks = np.stack([person[question] for person in participants])  # (people, trials, methods)
        first = (ranks == 1).mean(axis=1)  # (people, methods)
        low, high = np.quantile(first[draws].mean(axis=1), [0.025, 0.975], axis=0)
        if len(participants) < 2:
            low = high = np.full(len(methods), np.nan)
        for m, method in enumerate(methods):
            share, rank = float(first[:, m].mean()), float(ranks[:, :, m].mean())
            results.append(Preference(question, method, share, float(low[m]), float(high[m]), rank))
    return results


def draw_figure(results: Sequence[Preference], people: int, path: Path) -> None:
    """Bars of the shares of first ranks with their intervals, one group per question."""
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(result.method for result in results))
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(methods)
    for m, method in enumerate(methods):
        own = [result for result in results if result.method == method]
        x = np.arange(len(own)) + (m - (len(methods) - 1) / 2) * width
        share = np.array([result.share for result in own])
        spread = np.array([[r.share - r.low for r in own], [r.high - r.share for r in own]])
        axes.bar(x, 100 * share, width, label=method, yerr=100 * spread.clip(min=0), capsize=3)
    axes.set_xticks(range(len(QUESTIONS)), list(QUESTIONS))
    axes.set_ylabel("ranked first, %")
    axes.set_ylim(0, 105)
    axes.set_title(f"{people} participants, 95 % intervals" if people > 1 else "1 participant, no interval")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(path, figure, dpi=150)
