"""Pictures on the way to the page and back: files for the browser, canvases, what was painted on them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from gradio.processing_utils import hash_bytes
from gradio.utils import get_upload_folder
from numpy.typing import NDArray
from PIL import Image

from midms.app import scenes
from midms.io.files import write_atomically
from midms.io.provenance import png_bytes
from midms.visualize import Pixels

CANVAS = 384  # pixels of what is painted on or clicked


def picture_file(pixels: Pixels) -> str:
    """A PNG of the pixels where Gradio keeps its pictures, for its components.

    Gradio writes an array that it is handed to a file named after its content, each time again: a browser that reads
    the file at that moment gets another number of bytes than announced. A file that is here already stays as it is.
    """
    content = png_bytes(pixels)
    file = Path(get_upload_folder()) / hash_bytes(content) / "image.png"
    if file.is_file():
        os.utime(file)  # it is in use again: not to be removed as old
        return str(file)
    write_atomically(file, content)
    return str(file)


def to_canvas(pixels: Pixels, smooth: bool = True, paint: NDArray[np.uint8] | None = None) -> Any:
    """Pixels as the background of an image editor, under paint (S, S, 4) or nothing."""
    background = scenes.on_square(pixels, CANVAS, smooth)
    layers = [] if paint is None else [picture_file(paint)]
    return {"background": picture_file(background), "layers": layers, "composite": None}


def painted_layers(editor: dict[str, Any] | None) -> NDArray[np.uint8] | None:
    """The painted layers of an image editor as one, (H, W, 4); None where there is none."""
    layers = (editor or {}).get("layers") or []
    return np.maximum.reduce(layers) if layers else None


def flattened(editor: dict[str, Any] | None) -> Pixels | None:
    """What an image editor shows, (H, W, 3): its layers over its background on white; None where it is empty.

    Its own `composite` is missing until somebody has painted.
    """
    parts = [(editor or {}).get("background"), *((editor or {}).get("layers") or [])]
    images = [Image.fromarray(part).convert("RGBA") for part in parts if part is not None]
    if not images:
        composite = (editor or {}).get("composite")
        return None if composite is None else np.ascontiguousarray(composite[..., :3])
    canvas = Image.new("RGBA", images[0].size, (255, 255, 255, 255))
    for image in images:
        canvas.alpha_composite(image if image.size == canvas.size else image.resize(canvas.size))
    return np.asarray(canvas.convert("RGB"))
