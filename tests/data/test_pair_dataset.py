"""What all data sets of photos have in common, on photos that are kept in memory."""

from __future__ import annotations

import inspect
import warnings
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from midms.data.pairs import LOAD_RATIO, PairDataset, find_names, find_pairs, is_training
from midms.io.files import BrokenFileError

NAMES = [f"{letter}.jpg" for letter in "abcdef"]
PAIRS = {name: [NAMES[(k + 1) % 6], NAMES[(k + 2) % 6], NAMES[(k + 3) % 6]] for k, name in enumerate(NAMES)}


class Memory(PairDataset):
    """Each photo has its number as its red level and its columns as its one map."""

    kind, channels = "memory", 1

    def __init__(
        self, names: list[str] = NAMES, pairs: dict[str, list[str]] = PAIRS, broken: str = "", **options: object
    ):
        self.unreadable, self.made = broken, list[str]()
        super().__init__(names, pairs, **options)

    def photo_file(self, name: str) -> Path:
        return Path("memory") / name

    def read_photo(self, name: str) -> Image.Image:
        self.made.append(name)
        if name[0] in self.unreadable:
            raise BrokenFileError(self.photo_file(name), "not a picture")
        return Image.new("RGB", (self.load_size, self.load_size), (10 * NAMES.index(name), 0, 255))

    def maps(self, name: str, photo: Image.Image) -> np.ndarray:
        columns = np.arange(self.load_size, dtype=np.uint8)
        return np.broadcast_to(columns, (1, self.load_size, self.load_size))


def number(image: torch.Tensor) -> int:
    """Which photo an image shows."""
    (red,) = image[0].unique().tolist()
    return round((red + 1) * 127.5 / 10)


def test_evaluation_takes_the_whole_photo_and_the_first_exemplar():
    dataset = Memory(size=8)
    assert dataset.load_size == 8 and not dataset.draws_views
    for index, name in enumerate(NAMES):
        item = dataset[index]
        assert number(item["source"]) == index and number(item["exemplar"]) == (index + 1) % 6
        assert (item["name"], item["exemplar_name"]) == (name[0], PAIRS[name][0][0])
        assert (item["condition"][0, 0] * 255).round().tolist() == list(range(8))


@pytest.mark.parametrize(("size", "expected"), [(256, 286), (128, 143), (8, 9)])
def test_training_loads_photos_larger_by_the_published_proportion(size, expected):
    dataset = Memory(size=size, training=True)
    assert dataset.load_size == expected == round(size * LOAD_RATIO) and dataset.draws_views


def test_the_two_views_of_a_training_item_are_windows_of_the_loaded_photo():
    dataset = Memory(training=True, size=8, load_size=20)
    starts = set()
    for draw in range(40):
        item = dataset[0, draw]
        for key in ("condition", "exemplar_condition"):
            columns = (item[key][0, 0] * 255).round().int()
            start, step = int(columns.min()), int(columns[1] - columns[0])
            assert abs(step) == 1 and columns.sort().values.tolist() == list(range(start, start + 8))
            starts.add((key, start, step))
    assert len({start for _, start, _ in starts}) > 8 and {step for _, _, step in starts} == {-1, 1}


@pytest.mark.parametrize(("kind", "expected"), [("self", 0), ("easy", 1), ("hard", 3)])
def test_each_kind_of_exemplar_is_the_one_of_its_place_in_the_line(kind, expected):
    dataset = Memory(training=True, size=8, exemplars={kind: 1.0})
    for index in range(6):
        assert {number(dataset[index, draw]["exemplar"]) for draw in range(5)} == {(index + expected) % 6}


def test_draws_depend_on_seed_index_and_draw_alone():
    one, same, other = (Memory(training=True, size=8, seed=seed) for seed in (1, 1, 2))
    one[5, 9], one[3]
    items = [[dataset[k, draw] for k in range(4) for draw in range(4)] for dataset in (one, same, other)]
    pairs = [list(zip(items[0], others, strict=True)) for others in items[1:]]
    assert all(torch.equal(a["condition"], b["condition"]) for a, b in pairs[0])
    assert any(not torch.equal(a["condition"], b["condition"]) for a, b in pairs[1])


def test_indices_count_from_both_ends_and_a_loop_ends():
    dataset = Memory(size=8)
    assert number(dataset[-1]["source"]) == 5 and len(list(islice(dataset, 20))) == 6
    for index in (6, -7):
        with pytest.raises(IndexError, match=f"item {index} of 6"):
            dataset[index]


@pytest.mark.parametrize("options", [{"size": 9, "load_size": 8}, {"size": 0}, {"size": -4, "load_size": 8}])
def test_sizes_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError, match="expected 1 <= size <= load_size"):
        Memory(**options)


def test_an_image_without_exemplar_is_refused_left_out_or_not_needed():
    pairs = {name: row for name, row in PAIRS.items() if name not in ("b.jpg", "d.jpg")}
    with pytest.raises(ValueError, match=r"2 of 6 images have no exemplar, first 'b\.jpg'"):
        Memory(pairs=pairs, size=8)
    skipping = Memory(pairs=pairs, size=8, skip_broken=True)
    assert skipping.names == ["a.jpg", "c.jpg", "e.jpg", "f.jpg"] and skipping.broken == ["b.jpg", "d.jpg"]
    assert len(Memory(pairs={}, training=True, size=8, exemplars={"self": 1.0})) == 6
    with pytest.raises(ValueError, match="no images"):
        Memory(names=[], size=8)


def test_broken_photos_are_named_or_replaced_by_the_next_and_read_once():
    with pytest.raises(BrokenFileError, match=r"memory/b\.jpg: not a picture"):
        Memory(broken="b", size=8)[0]
    dataset = Memory(broken="bc", size=8, skip_broken=True)
    with pytest.warns(UserWarning, match=r"skipped memory/b\.jpg: not a picture"):
        item = dataset[0]  # its exemplar is b; the items of b and c are broken themselves
    assert item["name"] == "d" and sorted(dataset.broken) == ["b.jpg", "c.jpg"]
    dataset.made.clear()
    assert dataset[0]["name"] == "d" and not {"b.jpg", "c.jpg"} & set(dataset.made), "broken ones are not tried again"


def test_a_data_set_of_broken_photos_says_so_and_does_not_search_for_ever():
    dataset = Memory(broken="abcdef", size=8, skip_broken=True)
    with warnings.catch_warnings(), pytest.raises(ValueError, match="every image of memory is broken"):
        warnings.simplefilter("ignore")
        dataset[2]


def test_prepared_items_are_made_once_for_each_size(tmp_path):
    dataset = Memory(size=8, cache_folder=tmp_path)
    items = [dataset[0], dataset[0], dataset[1]]
    assert dataset.made == ["a.jpg", "b.jpg", "c.jpg"]
    assert torch.equal(items[0]["exemplar"], items[1]["exemplar"])
    assert torch.equal(items[0]["exemplar"], items[2]["source"])
    larger = Memory(size=12, cache_folder=tmp_path)
    assert larger[0]["source"].shape == (3, 12, 12) and larger.made == ["a.jpg", "b.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["memory-12", "memory-8"]


def test_images_are_conditions_and_exemplars_each_once():
    dataset = Memory(names=["a.jpg", "b.jpg"], pairs={"a.jpg": ["b.jpg", "z.jpg"], "b.jpg": ["z.jpg"]}, size=8)
    assert dataset.images == ["a.jpg", "b.jpg", "z.jpg"] and len(dataset) == 2


def test_a_subclass_shows_the_options_in_its_signature():
    named = inspect.signature(Memory).parameters
    assert {"names", "pairs", "broken", "size", "load_size", "exemplars", "cache_folder", "seed"} <= set(named)
    assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in named.values())


def test_lists_of_a_data_set_name_what_is_wrong(tmp_path):
    names = tmp_path / "train.txt"
    names.write_text("1\n\ntwo\n3\n")

    def numbered(entry: str) -> str:
        return f"{int(entry)}.jpg"

    with pytest.raises(ValueError, match=r"train\.txt: invalid literal"):
        find_names(names, numbered, {})
    assert find_names(names, numbered, {"skip_broken": True}) == ["1.jpg", "3.jpg"]
    with pytest.raises(ValueError, match=r"none\.txt: no such pair list; make one with .*or train on the photos"):
        find_pairs(tmp_path / "none.txt", str, True, {})
    assert find_pairs(tmp_path / "none.txt", str, True, {"exemplars": {"self": 1.0}}) == {}
    with pytest.raises(ValueError, match="no such pair list"):
        find_pairs(tmp_path / "none.txt", str, False, {"exemplars": {"self": 1.0}})
    assert is_training("train") and not is_training("val")
    with pytest.raises(ValueError, match="split 'valid': expected 'train' or 'val'"):
        is_training("valid")
