"""Drawn items from disk: equal bit for bit, drawn once, bounded, shared, never stale."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from midms.data.procedural import cache, faces
from midms.data.procedural.cache import ProceduralCache
from midms.data.procedural.dataset import ProceduralImages, ProceduralPairs


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[key], other[key]) if torch.is_tensor(one[key]) else one[key] == other[key] for key in one
    )


@pytest.fixture
def drawn(monkeypatch):
    """Counts the pictures that are drawn."""
    pictures: list[int] = []
    render = faces.render

    def counting(*arguments):
        pictures.append(1)
        return render(*arguments)

    monkeypatch.setattr(faces, "render", counting)
    return pictures


@pytest.mark.parametrize("kind", [ProceduralImages, ProceduralPairs])
def test_items_are_equal_and_drawn_once(tmp_path, drawn, kind):
    plain = kind("faces", 16, "train", 5)
    cached = ProceduralCache(kind("faces", 16, "train", 5), tmp_path)
    assert (len(cached), cached.task, cached.size) == (5, "faces", 16) == (len(plain), plain.task, plain.size)
    drawn.clear()
    first = [cached[index] for index in range(5)]
    assert all(equal(item, plain[index]) for index, item in enumerate(first))
    drawn.clear()
    again = [ProceduralCache(kind("faces", 16, "train", 5), tmp_path) for _ in range(2)]  # each draws its example
    drawn.clear()
    assert all(equal(again[0][index], first[index]) and equal(again[1][index], first[index]) for index in range(5))
    assert not drawn


def test_longer_and_shorter_sets_share_a_file(tmp_path, drawn):
    short, long = (ProceduralCache(ProceduralImages("faces", 16, length=length), tmp_path) for length in (2, 4))
    kept = [short[index]["image"] for index in range(2)]
    drawn.clear()
    assert torch.equal(long[1]["image"], kept[1]) and not drawn
    assert torch.equal(long[3]["image"], ProceduralImages("faces", 16)[3]["image"])
    assert short.path == long.path and len(list(tmp_path.iterdir())) == 2


def test_the_size_is_bounded(tmp_path, drawn):
    item_bytes = 3 * 16 * 16
    cached = ProceduralCache(ProceduralImages("faces", 16, length=6), tmp_path, max_gb=2.5 * item_bytes / 1e9)
    for _ in range(2):
        drawn.clear()
        assert all(equal(cached[index], cached.dataset[index]) for index in range(6))
    assert len(drawn) == 6 + 4, "two of six are read, four drawn anew (and all six for the comparison)"
    assert cached.path.stat().st_size == 2 * item_bytes


def test_filling_uses_processes_and_skips_what_is_there(tmp_path, drawn):
    cached = ProceduralCache(ProceduralImages("faces", 16, length=5), tmp_path)
    cached[3]
    counts: list[int] = []
    cached.fill(processes=2, report=counts.append)
    assert counts == [5]
    drawn.clear()
    batch = next(iter(DataLoader(cached, 5, num_workers=1)))["image"]
    assert torch.equal(batch, torch.stack([cached.dataset[index]["image"] for index in range(5)]))
    cached.fill(processes=0, report=counts.append)
    assert counts == [5], "nothing is left to do"


def test_other_arguments_and_other_drawing_code_have_files_of_their_own(tmp_path, monkeypatch):
    made = [ProceduralImages("faces", 16), ProceduralImages("faces", 32), ProceduralImages("figures", 16),
            ProceduralImages("faces", 16, "val"), ProceduralImages("faces", 16, seed=1), ProceduralPairs("faces", 16),
            ProceduralPairs("faces", 16, exemplars={"hard": 1.0})]  # fmt: skip
    names = [ProceduralCache(dataset, tmp_path).path.name for dataset in made]
    assert len(set(names)) == len(made) and names[0].startswith("faces-16-train-")
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "faces.py").write_text("other drawing code")
    monkeypatch.setattr(cache, "__file__", str(folder / "cache.py"))
    assert ProceduralCache(made[0], tmp_path).path.name != names[0]


def test_the_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MIDMS_CACHE", str(tmp_path))
    assert ProceduralCache(ProceduralImages("faces", 16)).path.parent == tmp_path / "drawn"


def test_pairs_with_truth_are_refused(tmp_path):
    with pytest.raises(ValueError, match="truth is not stored"):
        ProceduralCache(ProceduralPairs("faces", 16, truth=True), tmp_path)
