"""Every command of the documentation is understood by the program it calls; the cheap ones are run."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from documented import ROOT, Command, all_blocks, all_commands, commands, is_python, kind
from programs import load_program

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROGRAMS = [
    ROOT / "main.py",
    ROOT / "midms" / "cli.py",
    ROOT / "midms" / "app" / "__main__.py",
    *sorted((ROOT / "scripts").glob("*.py")),
]


class Parsed(Exception):
    """A command line was understood; nothing was done."""


@cache
def module_of(name: str) -> ModuleType:
    """A script by its path below the root, or a module by its dotted name (`python -m`)."""
    if not name.endswith(".py"):
        package = importlib.util.find_spec(name)
        assert package is not None, f"no module {name}"
        return importlib.import_module(f"{name}.__main__" if package.submodule_search_locations else name)
    return load_program(name)


def stopping(parse: Callable[..., Any]) -> Callable[..., Any]:
    """`parse`, which raises `Parsed` where it would return."""

    def stop(*arguments: Any) -> None:
        raise Parsed(parse(*arguments))

    return stop


def understand(module: ModuleType, arguments: list[str], patch: pytest.MonkeyPatch) -> None:
    """Let a program parse a command line, with the checks it makes on it, and stop there."""
    if "..." in arguments:  # an abbreviation: only the options shown have to exist
        shown = {word for word in arguments if word.startswith("--")}
        text = Path(str(module.__file__)).read_text() + (ROOT / "midms" / "options.py").read_text()
        assert all(f'"{option}"' in text for option in shown), f"not all of {shown} are options"
        return
    if hasattr(module, "parse"):
        module.parse(arguments)
        return
    builder = getattr(module, "build_parser", getattr(module, "parser", None))
    if builder is not None:
        getattr(module, "check_options", lambda options: None)(builder().parse_args(arguments))
        return

    for name in ("parse_args", "parse_intermixed_args"):
        patch.setattr(argparse.ArgumentParser, name, stopping(getattr(argparse.ArgumentParser, name)))
    with pytest.raises(Parsed):
        module.main(arguments)


def compose(arguments: list[str]) -> None:
    """The configs of a training command exist, merge, and hold no key that nothing reads."""
    from midms.config import check, load_config

    options = module_of("main.py").parse(arguments)
    check(load_config([ROOT / file for file in options.base], options.overrides))


def check_python(words: list[str], patch: pytest.MonkeyPatch) -> None:
    if words[0] == "-m":
        if words[1].startswith("midms"):
            understand(module_of(words[1]), words[2:], patch)
        else:
            assert words[1] in ("pip", "pytest", "venv", "build", "notebook"), f"no such module is used here: {words}"
        return
    understand(module_of(words[0]), words[1:], patch)
    if words[0] == "main.py" and "..." not in words:
        compose(words[1:])


def check_make(words: list[str], patch: pytest.MonkeyPatch) -> None:
    for target in words:
        if "=" not in target:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), f"Makefile has no target {target}"


def check_torchrun(words: list[str], patch: pytest.MonkeyPatch) -> None:
    from torch.distributed.run import get_args_parser

    options = get_args_parser().parse_args(words)
    check_python([options.training_script, *options.training_script_args], patch)


def check_pip(words: list[str], patch: pytest.MonkeyPatch) -> None:
    assert words[0] in ("install", "download")
    for word in words[1:]:
        for extra in (re.findall(r"\[([\w,]+)\]", word) or [""])[0].split(","):
            assert not extra or extra in PYPROJECT["project"]["optional-dependencies"], f"no extra {extra}"


def check_midms(words: list[str], patch: pytest.MonkeyPatch) -> None:
    script = PYPROJECT["project"].get("scripts", {}).get("midms")
    assert script, "pyproject.toml declares no program called midms"
    known = (ROOT / "midms" / "cli.py").read_text()
    assert words[0] == "--help" or f'"{words[0]}"' in known, f"midms has no command {words[0]}"
    if words[0] == "app":  # has options of its own
        understand(module_of("midms.app"), words[1:], patch)
    else:
        understand(module_of(script.split(":")[0]), words, patch)


def check_launcher(words: list[str], patch: pytest.MonkeyPatch) -> None:
    """`srun [options] PROGRAM ...`, `sbatch FILE`: what is launched exists."""
    rest = [*words]
    while rest and rest[0].startswith("-"):
        rest.pop(0)
    assert rest, "nothing is launched"
    if rest[0] in HANDLERS:
        HANDLERS[rest[0]](rest[1:], patch)
    else:
        assert (ROOT / rest[0]).is_file() or any(rest[0] in block.text for block in all_blocks()), f"no file {rest[0]}"


def check_tool(words: list[str], patch: pytest.MonkeyPatch) -> None:
    """Tools of the system: only files of this repository that they are given have to exist."""
    for word in words:
        if word.startswith(("docs/", "configs/", "scripts/", "notebooks/", "environment")):
            assert (ROOT / word).exists(), f"no file {word}"


HANDLERS: dict[str, Callable[[list[str], pytest.MonkeyPatch], None]] = {
    "python": check_python,
    "python3": check_python,
    ".venv/bin/python": check_python,
    "make": check_make,
    "torchrun": check_torchrun,
    "pip": check_pip,
    "midms": check_midms,
    "srun": check_launcher,
    "sbatch": check_launcher,
} | dict.fromkeys(
    ("git", "conda", "tensorboard", "wandb", "source", "cd", "hf", "export", "jupyter", "unzip", "mkdir", "mv"),
    check_tool,
)


def words_of(command: Command) -> list[str]:
    """Without the brackets of optional arguments."""
    return [word if "[" in word[1:] else word.strip("[]") for word in command.words]


def help_commands() -> list[Command]:
    """Commands shown by the programs' own `--help`."""
    collected = []
    for program in PROGRAMS:
        docstring = program.read_text().split('"""')[1].replace("\\\\\n", "\\\n")
        lines = [line.strip() for line in docstring.replace("\\\n", " ").split("\n")]
        place = program.relative_to(ROOT).as_posix()
        shown = [line for line in lines if line.startswith(("python ", "torchrun ", "midms "))]
        collected += [command for line in shown for command in commands(line, place)]
    return collected


@pytest.mark.parametrize("command", [*all_commands(), *help_commands()], ids=str)
def test_command_is_understood(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *arguments = words_of(command)
    assert name in HANDLERS, f"{command.place}: no rule for {name!r}: add one here, or mend the page"
    try:
        HANDLERS[name](arguments, monkeypatch)
    except SystemExit as stopped:
        assert stopped.code == 0, f"{command}: {capsys.readouterr().err.strip()}"


def test_every_block_is_of_a_known_kind() -> None:
    kinds = {block.place: kind(block) for block in all_blocks()}
    assert set(kinds.values()) <= {"commands", "python", "yaml", "text"}, kinds
    for block in all_blocks():
        if kind(block) == "text":
            hidden = [line for line in block.text.split("\n") if line.split(" ")[0].removeprefix("$") in HANDLERS]
            assert not hidden, f"{block.place}: commands in a block of text: {hidden}"
        if kind(block) == "python":
            assert is_python(block.text), f"{block.place}: no Python"


def test_a_wrong_command_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules can fail: a misspelt option, program, target, extra, config key and module."""
    wrong = ["python scripts/sample.py --condtion a.png --out o", "python scripts/none.py", "make nothing",
             "pip install 'midms[none]'", "python main.py --base configs/demo.yaml -t data.params.batchsize=4",
             "python -m midms.none", "python main.py --base configs/none.yaml -t"]  # fmt: skip
    for text in wrong:
        (command,) = commands(text, "here")
        with pytest.raises((AssertionError, SystemExit, ValueError)):
            HANDLERS[command.words[0]](list(command.words[1:]), monkeypatch)


def test_makefile_targets_expand() -> None:
    if shutil.which("make") is None:
        pytest.skip("needs a program called make")
    targets = sorted({word for c in all_commands() if c.words[0] == "make" for word in c.words[1:] if "=" not in word})
    done = subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
