"""A finished picture as files: settings inside the PNG, and the inputs with the command that makes it again."""

from __future__ import annotations

import io
import shlex
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from midms.app.actions import Frame, Result, Task
from midms.app.scenes import picture_of_maps
from midms.io.files import write_atomically
from midms.io.provenance import Record, png_bytes, short_digest, text_chunk
from midms.visualize import Pixels, panels, save_animation


class SavedResult(NamedTuple):
    """Where a result was written."""

    picture: Path  # PNG with the settings as JSON in the text chunk `midms`
    animation: Path  # GIF of the steps that were shown
    bundle: Path  # ZIP: the picture, its inputs, and the command as text
    command: str  # to be run where the bundle was unpacked


def command_of(result: Result, weights: str) -> str:
    """The command line that makes the same picture from the files of `input_files`."""
    task = result.task
    count = range(1, len(task.exemplars) + 1)
    words = ["midms", "translate", "--condition", "condition.npy"]
    words += ["--exemplar", *(f"exemplar_{number}.png" for number in count)]
    if _masked(task):
        words += ["--exemplar-mask", *(f"mask_{number}.png" for number in count)]
    if task.exemplars[0].condition is not None:
        words += ["--exemplar-condition", *(f"exemplar_condition_{number}.npy" for number in count)]
    words += [] if task.steps is None else ["--steps", str(task.steps)]
    words += ["--calls", str(task.calls)]
    words += [] if task.threshold is None else ["--threshold", repr(task.threshold)]
    words += ["--seed", str(task.seed), "--weights", weights, "--device", result.device]
    return shlex.join([*words, "--threads", str(result.threads), "--out", "again.png"])


def input_files(task: Task) -> dict[str, bytes]:
    """Names and contents of everything that the command reads."""
    files = {"condition.npy": _npy(task.condition)}
    for number, chosen in enumerate(task.exemplars, start=1):
        files[f"exemplar_{number}.png"] = png_bytes(chosen.pixels)
        if _masked(task):
            allowed = np.ones(chosen.pixels.shape[:2], bool) if chosen.allowed is None else chosen.allowed
            files[f"mask_{number}.png"] = png_bytes(np.where(allowed, 255, 0).astype(np.uint8))
        if chosen.condition is not None:
            files[f"exemplar_condition_{number}.npy"] = _npy(chosen.condition)
    return files


def record_of(result: Result, weights: str, inputs: dict[str, bytes]) -> Record:
    """What decides the picture, in the form that `midms show` reads."""
    task = result.task
    numbers: dict[str, Any] = {
        "num_inference_steps": task.steps,
        "num_interleaved_steps": task.calls,
        "threshold": task.threshold,
    }
    return Record(
        program="midms app",
        weights=weights,
        weight_files=dict(result.weight_files),
        settings={**numbers},
        seed=task.seed,
        inputs={name: short_digest(content) for name, content in inputs.items()},
        command=command_of(result, weights),
        device=result.device,
    )


def animation_of(task: Task, frames: Sequence[Frame], side: int = 160) -> list[Pixels]:
    """The frames of a loop, each beside condition and first exemplar, at `side` pixels of height."""
    beside = [("condition", picture_of_maps(task.condition)), ("exemplar", task.exemplars[0].pixels)]
    shown = [[*beside, (frame.caption.replace("·", "-"), frame.pixels)] for frame in frames]
    return [panels([[(text, _image(pixels)) for text, pixels in row]], side) for row in shown]


def save_result(folder: Path, result: Result, weights: str, frames: Sequence[Frame]) -> SavedResult:
    """Write picture, animation and bundle into a new folder inside `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=folder, prefix="result-"))
    files = input_files(result.task)
    record = record_of(result, weights, files)
    picture, animation, bundle = (place / f"midms.{ending}" for ending in ("png", "gif", "zip"))
    write_atomically(picture, png_bytes(result.pixels, text_chunk(record)))
    save_animation(animation, animation_of(result.task, frames))
    command = str(record.command)
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(picture, "result.png")
        for name, content in (files | {"command.txt": f"{command}\n".encode()}).items():
            archive.writestr(name, content)
    return SavedResult(picture, animation, bundle, command)


def _masked(task: Task) -> bool:
    return any(chosen.allowed is not None for chosen in task.exemplars)


def _image(pixels: Pixels) -> torch.Tensor:
    """Pixels as an image, (3, H, W) in [-1, 1]."""
    return torch.from_numpy(pixels.copy()).movedim(-1, 0).float() / 127.5 - 1


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
