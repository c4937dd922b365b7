"""Files that are no pictures, by name: broken, renamed, empty, lying about their size."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def hostile_files() -> dict[str, bytes]:
    """Fifty and some files, the same at each call."""
    files: dict[str, bytes] = {}
    rng = np.random.default_rng(0)
    good = {kind: _picture(kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")}
    for kind, content in good.items():
        suffix = kind.lower()
        files[f"half.{suffix}"] = content[: len(content) // 2]
        files[f"head.{suffix}"] = content[:12]
        files[f"empty.{suffix}"] = b""
        files[f"text.{suffix}"] = b"This is a letter, not a picture.\n" * 20
        files[f"noise.{suffix}"] = rng.bytes(2000)
        files[f"zeros.{suffix}"] = bytes(500)
    page = b"<html><script>alert(1)</script></html>"
    files |= {
        "page.png": page,
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
        "print.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        "paper.pdf": b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF",
        "archive.png": b"PK\x03\x04" + rng.bytes(300),
        "program.jpg": b"\x7fELF" + rng.bytes(300),
        "pickle.png": b"\x80\x04\x95" + rng.bytes(50),
        "one.pixel.png": _picture("PNG", (1, 1)),
        "strip.png": _picture("PNG", (4000, 2)),
        "bomb.png": png_header(50_000, 50_000),
        "bomb.bmp": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 40_000, 40_000, 1, 24,
                                                                          0, 0, 0, 0, 0, 0),
        "nothing.png": png_header(0, 0),
        "crc.png": good["PNG"][:60] + b"\0\0\0\0" + good["PNG"][64:90],
        "name with spaces.png": b"x",
        "umlaut-ä.png": b"x",
    }  # fmt: skip
    return files


def _picture(kind: str, size: tuple[int, int] = (48, 40)) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0\0\0\x20IDAT"
        + bytes(40)
    )
