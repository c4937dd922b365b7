"""Import of Gradio without the files that it writes for code editors.

For each of its components, Gradio parses the source and writes a `.pyi` beside it: 1.3 of the 2.4 seconds of processor
time that `import gradio` takes, and a write into the installed package. Nothing at run time reads these files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

_MODULE, _WRITER = "gradio.component_meta", "create_or_modify_pyi"


def _write_nothing(*values: object, **named: object) -> None:
    """In place of Gradio's writer of stub files."""


class _Loader(SourceFileLoader):
    """Loads `_MODULE` and replaces its `_WRITER`."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if hasattr(module, _WRITER):  # another version of Gradio may have none
            setattr(module, _WRITER, _write_nothing)


class _Finder(MetaPathFinder):
    """Finds `_MODULE` alone."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == _MODULE else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


@contextmanager
def lean_gradio() -> Iterator[None]:
    """Within this block, `import gradio` writes no stub files. Without effect once Gradio is imported."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
