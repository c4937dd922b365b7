"""Tables as text: nothing lost, nothing invented, special characters escaped; the published numbers as printed."""

from __future__ import annotations

import json
import re

import pytest

from midms.evaluation.report import curve_svg
from midms.evaluation.tables import Cell, Column, Row, Table, cells_of, latex, latex_text, markdown, marks_of, number
from tables.published import TITLES, published

COLUMNS = [Column("fid_reference", "FID", "lower"), Column("psnr", "PSNR_dB", "higher"), Column("none", "never")]
ROWS = [
    Row("full & whole", {"psnr": Cell(20.126, 0.054)}, paper={"fid_reference": 15.67}, x=1),
    Row("25 %", {"psnr": Cell(float("nan"))}, {"psnr": Cell(0.5, 0.01)}, x=2),
    Row("theirs", paper={"fid_reference": 12.0}),
]
TABLE = Table("4", "Noise", COLUMNS, ROWS, ["a note"], "N", "CelebA-HQ", {"pairs": 2})


def test_a_cell_says_what_is_known():
    assert number(Cell(20.126, 0.054), 2) == "20.13 ± 0.05"
    assert number(Cell(1.0), 1) == "1.0" and number(Cell(0.5, 0.1), 1, signed=True) == "+0.5 ± 0.1"
    assert number(None, 2) == "-" == number(Cell(float("nan")), 2)


def test_columns_are_those_that_have_numbers():
    head, body = cells_of(TABLE)
    assert head == ["row", "PSNR_dB ↑", "Δ PSNR_dB", "paper FID"]
    assert body[0] == ["full & whole", "20.13 ± 0.05", "", "15.67"]
    assert body[1] == ["25 %", "-", "+0.500 ± 0.010", ""]
    assert body[2] == ["theirs", "", "", "12.00"]  # never measured here: no dash that looks like a failure


def test_markdown_and_latex_hold_the_same_cells():
    text, source = markdown(TABLE), latex(TABLE)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1 and "- a note" in text
    assert (
        r"full \& whole" in source
        and r"25 \%" in source
        and r"PSNR\_dB" in source
        and r"\footnotesize a note" in source
    )
    body = source.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body] == [3, 3, 3]
    assert latex_text("\\_") == r"\textbackslash{}\_"


def test_marks_stand_on_their_cells_in_every_form():
    columns = [Column("a", "A_1", "lower"), Column("b", "B")]
    second = {"a": Cell(1.5, 0.25), "b": Cell(3.0)}
    rows = [Row("one", {"a": Cell(1.0), "b": Cell(2.0)}, marks={"a": "best"})]
    rows += [Row("two", second, {"a": Cell(-0.5)}, marks={"a": "tied", "b": "best"})]
    table = Table("of methods", "Methods", columns, rows)
    assert marks_of(table) == [[None, "best", None, None], [None, "tied", "best", None]]
    text, source = markdown(table), latex(table)
    assert "| one | **1.00** | 2.00 |  |" in text and "| two | *1.50 ± 0.25* | **3.00** | -0.500 |" in text
    assert r"one & \textbf{1.00} & 2.00" in source and r"two & \textit{1.50 $\pm$ 0.25} & \textbf{3.00}" in source
    assert "Italic: not significantly worse" in text and "Italic" not in markdown(TABLE)


def test_json_has_no_number_that_json_does_not_know():
    data = json.loads(json.dumps(TABLE.as_dict(), allow_nan=False))
    assert data["rows"][0]["values"]["psnr"] == {"mean": 20.126, "error": 0.054}
    assert data["rows"][1]["values"]["psnr"] == {"mean": None, "error": None}
    assert data["columns"][0] == {"key": "fid_reference", "title": "FID", "better": "lower", "digits": 2}


@pytest.mark.parametrize("points", [[(1, Cell(2.0, 0.5)), (3, Cell(4.0))], [(1, Cell(0.0)), (1, Cell(0.0))]])
def test_curves_stay_inside_their_picture(points):
    svg = curve_svg(points, "a < b", "N")
    assert "a &lt; b" in svg and svg.count("<circle") == 2 and "nan" not in svg
    height = float(re.search(r'<svg viewBox="0 0 \d+ (\d+)"', svg)[1])
    assert all(0 <= float(y) <= height for y in re.findall(r'cy="([-\d.]+)"', svg))


def test_published_numbers_are_those_of_the_paper(shared):
    """Every number of the tables' text is in `published`, and nothing else."""
    text = (shared / "paper" / "midms_full_text.md").read_text()
    for table in (name for name in TITLES if name != "8"):  # pictures
        block = text[text.index(f"Table {table}: ") :].partition("\n\n")[2]
        block = block[: re.search(r"\n\n(?!\w+[^\n]*\t)", block).start()]
        block = re.sub(r"\(.*?\)|</?b>|\$.*?\$|\d+%|v2|relu\S+", "", block)
        printed = sorted(map(float, re.findall(r"\d+\.\d+", block)))
        both = [
            published(table, dataset) for dataset in (("DeepFashion", "CelebA-HQ") if table in "19" else ("CelebA-HQ",))
        ]
        ours = sorted(value for rows in both for row in rows.values() for value in row.values())
        assert printed == ours, table
    assert published("3", "DeepFashion") == {} == published("8", "DeepFashion")
