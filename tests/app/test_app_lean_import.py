"""Gradio is imported without its stub files, and is otherwise the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("gradio", reason="needs the extra app")

PROGRAM = """
import sys
from midms.app.lean_import import lean_gradio
before = list(sys.meta_path)
with lean_gradio():
    import gradio
from gradio import component_meta
assert component_meta.create_or_modify_pyi.__module__ == "midms.app.lean_import", "Gradio has another writer now"
assert sys.meta_path == before
with gradio.Blocks() as page:
    button = gradio.Button("x")
    button.click(lambda: "y", None, button)
assert page.config["components"][0]["props"]["value"] == "x"
"""


def test_no_stub_is_written_and_components_work() -> None:
    """In a process of its own: here Gradio is imported already."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
