"""Every program's `--help` comes at once, for it imports none of the heavy libraries."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from programs import ROOT

HEAVY = ("torch", "diffusers", "transformers", "pytorch_lightning", "matplotlib", "gradio", "cv2", "skimage")
#: Runs a file, or a module given as `-m name`, and says at its end what that has imported.
CODE = f"""
import json, os.path, runpy, sys
module = sys.argv[1] == "-m"
sys.argv = sys.argv[2:] if module else sys.argv[1:]
sys.path[0] = "" if module else os.path.dirname(sys.argv[0])  # as python itself would
try:
    (runpy.run_module if module else runpy.run_path)(sys.argv[0], run_name="__main__")
except SystemExit as end:
    found = {{"code": end.code, "heavy": [name for name in {HEAVY} if name in sys.modules]}}
    print(json.dumps(found), file=sys.stderr)
"""
FILES = [["main.py"], *([file.relative_to(ROOT).as_posix()] for file in sorted((ROOT / "scripts").glob("*.py")))]
MODULES = [
    ["-m", ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")]
    for file in sorted((ROOT / "midms").rglob("*.py"))
    if '\nif __name__ == "__main__":\n' in file.read_text(encoding="utf-8")
]
COMMANDS = [["-m", "midms.cli", command] for command in ("translate", "show", "info", "app")]


@pytest.mark.parametrize("words", [*FILES, *MODULES, *COMMANDS], ids=" ".join)
def test_help_comes_at_once(words: list[str]) -> None:
    command = [sys.executable, "-c", CODE, *words, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    report = json.loads(done.stderr)
    assert done.stdout.startswith("usage: ") and report["code"] == 0
    assert not report["heavy"]
