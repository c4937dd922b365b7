"""Target prompts from a source prompt and a task such as cat2dog."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

EmbedWords = Callable[[list[str]], Tensor]  # n words, embedded separately -> (n, D)


class Replacement(NamedTuple):
    """A prompt after the replacement, and the index of the replaced word."""

    prompt: str
    position: int


def parse_task(task: str) -> tuple[str, str]:
    """ "cat2dog" -> ("cat", "dog").

    Raises:
        ValueError: the task has another form.
    """
    source, separator, target = task.strip().partition("2")
    if not (separator and source and target):
        raise ValueError(f"task must look like cat2dog (source word, 2, target word), got {task!r}")
    return source, target


def replace_word(prompt: str, source: str, target: str, embed_words: EmbedWords) -> Replacement:
    """Replace the word of `prompt` that stands for `source`.

    The first word equal to `source` (case-sensitive) is replaced. Without such a word, the word whose text embedding
    has the largest cosine with that of `source` is chosen. If it contains `source`, that part is replaced ("cats" ->
    "dogs"), else the whole word.

    Raises:
        ValueError: the prompt is empty.
    """
    words = prompt.split()
    if not words:
        raise ValueError("prompt: expected at least one word, got an empty text")
    if source in words:
        index = words.index(source)
        words[index] = target
        return Replacement(" ".join(words), index)
    embeddings = embed_words([source, *words])  # (1 + n, D)
    cosines = functional.cosine_similarity(embeddings[:1], embeddings[1:], dim=-1)  # (n,)
    index = int(torch.argmax(cosines))
    words[index] = words[index].replace(source, target) if source in words[index] else target
    return Replacement(" ".join(words), index)


def check_prompts(name: str, prompts: str | list[str]) -> list[str]:
    """A list of non-empty prompts.

    Raises:
        ValueError: the list or one of the prompts is empty.
    """
    listed = [prompts] if isinstance(prompts, str) else list(prompts)
    if not listed:
        raise ValueError(f"{name}: expected at least one prompt, got an empty list")
    for index, prompt in enumerate(listed):
        if not isinstance(prompt, str):
            raise ValueError(f"{name}[{index}]: expected a text, got {type(prompt).__name__}")
        if not prompt.strip():
            raise ValueError(f"{name}[{index}]: expected a prompt, got an empty text")
    return listed


def match_batch(name: str, prompts: list[str], batch: int) -> list[str]:
    """Repeat one prompt for the whole batch, or check that there is one per image.

    Raises:
        ValueError: another number of prompts.
    """
    if len(prompts) == 1:
        return prompts * batch
    if len(prompts) != batch:
        raise ValueError(f"{name}: got {len(prompts)} prompts for {batch} images; give one, or one per image")
    return prompts
