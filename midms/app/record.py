"""A finished picture as files: settings inside the PNG, and the inputs with the command that makes it again."""

from __future__ import annotations

import io
import shlex
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from midms.app.actions import Result, Task
from midms.provenance import array_digest, png_bytes, text_chunk, versions


class Saved(NamedTuple):
    """Where a result was written."""

    picture: Path  # PNG with the settings as JSON in the text chunk `midms`
    bundle: Path  # ZIP: the picture, its inputs, and the command as text
    command: str  # to be run where the bundle was unpacked


def settings_of(task: Task, weights: str) -> dict[str, Any]:
    """What decides the picture, ready for JSON; inputs by the hash of their values."""
    return {
        "weights": weights,
        "T": task.steps,
        "N": task.calls,
        "threshold": task.threshold,
        "seed": task.seed,
        "condition": array_digest(task.condition),
        "exemplars": [array_digest(chosen.pixels) for chosen in task.exemplars],
        "masks": [None if chosen.allowed is None else array_digest(chosen.allowed) for chosen in task.exemplars],
        "command": command_of(task, weights),
        "versions": versions(),
    }


def command_of(task: Task, weights: str) -> str:
    """The command line that makes the same picture from the files of `bundle_files`."""
    words = ["midms", "translate", "--condition", "condition.npy", "--exemplar"]
    words += [f"exemplar_{number}.png" for number in range(1, len(task.exemplars) + 1)]
    if any(chosen.allowed is not None for chosen in task.exemplars):
        words += ["--exemplar-mask", *(f"mask_{number}.png" for number in range(1, len(task.exemplars) + 1))]
    if task.exemplars[0].condition is not None:
        words += ["--exemplar-condition"]
        words += [f"exemplar_condition_{number}.npy" for number in range(1, len(task.exemplars) + 1)]
    words += ["--steps", str(task.steps), "--calls", str(task.calls), "--threshold", repr(task.threshold)]
    words += ["--seed", str(task.seed), "--weights", weights, "--out", "again.png"]
    return shlex.join(words)


def bundle_files(result: Result, weights: str) -> dict[str, bytes]:
    """Names and contents of everything that the command reads, with the picture and the command itself."""
    task = result.task
    files = {
        "result.png": png_bytes(result.pixels, text_chunk(settings_of(task, weights))),
        "condition.npy": _npy(task.condition),
    }
    for number, chosen in enumerate(task.exemplars, start=1):
        files[f"exemplar_{number}.png"] = png_bytes(chosen.pixels)
        if any(other.allowed is not None for other in task.exemplars):
            allowed = np.ones(chosen.pixels.shape[:2], bool) if chosen.allowed is None else chosen.allowed
            files[f"mask_{number}.png"] = png_bytes(np.where(allowed, 255, 0).astype(np.uint8))
        if chosen.condition is not None:
            files[f"exemplar_condition_{number}.npy"] = _npy(chosen.condition)
    return files | {"command.txt": (command_of(task, weights) + "\n").encode()}


def save_result(folder: Path, result: Result, weights: str) -> Saved:
    """Write picture and bundle into a new folder inside `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=folder, prefix="result-"))
    files = bundle_files(result, weights)
    picture, bundle = place / "midms.png", place / "midms.zip"
    picture.write_bytes(files["result.png"])
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return Saved(picture, bundle, command_of(result.task, weights))


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
