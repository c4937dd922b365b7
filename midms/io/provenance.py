"""The record of how a picture was made, stored as JSON in the text chunk `midms` of its PNG (see `Record`).

The record does not depend on the time or the machine's name, so the same command writes the same bytes. A record may
come from a stranger: its command is shown only if it is one of ours, and files named in the record are not opened.
"""

from __future__ import annotations

import io
import json
import platform
import shlex
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from midms.io.files import BrokenFileError, parse_json, sha256_of, sha256_of_unchanged
from midms.io.images import read_info
from midms.programs import printable

TEXT_KEY = "midms"
#: Named in every output whose format has a place for its program, so that a later run may replace the file: the text
#: "Software" of a PNG (the specification's word), a GIF's comment, a WebP's Exif, an HTML page, the head of LaTeX.
SOFTWARE = "midms"
HTML_MARK, LATEX_MARK = f'<meta name="generator" content="{SOFTWARE}">', f"% {SOFTWARE}"
_SOFTWARE_TAG = 0x0131  # of Exif
#: Folder of the shipped weights, with one folder per name.
SHIPPED = Path(__file__).parents[1] / "weights"
_PACKAGES = ("midms", "torch", "diffusers", "numpy", "pillow")
_PROGRAM = ["midms", "translate"]  # the words that a recorded command starts with
Digests = dict[str, str]  # file -> `short_digest`


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that can change a picture."""
    installed = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


class Record(BaseModel):
    """Everything that determines a picture.

    Attributes:
        program: name of the program, such as "midms translate".
        weights: name or folder of the weights, as the user gave it.
        seed: of the noise of this picture.
        settings: the settings of the method, such as `InterleaveSettings`.
        weight_files, inputs: digests of the files that were read.
        command: a shell command that makes the picture again. None: there is no such command.
        condition_kind, condition_weights, condition_size, size, protocol, device, threads, dtype, fast: see `midms
            translate --help`.
        photo_networks: digests of the networks that made the condition of a photo.
        notes: reasons why the picture cannot be good, as its user was told.
        versions: of the packages that can change a picture.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    program: str
    weights: str
    seed: int = Field(ge=0, lt=2**63)
    settings: dict[str, JsonValue]
    weight_files: Digests = {}
    inputs: Digests = {}
    command: str | None = None
    condition_kind: str | None = None
    condition_weights: list[str] = []
    condition_size: list[int] | None = None
    size: int | None = None
    protocol: str | None = None
    photo_networks: Digests = {}
    notes: list[str] = []
    device: str | None = None
    threads: int | None = None
    dtype: str | None = None
    fast: bool | None = None
    versions: dict[str, str] = Field(default_factory=versions)


def text_chunk(record: Record) -> dict[str, str]:
    """A record as the text of a PNG, for `midms.visualize.save_png`."""
    return {TEXT_KEY: json.dumps(record.model_dump(exclude_none=True), sort_keys=True)}


def png_bytes(pixels: NDArray[np.uint8], text: Mapping[str, str] | None = None) -> bytes:
    """Pixels (H, W, 3) or (H, W) as a PNG file with text chunks, the first of which names this software."""
    info = PngImagePlugin.PngInfo()
    for key, value in {"Software": SOFTWARE, **(text or {})}.items():
        info.add_text(key, value)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


def software_exif() -> bytes:
    """The Exif block that names this software."""
    exif = Image.Exif()
    exif[_SOFTWARE_TAG] = SOFTWARE
    return exif.tobytes()


def read_settings(file: str | Path) -> dict[str, Any]:
    """The record inside a PNG, unchecked: another program may have written it.

    Raises:
        BrokenFileError: the file is missing, is no picture, or has no JSON object in its text chunk.
    """
    text = read_info(file).get(TEXT_KEY)
    if not isinstance(text, str):
        reason = f"no settings inside (text chunk {TEXT_KEY!r}); was it saved again by a program?"
        raise BrokenFileError(Path(file), reason)
    try:
        settings = parse_json(text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise BrokenFileError(Path(file), f"its text chunk {TEXT_KEY!r} is not a JSON object")
    return settings


def recorded_command(settings: Mapping[str, Any]) -> str | None:
    """The recorded command, if it is a single `midms translate` and safe to show. None: it is not.

    A safe command has no second command, substitution or redirection, and no character that controls a terminal.
    """
    command = settings.get("command")
    if not isinstance(command, str) or printable(command, None) != command:
        return None
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    return command if words[:2] == _PROGRAM and shlex.join(words) == command else None


def recorded_notes(settings: Mapping[str, Any]) -> list[str]:
    """The notes of a record, which may come from a stranger: at most 16, without characters that control a terminal."""
    notes = settings.get("notes")
    return [printable(note) for note in notes[:16] if isinstance(note, str)] if isinstance(notes, list) else []


def weight_digests(folder: Path) -> dict[str, str]:
    """The `file_digest` of each weight file of a folder, by name."""
    return {file.name: sha256_of_unchanged(file)[:16] for file in sorted(folder.glob("*.safetensors"))}


def changed_files(settings: Mapping[str, Any], files: Iterable[Path] = ()) -> list[str]:
    """Differences between the present files and those a picture was made from, one sentence each.

    Args:
        settings: result of `read_settings`. The files named in it are not opened.
        files: the files that the picture was made from, according to the user. Shipped weights are always compared.
    """
    inputs, weights = settings.get("inputs"), settings.get("weight_files")
    known = set(inputs.values()) if isinstance(inputs, dict) else set()
    changed = [f"{file} is none of the files that it was made from" for file in files if file_digest(file) not in known]
    name = settings.get("weights")
    if isinstance(weights, dict) and name in shipped_names():
        now = weight_digests(SHIPPED / str(name))
        if now != weights:
            changed.append(f"the weights {name!r} are not what they were; the picture will differ")
    return changed


def shipped_names() -> list[str]:
    """Names of the weights that the package ships."""
    return sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()) if SHIPPED.is_dir() else []


def short_digest(content: Path | bytes) -> str:
    """The first 16 digits of the SHA-256 of a file or of bytes."""
    return sha256_of(content)[:16]


def file_digest(file: str | Path) -> str:
    """`short_digest` of a file."""
    return short_digest(Path(file))
