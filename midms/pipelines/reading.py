"""Read a user's condition and exemplar in the form that weights take: files, or samples of the package by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from midms.conditions.make import BuiltCondition, default_kind, make_condition
from midms.config import ConfigError
from midms.data.samples import is_sample
from midms.io.images import at_working_size, read_rgb
from midms.io.provenance import file_digest, short_digest
from midms.pipelines.midms import MIDMsPipeline
from midms.pipelines.pictures import read_picture


def kind_of_condition(pipe: MIDMsPipeline, file: Path) -> str:
    """The default kind of a condition, from the file's ending and the weights. A sample is a map."""
    return "map" if is_sample(file) else default_kind(file, pipe.condition_spec())


def read_condition(
    pipe: MIDMsPipeline,
    file: Path,
    size: int | None = None,
    kind: str | None = None,
    weights: Sequence[str] = (),
    canvas: tuple[int, int] | None = None,
    align: bool = True,
) -> BuiltCondition:
    """The condition in a drawing, photo or file of maps, or of a sample, in the form that these weights take.

    Args:
        size: working size in pixels per side. None: the weights' own.
        kind, weights, canvas, align: see `midms.conditions.make.make_condition`.
    Raises:
        ConfigError: the file cannot be used for these weights.
    """
    if not is_sample(file):
        return make_condition(file, pipe.condition_spec(size), kind, weights, canvas, str(pipe.device), align)
    if kind not in (None, "map"):
        raise ConfigError(f"{file} with --condition-kind {kind}: a sample is condition maps; leave the kind out")
    maps = torch.from_numpy(pipe.sample(file, size).condition).float() / 255
    return BuiltCondition(maps, (int(maps.shape[-2]), int(maps.shape[-1])), "map")


def read_exemplar(pipe: MIDMsPipeline, file: Path, size: int | None = None) -> Tensor:
    """A photo, or the exemplar of a sample, at its working size, (3, H, W) in [-1, 1].

    Args:
        size: working size in pixels per side. None: the weights' own.
    Raises:
        ConfigError: the file is no picture.
    """
    if is_sample(file):
        return read_picture(pipe.sample(file, size).exemplar)
    return read_picture(at_working_size(read_rgb(file), pipe.condition_spec(size).side))


def read_exemplar_condition(pipe: MIDMsPipeline, file: Path, size: int | None = None) -> Tensor:
    """An exemplar's condition maps, (1, L, H, W), from a file or of a sample, as `read_condition` reads maps."""
    if is_sample(file):
        return torch.from_numpy(pipe.sample(file, size).exemplar_condition)[None].float() / 255
    return read_condition(pipe, file, size).maps[None]


def input_digests(pipe: MIDMsPipeline, files: Iterable[Path], size: int | None = None) -> dict[str, str]:
    """Name -> digest of each input. The digest of a sample covers its maps and its exemplar as drawn."""
    return {str(file): _digest(pipe, file, size) for file in files}


def _digest(pipe: MIDMsPipeline, file: Path, size: int | None) -> str:
    if not is_sample(file):
        return file_digest(file)
    sample = pipe.sample(file, size)
    return short_digest(sample.condition.tobytes() + sample.exemplar.tobytes())
