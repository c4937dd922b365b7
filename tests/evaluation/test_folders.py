"""Folders of images: order, sizes, formats, and the name of whatever is wrong."""

import os

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from midms.data.folder import ImageFolder as PhotoPairs
from midms.data.photos import Photos
from midms.data.transforms import image_tensor, photo_pixels
from midms.evaluation import folders as folders_module
from midms.evaluation.folders import ImageFolder, NotApplicableError, PairedFolders, match_names, read_labels
from midms.io.images import read_rgb


def save(path, size=(8, 6), seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def test_images_come_in_natural_order_as_they_are(tmp_path):
    pixels = {name: save(tmp_path / f"{name}.png", seed=k) for k, name in enumerate(["b2", "b10", "a/1"])}
    (tmp_path / "note.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    folder = ImageFolder(tmp_path)
    assert folder.names == ["a/1", "b2", "b10"]
    assert folder.left_out == "1 file, the first is note.txt"
    assert folder.ignored == ["note.txt"] and folder.size == (8, 6) and folder.image_format == "PNG"
    for image, name in zip(folder, folder.names, strict=False):
        assert image.dtype == torch.uint8
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), pixels[name])


def test_compression_happens_once(tmp_path):
    save(tmp_path / "png" / "x.png", (32, 32))
    save(tmp_path / "jpg" / "x.jpg", (32, 32), quality=75)
    plain, compressed, stored = (
        ImageFolder(tmp_path / name, jpeg=jpeg)[0] for name, jpeg in [("png", False), ("png", True), ("jpg", True)]
    )
    assert torch.equal(compressed, stored) and not torch.equal(plain, stored)
    assert torch.equal(ImageFolder(tmp_path / "png", jpeg=True).uncompressed()[0], plain)
    assert ImageFolder(tmp_path / "png", jpeg=True).image_format == "PNG, through JPEG quality 75"
    assert ImageFolder(tmp_path / "jpg", jpeg=True).image_format == "JPEG"


def test_resizing_is_pillows_bicubic(tmp_path):
    pixels = save(tmp_path / "x.png", (32, 20))
    folder = ImageFolder(tmp_path, size=16)
    want = np.array(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(folder[0].permute(1, 2, 0).numpy(), want)
    assert "resized to 16x16" in folder.image_format


def test_the_fingerprint_follows_the_files(tmp_path):
    save(tmp_path / "x.png")
    before = ImageFolder(tmp_path).fingerprint()
    assert ImageFolder(tmp_path).fingerprint() == before != ImageFolder(tmp_path, jpeg=True).fingerprint()
    save(tmp_path / "x.png", seed=1)
    assert ImageFolder(tmp_path).fingerprint() != before


def _empty(folder):
    folder.mkdir()


def _no_images(folder):
    folder.mkdir()
    (folder / "list.txt").write_text("")


def _mixed(folder):
    save(folder / "a.png", (8, 8))
    save(folder / "b.png", (9, 8))


def _zero_bytes(folder):
    save(folder / "a.png")
    (folder / "b.png").write_bytes(b"")


def _no_image_inside(folder):
    save(folder / "a.png")
    (folder / "b.jpg").write_text("text")


def _twice(folder):
    save(folder / "a.png")
    save(folder / "a.jpg")


def _bomb(folder):
    folder.mkdir()
    Image.new("1", (20000, 10000)).save(folder / "a.png")


def _link_to_nothing(folder):
    save(folder / "a.png")
    (folder / "b.png").symlink_to(folder / "nowhere.png")


def _no_text(folder):
    save(folder / "a.png")
    os.rename(folder / "a.png", os.fsencode(folder) + b"/\xff.png")


def _linked_folder(folder):
    save(folder / "a.png")
    save(folder.parent / "elsewhere" / "b.png")
    (folder / "more").symlink_to(folder.parent / "elsewhere")


def _file(folder):
    save(folder, format="PNG")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "no such folder"),
        (_file, "a file, not a folder"),
        (_bomb, r"a\.png: at most 100 million pixels .* make it smaller"),
        (_link_to_nothing, r"b\.png: a link to nothing"),
        (_no_text, r"'.udcff\.png' is not UTF-8"),
        (_linked_folder, "more: a link to a folder, which is not searched"),
        (_empty, "it is empty"),
        (_no_images, r"found 1 other files, such as list\.txt"),
        (_mixed, r"a\.png is 8x8 and b\.png is 9x8; .*--size"),
        (_zero_bytes, r"b\.png: 0 bytes"),
        (_no_image_inside, r"b\.jpg: not a picture of a known kind"),
        (_twice, "2 files are called a"),
    ],
)
def test_a_bad_folder_is_named(tmp_path, make, words):
    make(tmp_path / "images")
    with pytest.raises(ValueError, match=rf"images.*{words}"):
        ImageFolder(tmp_path / "images")


def test_a_truncated_image_is_named_when_it_is_read(tmp_path):
    save(tmp_path / "a.png", (64, 64))
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"a\.png: not a whole picture"):
        ImageFolder(tmp_path)[0]


SIXTEEN = np.full((8, 8), 40000, dtype=np.uint16)
HALF_SEEN = np.full((8, 6, 4), (200, 100, 50, 128), dtype=np.uint8)


def turned_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def red_for_blue():
    """A colour profile in which red and blue have changed places; sRGB itself is not converted."""
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = content.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    for old, new in ((b"rXYZ", b"tmp "), (b"bXYZ", b"rXYZ"), (b"tmp ", b"bXYZ")):
        content = content.replace(old, new)
    return content


@pytest.mark.parametrize(
    ("pixels", "name", "options"),
    [
        (SIXTEEN, "a.png", {}),
        (HALF_SEEN[..., :3], "a.png", {"icc_profile": red_for_blue()}),
        (HALF_SEEN[..., :3], "a.jpg", {"icc_profile": red_for_blue()}),
        (SIXTEEN.astype(np.float32), "a.tif", {}),
        (HALF_SEEN, "a.png", {}),
        (HALF_SEEN[..., :3], "a.jpg", {"exif": turned_exif()}),
        (HALF_SEEN[..., :3], "a.png", {"exif": turned_exif()}),
    ],
)
def test_pictures_are_measured_as_training_and_translating_read_them(tmp_path, pixels, name, options):
    Image.fromarray(pixels).save(tmp_path / name, **options)
    folder = ImageFolder(tmp_path)
    measured = folder[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(measured, np.asarray(read_rgb(tmp_path / name)))
    assert folder.size == measured.shape[1::-1]
    expected = image_tensor(photo_pixels(read_rgb(tmp_path / name), 8))
    np.testing.assert_array_equal(Photos(tmp_path, 8, training=False)[0]["image"], expected)
    pair = PhotoPairs(tmp_path, "edges", training=False, size=8, load_size=8)[0]
    np.testing.assert_array_equal(pair["source"], expected)
    if "icc_profile" in options:
        assert measured[..., 2].min() > measured[..., 0].max() + 100, "red became blue"


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_other_forms_are_read_as_they_look(tmp_path, mode):
    pixels = save(tmp_path / "rgb.png")
    want = Image.fromarray(pixels).convert(mode)
    want.save(tmp_path / ("rgb.tif" if mode == "CMYK" else "rgb.png"))
    if mode == "CMYK":
        (tmp_path / "rgb.png").unlink()
    np.testing.assert_array_equal(ImageFolder(tmp_path)[0].permute(1, 2, 0).numpy(), np.array(want.convert("RGB")))


def test_hidden_folders_hold_no_results(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / ".ipynb_checkpoints" / "a-checkpoint.png")
    assert ImageFolder(tmp_path).names == ["a"]


def test_a_file_that_vanishes_is_named(tmp_path):
    save(tmp_path / "a.png")
    folder = ImageFolder(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(ValueError, match=r"a\.png: no such file"):
        folder[0]


def test_partners_are_found_by_name(tmp_path):
    assert match_names(["a", "c"], ["c", "b", "a"], "truth") == [2, 0]
    with pytest.raises(NotApplicableError, match=r"truth: 1 of 2 .* first is d.*starts with c"):
        match_names(["a", "d"], ["c", "b", "a"], "truth")
    for name in ("x", "y"):
        save(tmp_path / "one" / f"{name}.png", seed=1)
        save(tmp_path / "two" / f"{name}.jpg", seed=2)
        save(tmp_path / "big" / f"{name}.jpg", (9, 9))
    one, two, big = (ImageFolder(tmp_path / name) for name in ("one", "two", "big"))
    pairs = PairedFolders(one, two, "truth")
    assert len(pairs) == 2 and torch.equal(pairs[1][1], two[1])
    with pytest.raises(NotApplicableError, match=r"8x6 .* 9x9"):
        PairedFolders(one, big, "truth")


def test_labels_are_read_without_interpolation(tmp_path):
    Image.fromarray(np.array([[0, 7], [150, 255]], dtype=np.uint8)).save(tmp_path / "labels.png")
    assert read_labels(tmp_path / "labels.png", (4, 2)).tolist() == [[0, 0, 7, 7], [150, 150, 255, 255]]
    save(tmp_path / "rgb.png")
    with pytest.raises(ValueError, match="one channel"):
        read_labels(tmp_path / "rgb.png", (4, 2))


@pytest.mark.parametrize("jpeg", [False, True])
def test_kept_pixels_are_those_of_the_files_and_each_file_is_decoded_once(tmp_path, monkeypatch, jpeg):
    rng = np.random.default_rng(0)
    for k in range(3):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(tmp_path / f"{k}.png")
    plain, kept = (ImageFolder(tmp_path, size=16, jpeg=jpeg) for _ in range(2))
    kept.keep_decoded(tmp_path / "cache" / "pixels")
    reads, read = [], folders_module.read_rgb
    monkeypatch.setattr(folders_module, "read_rgb", lambda path: reads.append(path) or read(path))
    for folder in (kept, kept.uncompressed(), kept):
        got = [folder[index] for index in range(3)]
    assert len(reads) == 3 == len(set(reads))
    for index in range(3):
        assert torch.equal(got[index], plain[index])
        assert torch.equal(kept.uncompressed()[index], plain.uncompressed()[index])
    assert kept.fingerprint() == plain.fingerprint(), "stored features are found again"


def test_a_restricted_folder_has_only_the_named_images(tmp_path):
    for k in range(4):
        Image.new("RGB", (8, 8), (60 * k, 0, 0)).save(tmp_path / f"{k}.png")
    folder = ImageFolder(tmp_path)
    part = folder.restricted({"3", "1"})
    assert part.names == ["1", "3"] and len(folder) == 4
    assert part[1][0, 0, 0] == 180
