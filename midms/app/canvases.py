"""Pictures for and from the page: files for the browser, canvases, and the paint on them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from gradio.processing_utils import hash_bytes
from gradio.utils import get_upload_folder
from numpy.typing import NDArray
from PIL import Image

from midms.app import framing
from midms.io.files import write_atomically
from midms.io.provenance import png_bytes
from midms.visualize import Pixels

CANVAS = 384  # pixels of what is painted on or clicked


def picture_file(pixels: Pixels) -> str:
    """A PNG of the pixels in Gradio's picture folder, for its components.

    Gradio itself would rewrite an array's file, named after its content, each time. A browser that reads it during
    the write gets another number of bytes than announced. So an existing file is not written again.
    """
    content = png_bytes(pixels)
    file = Path(get_upload_folder()) / hash_bytes(content) / "image.png"
    if file.is_file():
        os.utime(file)  # in use again: must not be removed as old
        return str(file)
    write_atomically(file, content)
    return str(file)


def to_canvas(pixels: Pixels, smooth: bool = True, paint: NDArray[np.uint8] | None = None) -> Any:
    """Pixels as the background of an image editor, with paint (S, S, 4) over them or none."""
    background = framing.on_square(pixels, CANVAS, smooth)
    layers = [] if paint is None else [picture_file(paint)]
    return {"background": picture_file(background), "layers": layers, "composite": None}


def painted_layers(editor: dict[str, Any] | None) -> NDArray[np.uint8] | None:
    """The painted layers of an image editor as one, (H, W, 4); None if nothing is painted."""
    layers = (editor or {}).get("layers") or []
    return np.maximum.reduce(layers) if layers else None


def flattened(editor: dict[str, Any] | None) -> Pixels | None:
    """The picture in an image editor, (H, W, 3): layers over the background over white. None: empty.

    The editor's own `composite` is missing until something is painted.
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
