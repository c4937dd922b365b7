"""No reader of a file that a user names waits on a named pipe, and none opens files past the one opener."""

from __future__ import annotations

import ast
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from midms.checkpoints.ldm_config import read_ldm_yaml
from midms.checkpoints.reading import read_tensors
from midms.conditions.annotators import image_features
from midms.conditions.poses import read_json_poses, read_text_poses
from midms.config import load_config
from midms.data.exemplars import read_names, read_pairs
from midms.io.files import read_json, read_text
from midms.io.images import open_image, read_header
from midms.io.maps import read_maps
from midms.io.weights import load_state, read_state
from midms.training.checkpoints import read_checkpoint
from midms.training.errors import TrainingError

ROOT = Path(__file__).resolve().parents[2]
READERS: dict[str, Callable[[Path], object]] = {
    "text": read_text,
    "json": read_json,
    "yaml": lambda file: load_config([file]),
    "published yaml": read_ldm_yaml,
    "names": read_names,
    "pairs": read_pairs,
    "joints in JSON": read_json_poses,
    "joints in text": lambda file: read_text_poses(file, file),
    "picture": open_image,
    "size of a picture": read_header,
    "maps": lambda file: read_maps(file, None),
    "foreign weights": read_tensors,
    "weights of a network": lambda file: read_state(file, "a network"),
    "VGG-19 of the features": lambda file: image_features("vgg19", str(file)),
    "checkpoint of a run": read_checkpoint,
}
#: Calls of modules that read only files of their own, which they have made or found to be files.
OWN_FILES = {
    "midms/training/callbacks.py": "metrics.csv of the run",
    "midms/training/curves.py": "metrics.csv of the run",
    "midms/training/memory.py": "the system's own count of free memory",
    "midms/training/folder.py": "the lock of the run",
    "midms/training/checkpoints.py": "after check_readable",
    "midms/data/pair_lists.py": "features of the cache",
    "midms/data/cache.py": "after check_readable",
    "midms/data/procedural/cache.py": "drawn scenes",
    "midms/evaluation/rows.py": "numbers of the cache",
    "midms/evaluation/folders.py": "bytes in memory",
    "midms/checkpoints/reading.py": "after check_readable",
    "midms/app/faults.py": "the log of faults",
    "midms/app/ui.py": "an event of the page called load",
}
OPENING = {"open", "read_text", "read_bytes", "load", "load_file", "fromfile", "loadtxt", "genfromtxt"}


#: Tensors that no network has as a weight.
NO_WEIGHTS = [
    (torch.full((3, 2), float("nan")), "holds NaN or infinite"),
    (torch.full((3, 2), -float("inf"), dtype=torch.float16), "holds NaN or infinite"),
    (torch.zeros(3, 2, dtype=torch.int8), "has dtype torch.int8"),
    (torch.zeros(3, 2, dtype=torch.complex64), "has dtype torch.complex64"),
    (torch.eye(3).to_sparse(), "is a sparse_coo tensor"),
    (torch.empty(2**40, device="meta"), "is a meta tensor"),
    (torch.zeros(1).expand(2**20, 2**20), "claims shape"),
]


@pytest.mark.parametrize("kind", READERS)
def test_a_pipe_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    pipe = tmp_path / "given.png"
    os.mkfifo(pipe)
    old = signal.signal(signal.SIGALRM, waits)
    signal.alarm(60)  # a failing test ends too
    try:
        _refused(READERS[kind], pipe)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def waits(*_: object) -> None:
    raise AssertionError("the reader waits on the pipe")


def _refused(read: Callable[[Path], object], pipe: Path) -> None:
    with pytest.raises((ValueError, TrainingError), match=r"pipe|no VGG-19 weights") as caught:
        read(pipe)
    assert str(pipe) in str(caught.value) and "\n" not in str(caught.value)


def opened_past(file: Path) -> set[str]:
    """Names of calls that open files, other than methods of our own readers, in a module."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in OPENING and not (isinstance(node.func, ast.Name) and name != "open"):
                found.add(name)
    return found


def test_files_are_opened_in_one_place() -> None:
    opening = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "midms").rglob("*.py")
        if opened_past(file) and "io" not in file.relative_to(ROOT).parts
    }
    assert opening == set(OWN_FILES), "use midms.io.files.read_text and its neighbours"


def test_weights_that_are_none_are_told(tmp_path: Path) -> None:
    file, network = tmp_path / "w.pth", torch.nn.Linear(2, 3)
    torch.save(network.state_dict(), file)
    load_state(network, read_state(file, "this network"), file, "this network")
    with pytest.raises(ValueError, match=r"w\.pth: not the weights of another: size mismatch for weight"):
        load_state(torch.nn.Linear(3, 3), read_state(file, "another"), file, "another")
    for value, words in NO_WEIGHTS:
        torch.save({"weight": value, "bias": torch.zeros(3)}, file)
        with pytest.raises(ValueError, match=rf"w\.pth: weight {words}") as caught:
            read_state(file, "VGG-19")
        assert "\n" not in str(caught.value)
    for content in ([1, 2], {"a": 1}, 7):
        torch.save(content, file)
        with pytest.raises(ValueError, match="not the weights of VGG-19: expected names with tensors"):
            read_state(file, "VGG-19")
    for content in (b"", b"PK\x03\x04", b"\x80\x02c", b"junk" * 99):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"w\.pth: ") as caught:
            read_state(file, "VGG-19")
        assert "\n" not in str(caught.value)
