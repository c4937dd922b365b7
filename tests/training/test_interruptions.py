"""What happens to a training when its machine does what machines do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("interruptions.py")


def interrupt(folder: Path, weights: Path, kills: int, rest: str) -> dict:
    command = [sys.executable, str(PROGRAM), str(folder), str(weights), str(kills), rest]
    helpers = str(PROGRAM.parents[1])  # what conftest.py has pytest find
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": helpers}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_two_kills(tmp_path, tiny_weights):
    """The run goes on after each and ends with the weights of the uninterrupted one, bit for bit."""
    seen = interrupt(tmp_path, tiny_weights, 2, "kills")["killed"]
    assert seen["kills"] == 2 and seen["equal"], seen


@pytest.mark.slow
def test_told_to_stop_and_out_of_room(tmp_path, tiny_weights):
    """The same after a signal, which saves first, and after a full disk."""
    seen = interrupt(tmp_path, tiny_weights, 0, "rest")
    assert seen["whole"] == 0
    for name, code in (("SIGTERM", 143), ("SIGINT", 130)):
        assert seen[name]["code"] == code and seen[name]["equal"], seen[name]
        assert f"main.py: {name}: saved step " in seen[name]["said"]
    full = seen["full"]
    assert full["code"] == 2 and full["files"] == [full["kept"]] and full["equal"], full
    assert "could not be written (File too large)" in full["said"] and full["kept"] in full["said"]


@pytest.mark.slow
def test_twenty_kills(tmp_path, tiny_weights):
    seen = interrupt(tmp_path, tiny_weights, 20, "kills")["killed"]
    assert seen["kills"] == 20 and seen["equal"], seen
