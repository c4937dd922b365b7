"""Pair lists and the draw of an exemplar's kind."""

from __future__ import annotations

import numpy as np
import pytest

from midms.data.exemplars import (
    EXEMPLARS,
    check_shares,
    draw_kind,
    format_pairs,
    normalise_name,
    read_pairs,
    split_line,
)


def test_names_are_written_in_any_way():
    for entry in ("img\\WOMEN\\a.jpg", "./img/WOMEN/a.jpg", "/img/WOMEN/a.jpg ", "img/WOMEN/a.jpg\r"):
        assert normalise_name(entry) == "img/WOMEN/a.jpg"


def test_a_list_is_read_as_it_was_written(tmp_path):
    pairs = {"a.jpg": ["b.jpg", "c.jpg"], "d/e.jpg": ["f.jpg"]}
    file = tmp_path / "list.txt"
    file.write_text("\ufeff" + format_pairs(pairs).replace("\n", "\r\n") + "\n", encoding="utf-8")
    assert read_pairs(file) == pairs


def test_malformed_lines_are_named_or_left_out(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("a.jpg,b.jpg\nc.jpg,\n")
    with pytest.raises(ValueError, match=r"list\.txt: line 2: 'c\.jpg,' holds no exemplar"):
        read_pairs(file)
    assert read_pairs(file, skip_malformed=True) == {"a.jpg": ["b.jpg"]}
    with pytest.raises(ValueError, match="no such file"):
        read_pairs(tmp_path / "none.txt")
    assert split_line("x, y ,z") == ("x", ["y", "z"])


def test_the_published_lists_are_understood(shared):
    for name, lines, exemplars in (("celebahq", 2993, 20), ("lsun_church", 300, 2)):
        pairs = read_pairs(shared / "samples" / "full_pair_lists" / f"midms_{name}_ref_test.txt")
        assert len(pairs) == lines and {len(row) for row in pairs.values()} == {exemplars}


def test_kinds_come_in_the_published_shares():
    rng = np.random.default_rng(0)
    drawn = [draw_kind(rng, EXEMPLARS) for _ in range(4000)]
    shares = {kind: drawn.count(kind) / len(drawn) for kind in EXEMPLARS}
    assert shares == pytest.approx({"hard": 0.2, "easy": 0.5, "self": 0.3}, abs=0.02)
    assert {draw_kind(rng, {"self": 1.0}) for _ in range(20)} == {"self"}
    for wrong in ({"self": 0.5}, {"own": 1.0}, {"self": 1.5, "hard": -0.5}):
        with pytest.raises(ValueError, match="add up to 1"):
            check_shares(wrong)


def test_names_with_commas_quotes_and_spaces_come_back_from_a_list(tmp_path):
    pairs = {"Smith, John 1.jpg": ['the "new" one.jpg', "b/c d.jpg"], "plain.jpg": ["Smith, John 1.jpg"]}
    file = tmp_path / "list.txt"
    file.write_text(format_pairs(pairs))
    assert read_pairs(file) == pairs
    assert '"Smith, John 1.jpg"' in file.read_text() and "\nplain.jpg," in file.read_text()
    file.write_text('"open, a.jpg,b.jpg\n')
    with pytest.raises(ValueError, match=r"line 1: .*double quotes"):
        read_pairs(file)


@pytest.mark.parametrize("name", [" a.jpg", "a.jpg ", "a\\b.jpg", "a\nb.jpg", "./a.jpg", "a\u2028b.jpg"])
def test_names_that_no_list_can_hold_are_refused_by_the_writer(name):
    for pairs in ({name: ["b.jpg"]}, {"b.jpg": [name]}):
        with pytest.raises(ValueError, match="rename the file"):
            format_pairs(pairs)
