"""Uploads: what is taken, and that everything else is refused in one line that names the file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile_uploads import hostile_files, png_header
from PIL import Image

from midms.app.uploads import MAX_BYTES, UploadError, read_condition, read_upload
from midms.conditions.make import ConditionSpec
from midms.conditions.photos import annotate, models

SPEC = ConditionSpec(15, 64)
HOSTILE = hostile_files()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_get_a_message(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(HOSTILE[name])
    with pytest.raises(UploadError) as caught:
        read_upload(file)
    message = str(caught.value)
    assert message.startswith(name) and str(tmp_path) not in message and "\n" not in message


def test_there_are_fifty_of_them() -> None:
    assert len(HOSTILE) >= 50


def test_bytes_are_bounded_before_anything_is_read(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    with file.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(UploadError, match="at most 20 MB"):
        read_upload(file)
    with pytest.raises(UploadError, match="at most 20 MB"):
        read_condition(file.rename(tmp_path / "large.npy"), SPEC)


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    file = tmp_path / "bomb.png"
    file.write_bytes(png_header(60_000, 60_000))
    with pytest.raises(UploadError, match="million pixels"):
        read_upload(file)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK", "LA", "I;16"])
def test_pictures_of_every_mode_are_taken(mode: str, tmp_path: Path) -> None:
    picture = Image.new(mode, (40, 30))
    file = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    picture.save(file)
    read = read_upload(file)
    assert read.mode == "RGB" and read.size == (40, 30)


def test_phone_photos_stand_upright(tmp_path: Path) -> None:
    picture, exif = Image.new("RGB", (40, 30)), Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "phone.jpg", exif=exif)
    assert read_upload(tmp_path / "phone.jpg").size == (30, 40)


def test_maps_are_read_as_they_are(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).integers(0, 256, (15, 8, 12), np.uint8)
    np.save(tmp_path / "maps.npy", maps)
    np.savez(tmp_path / "maps.npz", maps / 255)
    for name in ("maps.npy", "maps.npz"):
        read = read_condition(tmp_path / name, SPEC).maps
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, maps)


@pytest.mark.parametrize("spec", [SPEC, ConditionSpec(3, 64, images=True)])
def test_maps_that_do_not_fit_are_refused(spec: ConditionSpec, tmp_path: Path) -> None:
    contents = {"shape.npy": np.zeros((7, 8, 8)), "range.npy": np.full((spec.channels, 8, 8), 3.0),
                "flat.npy": np.zeros(15), "nan.npy": np.full((spec.channels, 8, 8), np.nan)}  # fmt: skip
    for name, array in contents.items():
        np.save(tmp_path / name, array)
    (tmp_path / "claims.npy").write_bytes(_claim((spec.channels, 60_000, 60_000)))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "none.npz", "w") as archive:
        archive.writestr("note.txt", "no array")
    for file in sorted(tmp_path.iterdir()):
        with pytest.raises(UploadError, match=file.name):
            read_condition(file, spec)


def test_a_condition_that_is_an_image_keeps_its_colours(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    read = read_condition(tmp_path / "image.png", ConditionSpec(3, 64, images=True)).maps
    np.testing.assert_array_equal(read, pixels.transpose(2, 0, 1))


def test_a_portrait_photo_comes_with_what_was_cut_out(tmp_path, monkeypatch):
    def portrait(photo: Image.Image, align: bool = True, min_side: int = 0) -> annotate.Portrait:
        return annotate.Portrait(photo.crop((0, 0, 50, 50)), np.ones((50, 50), np.uint8), "one of two faces")

    monkeypatch.setattr(models, "have_models", lambda: True)
    monkeypatch.setattr(annotate, "portrait", portrait)
    noise = np.random.default_rng(0).integers(0, 256, (80, 60, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "me.png")
    read = read_condition(tmp_path / "me.png", SPEC)
    assert read.maps.shape == (15, 64, 64) and read.note == "one of two faces"
    assert read.photo is not None and read.photo.shape == (64, 64, 3)
    assert read_condition(tmp_path / "me.png", SPEC, "drawing").photo is None


def _claim(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue() + b"\0" * 100
