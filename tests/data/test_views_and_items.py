"""Views of a photo and its maps, and prepared items on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from midms.data.cache import cache_file, load_item, save_item
from midms.data.exemplars import check_shares, draw_kind, format_pairs, read_pairs
from midms.data.transforms import (
    View,
    apply_view,
    centre_view,
    draw_view,
    grey_pixels,
    image_tensor,
    photo_pixels,
    unit_tensor,
)

COORDINATES = np.stack(np.meshgrid(np.arange(20), np.arange(20))).astype(np.uint8)  # (x, y) of each pixel


@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_a_drawn_view_lies_inside_and_shows_what_it_says(seed: int, size: int) -> None:
    view = draw_view(np.random.default_rng(seed), 20, size)
    assert 0 <= view.x <= 20 - size and 0 <= view.y <= 20 - size
    seen = apply_view(COORDINATES, view)
    assert seen.shape == (2, size, size)
    columns = range(view.x, view.x + size)
    assert seen[0, 0].tolist() == list(reversed(columns) if view.flip else columns)
    assert seen[1, :, 0].tolist() == list(range(view.y, view.y + size))


def test_all_places_and_both_sides_are_drawn() -> None:
    rng = np.random.default_rng(0)
    views = [draw_view(rng, 6, 4) for _ in range(400)]
    assert {(view.x, view.y) for view in views} == {(x, y) for x in range(3) for y in range(3)}
    assert 0.4 < np.mean([view.flip for view in views]) < 0.6


def test_the_evaluations_view_is_the_middle_unmirrored() -> None:
    assert centre_view(20, 20) == View(0, 0, False, 20)
    assert centre_view(286, 256) == View(15, 15, False, 256)


def test_a_view_is_no_copy() -> None:
    seen = apply_view(COORDINATES, View(2, 3, True, 5))
    assert np.shares_memory(seen, COORDINATES)


def test_pixels_become_numbers_and_their_ranges() -> None:
    pixels = np.array([[[0, 255]]] * 3, np.uint8)
    assert image_tensor(pixels).flatten().tolist() == [-1.0, 1.0] * 3
    assert unit_tensor(pixels[:1]).flatten().tolist() == [0.0, 1.0]
    flipped = apply_view(COORDINATES, View(0, 0, True, 20))
    assert image_tensor(flipped).shape == (2, 20, 20), "negative strides are no trouble"


def test_photos_are_resized_once_and_not_at_their_own_size() -> None:
    rng = np.random.default_rng(1)
    photo = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    np.testing.assert_array_equal(photo_pixels(photo, 16).transpose(1, 2, 0), np.asarray(photo))
    assert photo_pixels(photo, 8).shape == (3, 8, 8) and grey_pixels(photo, 8).shape == (8, 8)
    np.testing.assert_array_equal(grey_pixels(photo, 16), np.asarray(photo.convert("L")))
    plain = Image.new("RGB", (30, 10), (10, 200, 30))
    assert (photo_pixels(plain, 8) == np.array([10, 200, 30])[:, None, None]).all(), "a plain photo stays plain"


def test_an_item_comes_back_as_it_was_and_nothing_else_does(tmp_path: Path) -> None:
    item = np.random.default_rng(0).integers(0, 255, (5, 8, 8), dtype=np.uint8)
    file = cache_file(tmp_path, "edges", 8, "folder/a photo")
    assert file == tmp_path / "edges-8" / "folder" / "a photo.npy" and load_item(file, 5, 8) is None
    save_item(file, item[:, :, ::-1])
    loaded = load_item(file, 5, 8)
    assert loaded is not None and np.array_equal(loaded, item[:, :, ::-1])
    assert load_item(file, 6, 8) is None and load_item(file, 5, 9) is None, "of another form: made anew"
    assert [path.name for path in file.parent.iterdir()] == ["a photo.npy"], "nothing half written is left"


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_damaged_items_are_made_anew(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.npy"
    file.write_bytes(content)
    assert load_item(file, 5, 8) is None


def test_an_item_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert load_item(tmp_path / "objects.npy", 5, 8) is None


@pytest.mark.parametrize("name", ["../secret", "a/../../b"])
def test_names_do_not_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a prepared item cannot lie outside"):
        cache_file(tmp_path, "edges", 8, name)


NAMES = st.text("abcdefgh0123_", min_size=1, max_size=6).map(lambda word: f"{word}.jpg")


@given(st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=4), min_size=1, max_size=6))
def test_a_written_list_is_read_again(tmp_path_factory: pytest.TempPathFactory, pairs: dict[str, list[str]]) -> None:
    file = tmp_path_factory.mktemp("lists") / "pairs.txt"
    file.write_text(format_pairs(pairs), encoding="utf-8")
    assert read_pairs(file) == pairs


def test_shares_must_add_up_and_be_known() -> None:
    assert check_shares(None) == {"hard": 0.2, "easy": 0.5, "self": 0.3}
    assert check_shares({"self": 1.0}) == {"self": 1.0}
    for wrong in ({"self": 0.5}, {"other": 1.0}, {"hard": 1.5, "easy": -0.5}):
        with pytest.raises(ValueError, match="expected shares of hard, easy, self that add up to 1"):
            check_shares(wrong)


def test_a_kind_without_a_share_is_never_drawn() -> None:
    rng = np.random.default_rng(0)
    assert {draw_kind(rng, {"easy": 0.5, "self": 0.5}) for _ in range(200)} == {"easy", "self"}
    assert {draw_kind(rng, {"hard": 1.0}) for _ in range(50)} == {"hard"}
