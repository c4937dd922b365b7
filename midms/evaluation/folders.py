"""Folders of images for evaluation, checked once: readable images of one size and one file format."""

from __future__ import annotations

import copy
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from midms.io.images import IMAGE_SUFFIXES, LOSSY_FORMATS, open_upright, read_header, read_rgb

JPEG_QUALITY = 75  # Pillow's default, with 4:2:0 chroma: what the field's inference scripts save with


class NotApplicableError(ValueError):
    """A metric cannot be computed on these folders; the message gives the reason and the remedy."""


class ImageFile(NamedTuple):
    """One image: `name` is its path below the folder without the extension, `size` is (width, height)."""

    name: str
    path: Path
    size: tuple[int, int]
    format: str  # one of `midms.io.images.FORMATS`


def _natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that reads runs of digits as numbers; names with equal numbers, such as 1 and 01, go by their text."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], name


def _files(folder: Path) -> list[Path]:
    """All files below a folder except hidden ones, including broken links.

    Raises:
        ValueError: a linked folder, which would not be searched, or a name that is not UTF-8.
    """
    paths = []
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_dir() and path.is_symlink() and not hidden:
            raise ValueError(f"{path}: a link to a folder, which is not searched; copy or move the folder here")
        if any("\ud800" <= character <= "\udfff" for character in path.name):  # undecodable bytes
            raise ValueError(f"{folder}: the name {path.name!a} is not UTF-8; rename it")
        if not hidden and not path.is_dir():
            paths.append(path)
    return paths


def list_images(root: str | Path) -> tuple[list[ImageFile], list[str]]:
    """The images below a folder in natural order, and the names of files without an image extension.

    Raises:
        ValueError: no such folder, no image, an unreadable header, a broken link or a link to a folder, or two files
            of one name.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise ValueError(f"{folder}: {'a file, not a folder' if folder.is_file() else 'no such folder'}")
    paths = _files(folder)
    others = sorted(p.relative_to(folder).as_posix() for p in paths if p.suffix.lower() not in IMAGE_SUFFIXES)
    images = []
    for path in paths:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            name = path.relative_to(folder).with_suffix("").as_posix()
            images.append(ImageFile(name, path, *read_header(path)))
    if not images:
        contents = f"found {len(others)} other files, such as {others[0]}" if others else "it is empty"
        raise ValueError(f"{folder}: no images ({', '.join(sorted(IMAGE_SUFFIXES))}); {contents}")
    images.sort(key=lambda file: _natural(file.name))
    for name, count in Counter(file.name for file in images).items():
        if count > 1:
            raise ValueError(f"{folder}: {count} files are called {name} up to their extension; keep one of them")
    return images, others


class DecodedImages:
    """The decoded images of a folder in one file, so that each is decoded once, however many metrics need it.

    Args:
        file: for the pixels, 3 * H * W bytes per image; it is overwritten.
        count: number of images. size: (width, height) of them all.
    """

    def __init__(self, file: Path, count: int, size: tuple[int, int]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.pixels = np.memmap(file, np.uint8, "w+", shape=(count, size[1], size[0], 3))
        self.done = np.zeros(count, dtype=bool)

    def read(self, index: int, decode: Callable[[int], np.ndarray]) -> np.ndarray:
        """Image `index` as uint8 (H, W, 3); `decode` is called the first time."""
        if not self.done[index]:
            self.pixels[index] = decode(index)
            self.done[index] = True
        return np.array(self.pixels[index])


class ImageFolder(Dataset[Tensor]):
    """Images of a folder as uint8 (3, H, W), all of one size.

    Args:
        root: the folder; names include sub-folders.
        size: resize to size x size with Pillow's bicubic; None: no resizing, the images must have one size.
        jpeg: compress images that are not JPEG files, or were resized, as JPEG in memory.
    Raises:
        ValueError: a bad folder (see `list_images`) or mixed sizes.
    """

    def __init__(self, root: str | Path, size: int | None = None, jpeg: bool = False) -> None:
        self.root = Path(root)
        self.files, self.ignored = list_images(root)
        self.jpeg = jpeg
        self.decoded: DecodedImages | None = None
        first = self.files[0]
        self.size = (size, size) if size else first.size
        for file in self.files:
            if not size and file.size != first.size:
                shapes = [f"{f.path.name} is {f.size[0]}x{f.size[1]}" for f in (first, file)]
                raise ValueError(f"{self.root}: mixed sizes, {' and '.join(shapes)}; give one size, such as --size 256")

    def uncompressed(self) -> ImageFolder:
        """The same folder without the compression in memory."""
        plain = copy.copy(self)
        plain.jpeg = False
        return plain

    def restricted(self, names: Collection[str]) -> ImageFolder:
        """The same folder with only the images of these names."""
        part = copy.copy(self)
        part.files, part.decoded = [file for file in self.files if file.name in names], None
        return part

    def keep_decoded(self, file: Path) -> None:
        """Decode each image only once, and keep its pixels in `file` (see `DecodedImages`)."""
        self.decoded = DecodedImages(file, len(self.files), self.size)

    @property
    def names(self) -> list[str]:
        return [file.name for file in self.files]

    @property
    def image_format(self) -> str:
        """Format of the measured images, such as "PNG, through JPEG quality 75"."""
        formats = "+".join(sorted({file.format for file in self.files}))
        resized = any(file.size != self.size for file in self.files)
        parts = [formats, f"resized to {self.size[0]}x{self.size[1]} (bicubic)" if resized else ""]
        if self.jpeg and (resized or formats != "JPEG"):
            parts.append(f"through JPEG quality {JPEG_QUALITY}")
        return ", ".join(part for part in parts if part)

    @property
    def left_out(self) -> str:
        """Files of the folder that are not images, such as "3 files, the first is notes.txt"; empty for none."""
        if not self.ignored:
            return ""
        return f"{len(self.ignored)} file{'s' if len(self.ignored) > 1 else ''}, the first is {self.ignored[0]}"

    def fingerprint(self) -> str:
        """Digest of names, sizes on disk, times and options; it changes when a file or an option changes."""
        rows = [f"{f.name}|{f.path.stat().st_size}|{f.path.stat().st_mtime_ns}" for f in self.files]
        return "\n".join([*rows, f"{self.size}|{self.jpeg}"])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        file = self.files[index]
        pixels = self.decoded.read(index, self._decode) if self.decoded else self._decode(index)
        if self.jpeg and (file.format != "JPEG" or file.size != self.size):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
            pixels = np.array(Image.open(buffer, formats=["JPEG"]).convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1)  # (3, H, W)

    def _decode(self, index: int) -> np.ndarray:
        """Image `index` at the folder's size, without compression, uint8 (H, W, 3)."""
        image = read_rgb(self.files[index].path)
        if image.size != self.size:
            image = image.resize(self.size, Image.Resampling.BICUBIC)
        return np.array(image)


def read_labels(path: Path, size: tuple[int, int]) -> Tensor:
    """A label map (H, W) int64 from a single-channel image, resized to `size` (width, height) by nearest neighbour."""
    image = open_upright(path)
    if image.format in LOSSY_FORMATS:
        raise ValueError(f"{path}: JPEG compression changes ids; save the map as PNG")
    if image.mode not in ("L", "P", "I;16", "1"):
        raise ValueError(f"{path}: a label map has one channel, got mode {image.mode}")
    plain = image if image.mode != "1" else image.convert("L")
    return torch.from_numpy(np.array(plain.resize(size, Image.Resampling.NEAREST)).astype(np.int64))


def match_names(generated: Sequence[str], others: Sequence[str], role: str) -> list[int]:
    """For each generated image the index of the image of the same name in another folder.

    Raises:
        NotApplicableError: a name that the other folder lacks.
    """
    positions = {name: index for index, name in enumerate(others)}
    missing = [name for name in generated if name not in positions]
    if missing:
        raise NotApplicableError(
            f"{role}: {len(missing)} of {len(generated)} generated images have no partner, the first is {missing[0]}; "
            f"names must agree up to the extension (that folder starts with {others[0]})"
        )
    return [positions[name] for name in generated]


class PairedFolders(Dataset[tuple[Tensor, Tensor]]):
    """Generated images, each with the image of the same name in another folder."""

    def __init__(self, generated: ImageFolder, other: ImageFolder, role: str) -> None:
        if generated.size != other.size:
            sizes = [f"{w}x{h}" for w, h in (generated.size, other.size)]
            raise NotApplicableError(
                f"{role}: {generated.root} holds {sizes[0]} and {other.root} {sizes[1]} images; give one size (--size)"
            )
        self.generated, self.other = generated, other
        self.indices = match_names(generated.names, other.names, role)

    def fingerprint(self) -> str:
        return f"{self.generated.fingerprint()}\n--\n{self.other.fingerprint()}"

    def __len__(self) -> int:
        return len(self.generated)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.generated[index], self.other[self.indices[index]]
