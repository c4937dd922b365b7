"""Target prompts and the checks on prompts."""

from __future__ import annotations

import pytest
import torch

from midms.oig.prompts import check_prompts, match_batch, parse_task, replace_word

VECTORS = {"cat": [1.0, 0.0], "cats": [1.0, 0.1], "two": [0.0, 1.0], "kitten": [1.0, 0.2], "bed": [0.3, 1.0]}


def embed(words: list[str]) -> torch.Tensor:
    return torch.tensor([VECTORS[word] for word in words])


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("two cat bed", ("two dog bed", 1)),
        ("cat cat", ("dog cat", 0)),
        ("two cats", ("two dogs", 1)),
        ("two kitten", ("two dog", 1)),
    ],
)
def test_replacement(prompt: str, expected: tuple[str, int]) -> None:
    assert replace_word(prompt, "cat", "dog", embed) == expected


def test_an_exact_word_needs_no_embedding() -> None:
    def fail(words: list[str]) -> torch.Tensor:
        raise AssertionError(words)

    assert replace_word("a cat", "cat", "dog", fail).prompt == "a dog"


def test_tasks() -> None:
    assert parse_task("cat2dog") == ("cat", "dog")
    for task in ("cat", "2dog", "cat2", ""):
        with pytest.raises(ValueError, match="cat2dog"):
            parse_task(task)


@pytest.mark.parametrize("prompts", ["", "  ", [], ["a cat", ""]])
def test_empty_prompts(prompts: str | list[str]) -> None:
    with pytest.raises(ValueError, match="source"):
        check_prompts("source", prompts)


def test_prompts_must_be_texts() -> None:
    with pytest.raises(ValueError, match=r"source\[1\]: expected a text, got int"):
        check_prompts("source", ["a", 3])


def test_batches() -> None:
    assert match_batch("p", ["a"], 3) == ["a"] * 3
    assert match_batch("p", ["a", "b"], 2) == ["a", "b"]
    with pytest.raises(ValueError, match="got 2 prompts for 3 images"):
        match_batch("p", ["a", "b"], 3)
