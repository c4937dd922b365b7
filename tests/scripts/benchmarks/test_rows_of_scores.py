"""Rows made of several scores, and the pictures that are drawn of rows."""

from __future__ import annotations

import pytest

from benchmarks import photos, plots, retrieval, sampling, steps, training


def test_shares_are_averaged_counts_added_and_times_the_median():
    faces = [photos.FaceScore(0.02, 0.5, ["hair"], [], 0.1), photos.FaceScore(0.04, 0.7, ["nose"], ["hat"], 0.3),
             photos.FaceScore(0.06, 0.6, [], [], 0.2)]  # fmt: skip
    row = photos._row("a name of more than fifteen letters", faces)
    assert row["name"] == "a name of more " and (row["size"], row["pass"], row["median_ms"]) == (3, "face", 200.0)
    assert (row["difference"], row["canny"]) == (0.04, 0.6)
    assert row["missed"] == ["hair", "nose"] and row["invented"] == ["hat"] and "seconds" not in row
    people = photos._row("all", [photos.PoseScore(18, 10, 9, 0, 0.5), photos.PoseScore(12, 12, 8, 2, 0.1)])
    assert (people["pass"], people["joints"], people["found"], people["near"], people["invented"]) == (
        "person", 30, 22, 17, 2,
    )  # fmt: skip


@pytest.fixture
def drawn(monkeypatch):
    """What is given to the plots, by the plot's name."""
    given: dict[str, tuple] = {}
    for name in ("stacked_bars", "curves"):
        monkeypatch.setattr(plots, name, lambda file, *values, name=name: given.update({name: values}))
    return given


def test_saved_memory_is_drawn_by_part_without_the_whole(drawn):
    rows = [{"name": "ours", "pass": "step"}, {"name": "ours", "pass": "unet", "saved_mb": 3.0},
            {"name": "ours", "pass": "rest", "saved_mb": 1.0}, {"name": "ours", "pass": "all", "saved_mb": 4.0},
            {"name": "reference", "pass": "unet", "saved_mb": 9.0}]  # fmt: skip
    training.plot(rows, "a.png")
    assert drawn["stacked_bars"][0] == {"ours": {"unet": 3.0, "rest": 1.0}, "reference": {"unet": 9.0}}


@pytest.mark.parametrize("lpips", [None, 0.2])
@pytest.mark.parametrize("fixed", [None, 1.5])
def test_a_distance_has_a_panel_where_it_was_measured(drawn, fixed, lpips):
    rows = [{"name": name, "calls": calls, "psnr": 20.0 + calls, "feature_distance": 1 / calls, "lpips": lpips,
             "fixed_distance": fixed} for name, calls in (("paper", 70), ("fast", 4))]  # fmt: skip
    steps.plot(rows, "a.png")
    points, places, (_, panels) = drawn["curves"]
    assert places == {"paper": 70, "fast": 4} and len(panels) == (2 if lpips is None else 3)
    assert points["fast"][:2] == [24.0, 1 / 4 if fixed is None else fixed] and len(points["fast"]) == len(panels)
    assert ("distance-L" in panels[1]) == (fixed is not None)


def test_hits_of_a_style_are_counted_against_chance():
    """With two pictures in all the other one is the nearest, so that every search is a hit, by chance as well."""
    assert retrieval.style_hits("faces", styles=1, scenes=2, size=16) == (1.0, 1.0)
    hits, chance = retrieval.style_hits("figures", styles=4, scenes=3, size=16)
    assert chance == pytest.approx(2 / 11) and chance < hits <= 1


def test_modes_of_a_translation_are_those_that_are_documented():
    assert all(f"    {mode} " in sampling.__doc__ for mode in ("reference", *sampling.MODES))
