"""Photos of a folder as a data set of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from files_on_disk import photo
from PIL import Image

from midms.data.folder import ImageFolder
from midms.data.photos import Photos


def test_photos_are_read_whole_or_in_views(tmp_path):
    (tmp_path / "more").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "more/b.png", "c.png"):
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(tmp_path / name)
    whole, views = Photos(tmp_path, 32, training=False), Photos(tmp_path, 32)
    assert len(whole) == 3 and len(Photos(tmp_path, 32, first=1, every=2)) == 1
    assert whole[0]["image"].shape == (3, 32, 32) and whole[0]["image"].abs().max() <= 1
    assert torch.equal(views[-1]["image"], views[2]["image"]) and len(list(views)) == 3
    assert torch.equal(views[1]["image"], views[1]["image"]) and not torch.equal(views[1]["image"], whole[1]["image"])


def test_a_split_is_read_from_a_list_and_kept_at_its_size(tmp_path):
    """The list fixes names and order; items from the cache are those from the files, which are then not read again."""
    for number in range(4):
        photo(tmp_path / "mine" / f"{number}.png", number, (60, 40))
    (tmp_path / "train.txt").write_text("3.png\n1.png\n3.png\n")
    options = {"names": tmp_path / "train.txt", "size": 32}
    plain, kept = (
        Photos(tmp_path / "mine", **options),
        Photos(tmp_path / "mine", cache_folder=tmp_path / "c", **options),
    )
    assert plain.names == kept.names == ["3.png", "1.png"]
    before = [kept[0, draw]["image"] for draw in range(3)]
    photo(tmp_path / "mine/3.png", 9)
    assert all(torch.equal(kept[0, draw]["image"], item) for draw, item in enumerate(before))
    assert torch.equal(kept[1, 2]["image"], plain[1, 2]["image"]) and not torch.equal(plain[0]["image"], before[0])


@pytest.mark.parametrize(("text", "message"), [("1.png\n7.png\n", "1 of 2 photos are not in .*, first 7.png"),
                                               ("\n", "it is empty")])  # fmt: skip
def test_a_list_that_does_not_fit_the_folder(text, message, tmp_path):
    for number in range(2):
        photo(tmp_path / "mine" / f"{number}.png", number)
    (tmp_path / "train.txt").write_text(text)
    for make in (Photos, lambda root, names: ImageFolder(root, "edges", names=names)):
        with pytest.raises(ValueError, match=message):
            make(tmp_path / "mine", names=tmp_path / "train.txt")


def test_exemplars_of_a_listed_split_may_be_other_photos(tmp_path):
    for number in range(4):
        photo(tmp_path / "mine" / f"{number}.png", number)
    (tmp_path / "val.txt").write_text("0.png\n2.png\n")
    (tmp_path / "pairs.txt").write_text("0.png,3.png\n2.png,1.png\n")
    dataset = ImageFolder(tmp_path / "mine", "edges", training=False, size=16,
                          names=tmp_path / "val.txt", pairs=tmp_path / "pairs.txt")  # fmt: skip
    assert [(item["name"], item["exemplar_name"]) for item in dataset] == [("0", "3"), ("2", "1")]
    unlisted = ImageFolder(tmp_path / "mine", "edges", names=tmp_path / "val.txt", size=16)
    assert {unlisted[0, draw]["exemplar_name"] for draw in range(20)} == {"0", "2"}


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        Photos(tmp_path)
