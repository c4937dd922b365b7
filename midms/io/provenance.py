"""How a picture was made, kept inside its PNG: JSON in the text chunk `midms`, with the command that makes it again.

The JSON object has at least `weights` and `seed`; pictures of `midms translate` and of the app also `command`, a line
for the shell, the digests of all that was read (`inputs`, `weight_files`), and `versions`. Nothing in it depends on
the time or the machine's name, so that the same command writes the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from midms.config import ConfigError

TEXT_KEY = "midms"
#: Shipped weights live here, a folder per name.
SHIPPED = Path(__file__).parents[1] / "weights"
_PACKAGES = ("midms", "torch", "diffusers", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a picture; those not installed are left out."""
    installed = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def text_chunk(settings: Mapping[str, Any]) -> dict[str, str]:
    """`settings` as the text of a PNG, for `midms.visualize.save_png`."""
    return {TEXT_KEY: json.dumps(settings, sort_keys=True)}


def png_bytes(pixels: NDArray[np.uint8], text: Mapping[str, str] | None = None) -> bytes:
    """Pixels (H, W, 3) or (H, W) as a PNG file with text chunks."""
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


def read_settings(file: str | Path) -> dict[str, Any]:
    """The settings inside a PNG.

    Raises:
        ConfigError: no such file, no picture, or a picture without them.
    """
    try:
        with Image.open(file) as picture:
            text = picture.info.get(TEXT_KEY)
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file") from None
    except Exception:  # Pillow's decoders raise half a dozen unrelated classes
        raise ConfigError(f"{file}: not a picture that can be read") from None
    if not isinstance(text, str):
        raise ConfigError(f"{file}: no settings inside (text chunk {TEXT_KEY!r}); was it saved again by a program?")
    try:
        settings = json.loads(text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise ConfigError(f"{file}: its text chunk {TEXT_KEY!r} is not a JSON object")
    return settings


def weight_digests(folder: Path) -> dict[str, str]:
    """The weight files of a folder by name, each with its `file_digest`."""
    return {file.name: file_digest(file) for file in sorted(folder.glob("*.safetensors"))}


def changed_files(settings: Mapping[str, Any]) -> list[str]:
    """What a picture was made from and is now missing or another, a sentence each.

    Weights are compared where their folder, or shipped name, is here.
    """
    inputs, name = settings.get("inputs"), str(settings.get("weights"))
    known: dict[Path, str] = {Path(file): digest for file, digest in inputs.items()} if isinstance(inputs, dict) else {}
    weights = settings.get("weight_files")
    folder = next((path for path in (SHIPPED / name, Path(name)) if path.is_dir()), None)
    if folder is not None and isinstance(weights, dict):
        known |= {folder / file: digest for file, digest in weights.items()}
    changes = []
    for file, digest in known.items():
        if not file.is_file():
            changes.append(f"{file} is not here")
        elif file_digest(file) != digest:
            changes.append(f"{file} is not what it was; the picture will differ")
    return changes


def content_digest(content: bytes) -> str:
    """The `file_digest` of a file with this content."""
    return hashlib.sha256(content).hexdigest()[:16]


def file_digest(file: str | Path) -> str:
    """A short name of a file's content: 16 digits of its SHA-256."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
