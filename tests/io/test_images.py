"""Pictures of every mode, size and file become what a person would expect of them."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from midms.config import ConfigError
from midms.evaluation.folders import read_labels as evaluated_labels
from midms.io import images
from midms.io.images import (
    MAX_PIXELS,
    open_image,
    open_upright,
    read_header,
    read_labels,
    read_mask,
    read_rgb,
    to_rgb,
    working_size,
)
from midms.translate import exemplar_mask

MODES = ["RGB", "RGBA", "L", "LA", "P", "PA", "CMYK", "1", "I", "I;16", "F", "YCbCr", "HSV", "LAB", "RGBX", "RGBa"]
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(st.sampled_from(MODES), sizes, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_any_mode_and_size_is_read(mode: str, size: tuple[int, int], seed: int) -> None:
    image = Image.new(mode, size)
    try:
        image.frombytes(np.random.default_rng(seed).bytes(len(image.tobytes())))
    except ValueError:  # a mode that takes no raw bytes stays black
        image = Image.new(mode, size)
    read = to_rgb(image)
    assert (read.mode, read.size) == ("RGB", size)


@given(st.sampled_from(["PNG", "TIFF", "BMP", "WEBP", "PPM"]), sizes, st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_lossless_file_gives_its_pixels_back(
    tmp_path_factory: pytest.TempPathFactory, kind: str, size: tuple[int, int], seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = tmp_path_factory.mktemp("round") / f"a.{kind.lower()}"
    Image.fromarray(pixels).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(np.asarray(read_rgb(file)), pixels)


@given(sizes, st.integers(1, 8), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_rotation_entry_is_followed_whatever_it_says(
    tmp_path_factory: pytest.TempPathFactory, size: tuple[int, int], orientation: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    turn = {1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.transpose(1, 0, 2),
            6: np.rot90(pixels, -1), 7: np.rot90(pixels, 2).transpose(1, 0, 2), 8: np.rot90(pixels)}  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path_factory.mktemp("turn") / "a.png"
    Image.fromarray(pixels).save(file, exif=exif)
    assert np.array_equal(np.asarray(read_rgb(file)), turn[orientation])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_maps_and_masks_are_turned_like_photos(tmp_path: Path, name: str) -> None:
    """In their own mode; the damaged entry of `test_a_damaged_exif_entry` turns nothing."""
    lines = np.zeros((8, 8), np.uint8)
    lines[:, :4] = 255
    turn = Image.Exif()
    turn[0x0112] = 6
    for exif, expected in ((turn, np.rot90(lines, -1)), (b"Exif\0\0MM\0*\0\0\0\b", lines)):
        if name.endswith("tif") and exif is not turn:
            continue
        Image.fromarray(lines).save(tmp_path / name, exif=exif)
        upright = open_upright(tmp_path / name)
        assert upright.mode == "L" and upright.format == open_image(tmp_path / name).format
        assert np.array_equal(np.asarray(upright) > 127, expected > 127)
        assert np.array_equal(read_mask(tmp_path / name, 8), expected > 127)
        assert np.array_equal(exemplar_mask(tmp_path / name)[0, 0].numpy() > 0, expected > 127)
        for read in (lambda: read_labels(tmp_path / name, 8), lambda: evaluated_labels(tmp_path / name, (8, 8))):
            if name != "a.jpg":
                assert np.array_equal(np.asarray(read()), expected)
            else:
                with pytest.raises(ValueError, match="JPEG compression changes"):
                    read()


@given(st.tuples(st.integers(1, 12000), st.integers(1, 8000)), st.integers(16, 512))
def test_a_working_size_keeps_the_shape_and_the_area_within_bounds(size: tuple[int, int], side: int) -> None:
    width, height = working_size(size, side)
    assert side // 4 <= width <= 4 * side and side // 4 <= height <= 4 * side
    ratio = size[0] / size[1]
    assert working_size((width, height), side) == (width, height)
    if 1 / 15 < ratio < 15 and (width, height) != size:
        assert abs(width - side * ratio**0.5) <= 0.5 and abs(height - side * ratio**-0.5) <= 0.5
    assert working_size((side, side), side) == (side, side)


def test_transparency_is_laid_over_white() -> None:
    assert to_rgb(Image.new("RGBA", (4, 4), (255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(Image.new("RGBA", (4, 4), (255, 0, 0, 128))).getpixel((0, 0)) == (255, 127, 127)
    palette = Image.new("P", (4, 4), 0)
    palette.info["transparency"] = 0
    assert to_rgb(palette).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full((4, 4), 32896, np.uint16), 128),
        (np.full((4, 4), 257, np.uint16), 1),  # a dark picture of 16 bits stays dark
        (np.full((4, 4), 200, np.int32), 200),
        (np.full((4, 4), 65535, np.int32), 255),
        (np.full((4, 4), 0.5, np.float32), 128),
        (np.full((4, 4), 100.0, np.float32), 100),
    ],
)
def test_deep_greys_keep_their_range(values: np.ndarray, expected: int) -> None:
    assert to_rgb(Image.fromarray(values)).getpixel((0, 0)) == (expected,) * 3


def test_sixteen_bit_file(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 32896, np.uint16)).save(tmp_path / "deep.png")
    assert read_rgb(tmp_path / "deep.png").getpixel((0, 0)) == (128, 128, 128)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=95)
    red, green, blue = read_rgb(tmp_path / "print.jpg").getpixel((4, 4))
    assert red > 240 and green < 15 and blue < 15


def test_colours_follow_the_embedded_profile() -> None:
    image = Image.new("RGB", (2, 2), (120, 60, 200))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.info["icc_profile"] = srgb
    assert to_rgb(image).getpixel((0, 0)) == (120, 60, 200)
    image.info["icc_profile"] = b"no profile"
    assert to_rgb(image).getpixel((0, 0)) == (120, 60, 200)
    lab = Image.new("LAB", (2, 2), (255, 128, 128))
    lab.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert min(to_rgb(lab).getpixel((0, 0))) > 250


def bomb(path: Path, width: int, height: int) -> Path:
    """A PNG of a few bytes whose header claims width x height pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)))
    return path


@pytest.mark.parametrize("size", [(10_001, 10_000), (60_000, 60_000), (2_000_000_000, 2)])
def test_decompression_bombs_are_refused_before_memory_is_taken(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="at most 100 million pixels") as caught:
        open_image(bomb(tmp_path / "bomb.png", *size))
    assert "\n" not in str(caught.value)


def test_the_largest_picture_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 12)
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png").size == (4, 3)
    assert MAX_PIXELS == 100_000_000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes"),
        (b"no picture at all", "known kind"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "known kind"),  # would start another program
        (b"\x89PNG\r\n\x1a\nnothing", "picture"),
    ],
)
def test_bad_files_are_told_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "bad.png"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        read_rgb(file)
    assert "bad.png" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="no such file"):
        read_rgb(tmp_path / "none.png")


@given(st.integers(0, 400), st.binary(max_size=60))
@settings(max_examples=40, deadline=None)
def test_a_damaged_file_is_a_message_or_a_picture(
    tmp_path_factory: pytest.TempPathFactory, cut: int, tail: bytes
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    Image.effect_noise((20, 20), 60).save(folder / "a.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:cut] + tail)
    try:
        assert read_rgb(folder / "b.png").mode == "RGB"
    except ConfigError as error:
        assert "b.png" in str(error) and "\n" not in str(error)


def test_a_header_tells_size_and_format_as_they_are_read(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in ("a.jpg", "a.png", "a.webp", "a.tif"):
        Image.new("RGB", (6, 4)).save(tmp_path / name, exif=turned)
        assert read_header(tmp_path / name).size == read_rgb(tmp_path / name).size == (4, 6), name
    assert read_header(tmp_path / "a.webp").format == "WEBP"


def test_of_several_frames_the_first_alone_is_decoded(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), (50 * k, 0, 0)) for k in range(4)]
    for kind in ("GIF", "PNG", "TIFF"):
        file = tmp_path / f"a.{kind.lower()}"
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        assert read_rgb(file).getpixel((0, 0)) == (0, 0, 0)


def test_a_file_of_too_many_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_BYTES", 20)
    with pytest.raises(ConfigError, match="a picture of at most 20 bytes"):
        read_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.eps"])
def test_no_picture_starts_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    marker = tmp_path / "ran"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    file = tmp_path / name
    Image.new("RGB", (8, 8)).save(file, "EPS")
    for read in (read_rgb, open_image, read_header):
        with pytest.raises(ConfigError, match="not a picture of a known kind"):
            read(file)
    assert not marker.exists()


def test_text_chunks_that_unpack_to_gigabytes_are_refused(tmp_path: Path) -> None:
    body = b"midms\0\0" + zlib.compress(b" " * 100_000_000, 9)
    content = bomb(tmp_path / "a.png", 2, 2).read_bytes()
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    with pytest.raises(ConfigError, match="not a whole picture"):
        read_header(tmp_path / "a.png")


def test_a_damaged_exif_entry_is_none_and_says_nothing(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    for entry in (
        b"Exif\0\0MM\0*\0\0\0\b",
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\b\0\1\1\x12",
    ):
        Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=entry)
        assert read_rgb(tmp_path / "a.jpg").size == read_header(tmp_path / "a.jpg").size == (6, 4)
    assert not list(recwarn)
