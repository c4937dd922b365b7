"""Names of files and texts of tables: whatever is in them, order and layout hold."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from midms.evaluation.benchmark import Scores, compare, noise_generators, token_truth
from midms.evaluation.folders import NotApplicableError, _natural, list_images, match_names, read_labels
from midms.evaluation.metrics import summarise
from midms.evaluation.records import Result
from midms.evaluation.report import histogram_svg, levels_svg
from midms.evaluation.tables import Cell, Column, Row, Table, caption, latex, markdown

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8)


@given(st.lists(NAMES, min_size=2, max_size=6, unique=True))
@example(["1", "01"])
def test_every_name_has_its_place_in_whatever_order_a_folder_gives_them(names: list[str]) -> None:
    """Also digits of other scripts, a superscript two, which is a digit but no decimal, and both 1 and 01."""
    assert sorted(names, key=_natural) == sorted(names[::-1], key=_natural)


@pytest.mark.parametrize(
    "names",
    [
        ["2", "10", "a1", "a2", "a10"],
        ["img_9", "img_10", "img_10_2", "img_10_11"],
        ["7/2", "7/10", "12/1"],
        ["1", "1²", "1³", "2"],
        ["01", "1", "02", "2"],
        ["x\u0663", "x10"],  # an Arabic three
    ],
)
def test_numbers_in_names_count_as_numbers(names: list[str], tmp_path: Path) -> None:
    for name in names[::-1]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    assert [file.name for file in list_images(tmp_path)[0]] == names


@given(st.lists(NAMES, min_size=1, max_size=8, unique=True), st.randoms(use_true_random=False))
def test_partners_have_the_same_name_in_any_order(names: list[str], random: Random) -> None:
    others = [*names, "one more"]
    random.shuffle(others)
    assert [others[index] for index in match_names(names, others, "truth")] == names


def test_missing_partners_are_counted_and_the_first_is_named() -> None:
    with pytest.raises(NotApplicableError, match=r"truth: 2 of 3 generated images have no partner, the first is b;"):
        match_names(["a", "b", "c"], ["a", "x"], "truth")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK"])
def test_a_picture_is_no_label_map(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("labels.tif" if mode == "CMYK" else "labels.png")
    Image.new(mode, (4, 4)).save(path)
    with pytest.raises(ValueError, match=rf"{path.name}: a label map has one channel, got mode {mode}"):
        read_labels(path, (4, 4))


TEXT = r"a|b & 50 % of {x}_1"
TABLE = Table(
    "own",
    "Title",
    [Column("psnr", "PSNR|dB", "higher")],
    [Row(TEXT, {"psnr": Cell(20.0, 0.5)}), Row("plain", {"psnr": Cell(float("inf"))}, {"psnr": Cell(-1.0)})],
    ["first line\nsecond line | and more"],
)


def test_markdown_keeps_its_columns_and_lines() -> None:
    """A bar in a name used to begin a column, and a line break in a note ended the list."""
    lines = markdown(TABLE).splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")]
    assert [len(row) for row in rows] == [3, 3, 3, 3]
    assert rows[0][1].strip() == r"PSNR\|dB ↑" and rows[2][0].strip() == TEXT.replace("|", r"\|")
    assert rows[3][1].strip() == "inf"
    assert lines[-1] == "- first line second line | and more"


def test_a_note_is_a_line_below_the_numbers_in_latex() -> None:
    source = latex(TABLE)
    assert source.splitlines()[-2] == r"\par\footnotesize first line second line | and more"
    assert r"a|b \& 50 \% of \{x\}\_1 & 20.00 $\pm$ 0.50 &  \\" in source
    assert source.count(r"\begin{") == source.count(r"\end{") == 2


def test_a_caption_says_what_the_columns_are() -> None:
    assert caption(TABLE) == f"Title. Δ: {TEXT} minus the row, pair by pair."
    published = Table("3", "Title", [], [Row("a", paper={"psnr": 1.0})], published_on="CelebA-HQ")
    assert caption(published) == (
        'Title (Table 3 of the paper). Columns "paper": the paper\'s own numbers, of CelebA-HQ.'
    )


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf"), float("-inf")]])
def test_nothing_finite_has_no_histogram(values: list[float]) -> None:
    assert histogram_svg(values, "x") == ""


@pytest.mark.parametrize("values", [[3.0], [2.0, 2.0, 2.0], [0.0, 1.0, float("nan")], [-5.0, 5.0]])
def test_bars_and_mean_stay_inside_the_picture(values: list[float]) -> None:
    svg = histogram_svg(values, "a < b")
    finite = [value for value in values if np.isfinite(value)]
    assert f"a &lt; b: mean {np.mean(finite):.4g} (red), {len(finite)} values" in svg
    assert 0 <= float(re.search(r'<line x1="([-\d.]+)"', svg)[1]) <= 300
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" fill', svg)]
    assert max(heights) == 120 and len(heights) == 24


def test_the_longest_level_fills_the_width_and_a_missing_one_has_no_bar() -> None:
    svg = levels_svg({"swd_64": 8.0, "swd_32": -4.0, "<b>": float("nan")}, "levels")
    assert re.findall(r'<rect[^>]* width="([\d.]+)"', svg) == ["220.0", "110.0", "0.0"] and "&lt;b&gt;" in svg
    assert re.findall(r'<rect[^>]* width="([\d.]+)"', levels_svg({"x": 0.0}, "zero")) == ["0.0"]


@pytest.mark.parametrize(("rows", "error"), [([[1.0], [3.0], [5.0]], 2 / np.sqrt(3)), ([[4.0]], np.nan)])
def test_a_metric_is_summarised_over_its_images(rows: list[list[float]], error: float) -> None:
    result = summarise("psnr", ["psnr"], np.array(rows), protocol="p")
    assert result.values == {"psnr": np.mean(rows)} and result.protocol == "p" and result.status == "ok"
    assert result.per_image == {"psnr": [row[0] for row in rows]}
    np.testing.assert_allclose(result.standard_errors["psnr"], error)


def test_a_record_leaves_empty_parts_out() -> None:
    result = Result("psnr", values={"psnr": 1.0}, per_image={"psnr": [1.0]})
    assert result.as_dict() == {"metric": "psnr", "status": "ok", "values": {"psnr": 1.0}}
    assert result.as_dict(per_image=True)["per_image"] == {"psnr": [1.0]}
    assert Result("fid", "skipped", "no file").as_dict() == {"metric": "fid", "status": "skipped", "reason": "no file"}


@pytest.mark.parametrize("size", [(32, 32), (16, 64), (64, 16)])
def test_where_a_picture_is_its_own_exemplar_every_position_has_a_match(size: tuple[int, int]) -> None:
    """The extent of a position is measured along each side: that of the width used to be taken for both."""
    height, width = size
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    coordinates, visible = torch.stack([x, y])[None], torch.ones(1, height, width, dtype=torch.bool)
    mean, whole = token_truth(coordinates, visible, (height // 4, width // 4))
    assert mean.shape == (1, 2, height // 4, width // 4) and whole.all()
    assert token_truth(3 * coordinates, visible, (height // 4, width // 4))[1].sum() == 0, "torn apart"
    visible[0, 5, 9] = False
    hidden = ~token_truth(coordinates, visible, (height // 4, width // 4))[1]
    assert hidden.nonzero().tolist() == [[0, 1, 2]]


def test_a_pairs_noise_depends_on_seed_and_index_alone() -> None:
    def draw(indices: list[int], seed: int) -> list[float]:
        return [float(torch.randn((), generator=generator)) for generator in noise_generators(indices, seed)]

    together = draw([0, 1, 2, 7], 0)
    assert draw([7, 1], 0) == [together[3], together[1]]
    assert len(set(together + draw([0, 1, 2, 7], 1))) == 8, "another seed, other noise for every pair"


def test_comparing_two_methods_the_other_way_round_changes_the_sign_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(8, 3, 16, 16, generator=generator)
    images = [truth + scale * torch.rand(truth.shape, generator=generator) for scale in (0.2, 0.8)]
    scores = []
    for image in images:
        error = (image - truth).square().mean(dim=(1, 2, 3)).numpy()
        scores.append(Scores(psnr=-10 * np.log10(error), ssim=1 - error, distance=error, images=image))
    one, two = scores
    forth, near, far = compare(one, two, truth)
    back, again_far, again_near = compare(two, one, truth)
    assert (near, far) == (again_near, again_far) and near < far
    for name in ("psnr", "distance", "swd"):
        mean, error = getattr(forth, name)
        assert getattr(back, name) == (pytest.approx(-mean), pytest.approx(error)) and abs(mean) > 3 * error
