"""Outputs of other methods find their pairs, whatever their files are called; what does not fit is named."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from others.outputs import Panel, collect_outputs, match_outputs, write_outputs
from others.pairs import Pair

PAIRS = [
    Pair(number=k, name=name, condition=f"{name}.jpg", exemplar="e.jpg") for k, name in enumerate(("x", "s/y", "z"))
]


def _outputs(folder, names, width=4):
    for index, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((4, width, 3), 40 * index, np.uint8)
        pixels[:, width // 2 :] += 100
        Image.fromarray(pixels).save(file)
    return folder


@pytest.mark.parametrize(
    ("way", "pattern", "names"),
    [
        ("number", "*", ["00000.png", "00001.png", "00002.png"]),
        ("number", "*", ["epoch5_0.png", "epoch5_1.png", "epoch5_2.png"]),
        ("number", "*_fake_*", ["a_fake_0.png", "a_real_0.png", "a_fake_1.png", "a_fake_2.png"]),
        ("name", "*", ["z.png", "x.png", "s/y.png"]),
        ("order", "*result*", ["0101-result.png", "0101-structure.png", "0102-result.png", "0110-result.png"]),
    ],
)  # fmt: skip
def test_every_way_finds_the_pairs(tmp_path, way, pattern, names):
    folder = _outputs(tmp_path / "results", names)
    found, missing = match_outputs(PAIRS, collect_outputs(folder, pattern), way)
    kept = [name for name in names if "real" not in name and "structure" not in name]
    if way == "name":
        kept = [kept[1], kept[2], kept[0]]
    assert not missing and [found[pair.name] for pair in PAIRS] == [folder / name for name in kept]
    write_outputs(found, tmp_path / "out")
    for pair, name in zip(PAIRS, kept, strict=True):
        assert (tmp_path / "out" / f"{pair.name}.png").read_bytes() == (folder / name).read_bytes()


def test_what_is_missing_or_twice_is_named(tmp_path):
    folder = _outputs(tmp_path / "results", ["0.png", "2.png", "7.png"])
    found, missing = match_outputs(PAIRS, collect_outputs(folder, "*"), "number")
    assert set(found) == {"x", "z"} and missing == ["s/y"]
    with pytest.raises(ValueError, match=r"1_0.png and .*2_0.png are both of pair x; give --glob PATTERN"):
        match_outputs(PAIRS, collect_outputs(_outputs(tmp_path / "twice", ["1_0.png", "2_0.png"]), "*"), "number")
    with pytest.raises(ValueError, match="--by order: 2 outputs of 3 pairs"):
        match_outputs(PAIRS, collect_outputs(tmp_path / "twice", "*"), "order")
    with pytest.raises(ValueError, match="no image fits --glob"):
        collect_outputs(folder, "*.jpg")


def test_a_panel_is_cut_out(tmp_path):
    folder = _outputs(tmp_path / "results", ["0.png"], width=8)
    found, _ = match_outputs(PAIRS, collect_outputs(folder, "*"), "number")
    write_outputs(found, tmp_path / "out", Panel(2, 2))
    cut = np.asarray(Image.open(tmp_path / "out" / "x.png"))
    assert cut.shape == (4, 4, 3) and (cut == 100).all()
    with pytest.raises(ValueError, match="8 pixels are not 3 panels"):
        write_outputs(found, tmp_path / "out", Panel(1, 3))
