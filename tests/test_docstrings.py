"""Every public function and class says what it is; those that take tensors say of what shape."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [file for folder in ("midms", "scripts") for file in sorted((ROOT / folder).rglob("*.py"))]
_SIZE = r"(?:\.\.\.|[\w']+(?: ?[·*/+-] ?[\w'()]+)*(?: or [\w']+)?)"
#: "(B, 3, H, W)", "(N,)", "()", "(..., C)", or words that settle it.
SHAPE = re.compile(
    rf"\(\)|(?<!\w)\({_SIZE}, ?(?:{_SIZE}(?:, ?|(?=\))))*\)|\bscalars?\b|\b(?:any|same|one|equal) shapes?\b"
)
STATE = re.compile(r"(?:Mapping|[Dd]ict)\[str, Tensor\]")  # weights by their names: of whatever shape
TENSORS = re.compile(r"\bTensor\b")
#: Methods that the libraries call, whose meaning is the library's.
HOOKS = re.compile(
    r"^(setup|teardown|configure_\w+|on_\w+|\w+_step|\w+_dataloader|add_arguments|state_dict|load_state_dict)$"
)


class Definition(NamedTuple):
    """A public function, class or method, with the class that it belongs to."""

    file: str
    name: str
    node: ast.FunctionDef | ast.ClassDef
    owner: ast.ClassDef | None

    def __str__(self) -> str:
        return f"{self.file}:{self.node.lineno} {self.name}"


def public(source: Path) -> Iterator[Definition]:
    """Public functions, classes and methods of a file; a module or class that starts with "_" is private."""
    file = source.relative_to(ROOT).as_posix()
    if any(part.startswith("_") and part != "__init__.py" for part in source.parts):
        return
    for node in ast.parse(source.read_text()).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield Definition(file, node.name, node, None)
        if isinstance(node, ast.ClassDef):
            methods = [m for m in node.body if isinstance(m, ast.FunctionDef) and not m.name.startswith("_")]
            yield from (Definition(file, f"{node.name}.{method.name}", method, node) for method in methods)


def inherited(definition: Definition) -> bool:
    """Methods that a library calls, or that say with `super()` that another class describes them."""
    return definition.owner is not None and (
        HOOKS.match(definition.name.rpartition(".")[2]) is not None or bool(definition.owner.bases)
    )


def takes_tensors(node: ast.FunctionDef) -> bool:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return any(a.annotation is not None and TENSORS.search(STATE.sub("", ast.unparse(a.annotation))) for a in arguments)


def documentation(definition: Definition) -> str:
    """Its docstring, and its class's, and the comments on its fields."""
    texts = [ast.get_docstring(definition.node) or ""]
    if definition.owner is not None:
        texts.append(ast.get_docstring(definition.owner) or "")
    return "\n".join(texts)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_everything_public_has_a_docstring(source: Path) -> None:
    module = ast.parse(source.read_text())
    assert not module.body or ast.get_docstring(module), f"{source} does not say what it is for"
    missing = [str(d) for d in public(source) if not ast.get_docstring(d.node) and not inherited(d)]
    assert not missing, f"without a docstring: {missing}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_functions_of_tensors_name_a_shape(source: Path) -> None:
    silent = [
        str(d)
        for d in public(source)
        if isinstance(d.node, ast.FunctionDef) and takes_tensors(d.node) and not inherited(d)
        if not SHAPE.search(documentation(d))
    ]
    assert not silent, f"take tensors and name no shape: {silent}"


def test_silence_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "quiet.py"
    file.write_text('"""A module."""\nclass Loud:\n    """Says it."""\n    def quiet(self): ...\n')
    with pytest.raises(AssertionError, match=r"Loud\.quiet"):
        test_everything_public_has_a_docstring(file)
    file.write_text('"""A module."""\ndef warp(x: Tensor) -> Tensor:\n    """Warps (see Eq. 6, and 7) max(0, x)."""\n')
    with pytest.raises(AssertionError, match="warp"):
        test_functions_of_tensors_name_a_shape(file)
