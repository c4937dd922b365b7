"""What the documentation shows: its code blocks and the commands in them."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
#: First words of the commands that a reader may meet; a block that starts with one of them is a block of commands.
PROGRAMS = ("python", "make", "midms", "torchrun", "pip", "sbatch", "srun", "git", "conda", "tensorboard", "wandb",
            "source", ".venv/bin/python", "cd", "hf", "export", "jupyter", "unzip", "mkdir", "rm", "mv", "ls",
            "tail", "head", "cat", "python3", "nbclient", "docker", "curl", "wget")  # fmt: skip
SHELL = ("bash", "sh", "shell", "console")
SEPARATORS = {"&&", "||", ";", "|", "&"}
INLINE = re.compile(r"(?<!`)`((?:python|make|midms|torchrun|pip|scripts/\w+\.py|main\.py)\s[^`]+)`(?!`)")


class Block(NamedTuple):
    """Code in a Markdown file; `line` counts from 1; `language` is "" where none is named."""

    file: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


class Command(NamedTuple):
    """One simple command, with its place."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place} {' '.join(self.words)}"


@cache
def files() -> list[Path]:
    """Every page that users read."""
    return [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(file: Path) -> Iterator[Block]:
    """Fenced and indented code of a page, in order."""
    name, lines = file.relative_to(ROOT).as_posix(), [*file.read_text(encoding="utf-8").split("\n"), ""]
    held: list[str] = []
    start, fence, language = 0, "", ""
    for number, line in enumerate(lines, 1):
        opening = re.match(r"\s*(```+|~~~+)\s*([\w-]*)", line)
        if fence:
            if opening and line.strip() == fence:
                yield Block(name, start, language, _dedent(held))
                fence, held = "", []
            else:
                held.append(line)
        elif opening:
            fence, language, start = opening[1], opening[2], number + 1
        elif line.startswith("    ") and (held or not lines[number - 2].strip()):
            start = start if held else number
            held.append(line)
        elif held and line.strip():
            yield Block(name, start, "", _dedent(held))
            held = []
        elif held:
            held.append("")
    if held:
        yield Block(name, start, "", _dedent(held))


def _dedent(lines: list[str]) -> str:
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[margin:] for line in lines).strip("\n")


def kind(block: Block) -> str:
    """ "commands", "python", "yaml" or "text" (folders, formulas), by the named language or else by the content."""
    if block.language:
        named = {"python": "python", "py": "python", "yaml": "yaml", "text": "text", "json": "text", "bibtex": "text"}
        return "commands" if block.language in SHELL else named.get(block.language, f"unknown {block.language}")
    first = next(line for line in block.text.split("\n") if line.strip() and not line.startswith("#"))
    if first.split()[0].removeprefix("$") in (*PROGRAMS, "") or first.startswith("#!"):
        return "commands"
    if re.match(r"(from|import) \w", first):
        return "python"
    return "yaml" if re.match(r"(data|model|trainer|run|target):", first) else "text"


def commands(text: str, place: str) -> Iterator[Command]:
    """The simple commands of shell text: comments, prompts, redirections and leading assignments taken off."""
    for line in text.replace("\\\n", " ").split("\n"):
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in SEPARATORS:
                words.append(word)
                continue
            simple = _simple(words)
            if simple:
                yield Command(place, simple)
            words = []


def _simple(words: list[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        if word.startswith(("<", ">")) or before.startswith(("<", ">")):
            continue
        kept.append(word)
    while kept and re.match(r"[A-Z_]+=", kept[0]):
        kept.pop(0)
    return tuple(kept)


@cache
def all_blocks() -> list[Block]:
    return [block for file in files() for block in blocks(file)]


@cache
def all_commands() -> list[Command]:
    """Commands of the blocks, then those that stand within a line, each once."""
    collected = [c for block in all_blocks() if kind(block) == "commands" for c in commands(block.text, block.place)]
    for file in files():
        text = file.read_text(encoding="utf-8")
        for match in INLINE.finditer(text):
            place = f"{file.relative_to(ROOT).as_posix()}:{text.count(chr(10), 0, match.start()) + 1}"
            shown = " ".join(match[1].split())
            if shown.startswith(("scripts/", "main.py")):  # a program and some of its options
                shown = f"python {shown} ..."
            elif re.fullmatch(r"midms \w+", shown):
                shown = f"{shown} ..."
            collected += commands(shown, place)
    first: dict[tuple[str, ...], Command] = {}
    for command in collected:
        first.setdefault(command.words, command)
    return list(first.values())


def is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True
