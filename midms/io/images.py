"""Open pictures of any kind and size. Training, translation and metrics all use these functions.

A photo becomes upright 8-bit RGB. EXIF rotation is applied and transparency laid over white. CMYK and other colour
spaces are converted by their profile, and 16-bit and float greys are scaled to 8 bits. Masks and maps of class ids keep
their values. Only listed formats are read, because some of Pillow's start other programs. Files that claim an absurd
size are refused before memory is allocated. Of several frames only the first is decoded.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps

from midms.io.files import BrokenFileError, check_readable

#: Formats that are read, where Pillow was built with them.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
#: Lossy formats, which cannot store class ids.
LOSSY_FORMATS = ("JPEG", "MPO")
#: Endings of picture files in folders.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".avif",
)  # fmt: skip
#: Pictures of more pixels and files of more bytes are refused.
MAX_PIXELS, MAX_BYTES = 100_000_000, 1_000_000_000
_STRETCH = 4  # largest factor between a side of a working size and the requested side


class ImageHeader(NamedTuple):
    """Size and format in a file's header."""

    size: tuple[int, int]  # width and height, upright
    format: str  # one of `FORMATS`


def open_image(file: str | Path) -> Image.Image:
    """The picture in a file, fully decoded, in its own mode and as it was stored.

    Raises:
        BrokenFileError: the file is missing, empty, truncated, no regular file, of another format, or larger than
            `MAX_PIXELS` or `MAX_BYTES`.
    """
    with _opened(file) as picture:
        picture.load()
    return picture


def open_upright(file: str | Path) -> Image.Image:
    """The picture in a file, fully decoded, in its own mode, turned as its EXIF orientation says.

    Raises:
        BrokenFileError: as `open_image`.
    """
    picture = open_image(file)
    if _orientation(picture) == 1:
        return picture
    turned = ImageOps.exif_transpose(picture)
    turned.format = picture.format
    return turned


def read_header(file: str | Path) -> ImageHeader:
    """Size and format of the picture in a file, read without decoding the picture.

    Raises:
        BrokenFileError: as `open_image`, as far as the header shows the fault.
    """
    with _opened(file) as picture:
        width, height = picture.size
        # Pillow decodes a PNG to find an entry behind its pixels, and rotates a TIFF by itself
        looked_at = picture.format != "TIFF" and (picture.format != "PNG" or "exif" in picture.info)
        turned = looked_at and _orientation(picture) >= 5
        return ImageHeader((height, width) if turned else (width, height), str(picture.format))


def read_info(file: str | Path) -> dict[Any, Any]:
    """Texts and other entries in the header of a picture, read without decoding the picture.

    Raises:
        BrokenFileError: as `open_image`, as far as the header shows the fault.
    """
    with _opened(file) as picture:
        return dict(picture.info)


@contextmanager
def _opened(file: str | Path) -> Iterator[Image.Image]:
    """A picture whose header is within bounds. Errors in the block are reported as faults of the file."""
    path = check_readable(file, "a picture", MAX_BYTES)
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual tags, or a size that is checked here
            with Image.open(path, formats=known) as picture:
                _check_size(path, picture.size)
                yield picture
    except BrokenFileError:
        raise
    except Image.DecompressionBombError:
        raise BrokenFileError(path, _too_many()) from None
    except Image.UnidentifiedImageError:
        raise BrokenFileError(path, f"not a picture of a known kind ({', '.join(known)}); convert it") from None
    except Exception as error:  # Pillow's decoders raise half a dozen unrelated classes
        reason = f"not a whole picture ({' '.join(str(error).split())}); copy it again"
        raise BrokenFileError(path, reason) from None


def read_rgb(file: str | Path) -> Image.Image:
    """The picture in a file, converted by `to_rgb`.

    Raises:
        BrokenFileError: as `open_image`.
    """
    return to_rgb(open_image(file))


def read_mask(file: str | Path, size: int) -> NDArray[np.bool_]:
    """A binary mask, 0 or 255, sampled at the pixel centres of a size x size grid.

    Raises:
        BrokenFileError: as `open_image`, and for masks whose largest value is 1 to 127, such as masks of 0 and 1.
    """
    pixels = _nearest(open_upright(file), size, "L")
    mask = pixels > 127
    if pixels.any() and not mask.any():
        raise BrokenFileError(Path(file), f"mask values reach {pixels.max()} only; expected 0 and 255")
    return mask


def read_labels(file: str | Path, size: int) -> NDArray[np.uint8]:
    """A map of class ids (8 bit, one channel, or palette indices) sampled at the pixel centres of a size x size grid.

    Raises:
        BrokenFileError: as `open_image`, and for files with colour channels.
    """
    image = open_upright(file)
    if image.format in LOSSY_FORMATS:
        raise BrokenFileError(Path(file), "JPEG compression changes class ids; save the map as PNG")
    if image.mode not in ("L", "P", "1"):
        raise BrokenFileError(Path(file), f"mode {image.mode}; expected one channel of 8-bit class ids")
    return _nearest(image, size)


def _nearest(image: Image.Image, size: int, mode: str | None = None) -> NDArray[np.uint8]:
    """Source pixel floor((i + 0.5) S / size) for pixel i. Sampling before converting is cheaper."""
    if image.mode == "P" and mode:
        image = image.convert(mode)
    image = image if image.size == (size, size) else image.resize((size, size), Image.Resampling.NEAREST)
    return np.array(image.convert(mode) if mode and image.mode != mode else image, np.uint8)


def to_rgb(image: Any) -> Image.Image:
    """A picture as upright 8-bit RGB, with transparency laid over white.

    Args:
        image: PIL image of any mode, array (H, W) or (H, W, 1|3|4) (uint8, or float in 0..1), or tensor (C, H, W).
    Raises:
        ValueError: the image has another type, shape or range.
    """
    if hasattr(image, "detach"):  # a tensor, recognised without importing torch
        if image.ndim != 3:
            raise ValueError(f"image: expected a tensor (C, H, W), got {tuple(image.shape)}")
        image = image.detach().cpu().movedim(0, -1).numpy()
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    if not isinstance(image, Image.Image):
        raise ValueError(f"image: expected a PIL image, an array or a tensor, got {type(image).__name__}")
    if min(image.size) < 1:
        raise ValueError(f"image: expected at least one pixel, got size {image.size}")
    if _orientation(image) > 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        over = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer).convert("RGB")
        return _to_srgb(over, image.info.get("icc_profile"))
    return _to_srgb(image, image.info.get("icc_profile")).convert("RGB")


def working_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height at which a picture of `size` (width, height) is processed.

    The area is about side x side pixels, in the picture's own aspect ratio. A picture that already has a working size
    keeps it. Pictures longer than 16 to 1 are squeezed: no side is shorter than side / 4 or longer than 4 side.
    """
    low, high = (math.prod(length + half for length in size) for half in (-0.5, 0.5))
    if low <= side**2 <= high and max(size) <= _STRETCH * side:  # a working size of some picture
        return size
    scale = side / math.sqrt(size[0] * size[1])
    width, height = (max(1, side // _STRETCH, min(_STRETCH * side, round(length * scale))) for length in size)
    return width, height


def at_working_size(picture: Image.Image, side: int) -> Image.Image:
    """The whole picture resized to its `working_size`, bicubic with antialiasing."""
    size = working_size(picture.size, side)
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8. Without a readable entry: 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = image.getexif().get(ExifTags.Base.Orientation, 1)
        except Exception:  # Pillow's reader of damaged entries raises half a dozen classes
            return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit or float grey to 8 bits, by the mode's range or the smallest usual range of the values."""
    with np.errstate(invalid="ignore"):  # NaN
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=65535.0, neginf=0.0)
    tops = [65535.0] if image.mode.startswith("I;16") else [255.0, 65535.0]
    if image.mode == "F":
        tops = [1.0, *tops]
    top = next((limit for limit in tops if values.max() <= limit), float(values.max()))
    return _from_array(np.clip(values / top, 0, 1))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert colours by the embedded profile (CMYK, Display P3, Adobe RGB). Damaged and sRGB profiles are ignored."""
    if not profile or image.mode not in ("RGB", "CMYK", "LAB"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return image
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return image if converted is None else converted


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] in (3, 4)):
        raise ValueError(f"image: expected shape (H, W), (H, W, 3) or (H, W, 4), got {array.shape}")
    if array.dtype != np.uint8:
        values = array.astype(np.float64)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise ValueError(f"image: floats must lie in 0..1, got {values.min():.4g}..{values.max():.4g}")
        array = np.round(values * 255).astype(np.uint8)
    return Image.fromarray(array)


def _check_size(path: Path, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise BrokenFileError(path, f"{size[0]} x {size[1]} pixels; {_too_many()}")


def _too_many() -> str:
    return f"at most {MAX_PIXELS // 1_000_000} million pixels are read; make it smaller first"
