"""A finished picture as files: settings inside the PNG, and the inputs with the command that reproduces it."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from midms.app.actions import Frame, Result, Task
from midms.data.samples import picture_of_maps
from midms.io.files import write_atomically
from midms.io.provenance import png_bytes, short_digest, text_chunk
from midms.pipelines.making import Making
from midms.pipelines.pictures import read_picture
from midms.visualize import Pixels, panels, save_animation


class SavedResult(NamedTuple):
    """Paths of a saved result."""

    picture: Path  # PNG with the settings as JSON in the text chunk `midms`
    animation: Path  # GIF of the displayed steps
    bundle: Path  # ZIP: the picture, its inputs, and the command as text
    command: str  # to be run in the folder of the unpacked bundle


def input_files(task: Task) -> dict[str, bytes]:
    """Names and contents of all files that the command reads."""
    files = {"condition.npy": _npy(task.condition)}
    for number, chosen in enumerate(task.exemplars, start=1):
        files[f"exemplar_{number}.png"] = png_bytes(chosen.pixels)
        if _masked(task):
            allowed = np.ones(chosen.pixels.shape[:2], bool) if chosen.allowed is None else chosen.allowed
            files[f"mask_{number}.png"] = png_bytes(np.where(allowed, 255, 0).astype(np.uint8))
        if chosen.condition is not None:
            files[f"exemplar_condition_{number}.npy"] = _npy(chosen.condition)
    return files


def making_of(result: Result, weights: str, files: dict[str, bytes]) -> Making:
    """The record of a result made from the files of `input_files`, in their folder."""
    task = result.task
    count = range(1, len(task.exemplars) + 1)
    return Making(
        program="midms app",
        weights=weights,
        settings=result.settings,
        seed=task.seed,
        inputs={name: short_digest(content) for name, content in files.items()},
        condition="condition.npy",
        condition_kind="map",
        exemplars=[f"exemplar_{number}.png" for number in count],
        exemplar_masks=[f"mask_{number}.png" for number in count] if _masked(task) else [],
        exemplar_conditions=[f"exemplar_condition_{number}.npy" for number in count]
        if task.exemplars[0].condition is not None
        else [],
        notes=result.notes,
    )


def animation_of(task: Task, frames: Sequence[Frame], side: int = 160) -> list[Pixels]:
    """The frames of a loop, each beside condition and first exemplar, at `side` pixels of height."""
    beside = [("condition", picture_of_maps(task.condition)), ("exemplar", task.exemplars[0].pixels)]
    shown = [[*beside, (frame.caption.replace("·", "-"), frame.pixels)] for frame in frames]
    return [panels([[(text, read_picture(pixels)) for text, pixels in row]], side) for row in shown]


def save_result(folder: Path, result: Result, weights: str, frames: Sequence[Frame]) -> SavedResult:
    """Write picture, animation and bundle into a new folder inside `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=folder, prefix="result-"))
    files = input_files(result.task)
    record = making_of(result, weights, files).record(result.computed, "again.png")
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


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
