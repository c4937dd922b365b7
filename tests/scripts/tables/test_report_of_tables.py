"""The page of measured tables: numbers, curves and pictures in one file that loads nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from midms.evaluation.tables import Cell, Column, Row, Table
from tables.report import curves_html, pictures_html, table_html, write_tables_report


class Reader(HTMLParser):
    """Tags and their attributes, and the text of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_cell = tag in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells.append(data)
            self._in_cell = False


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Two rows on an axis, one of which the paper has, with pictures of two pairs."""
    folders = {name: tmp_path / name for name in ("partners/conditions", "partners/exemplars", "one", "two")}
    for place, folder in enumerate(folders.values()):
        folder.mkdir(parents=True)
        for name in ("a", "b"):
            Image.fromarray(np.full((8, 8, 3), 40 * place, np.uint8)).save(folder / f"{name}.png")
    rows = [
        Row("N <4>", {"psnr": Cell(20.5, 0.25)}, paper={"psnr": 21.0}, x=4.0),
        Row("N = 8", {"psnr": Cell(21.75, 0.5)}, {"psnr": Cell(-1.25, 0.1)}, x=8.0),
    ]
    record = {
        "partners": str(tmp_path / "partners"),
        "folders": {"one": [str(tmp_path / "one")], "two": [str(tmp_path / "two")]},
        "networks": {}, "versions": {}, "protocol": "paper", "settings": {},
    }  # fmt: skip
    return Table("7", "Sampling steps", [Column("psnr", "PSNR", "higher")], rows, ["2 pairs & more"], "calls",
                 "CelebA-HQ", record)  # fmt: skip


def test_numbers_and_notes_are_text_whatever_is_in_them(table: Table) -> None:
    text = table_html(table)
    cells = Reader(text).cells
    assert cells[:4] == ["row", "PSNR ↑", "Δ PSNR", "paper PSNR"]
    assert "N <4>" in cells and "N <4>" not in text, "escaped"
    assert "20.50 ± 0.25" in cells and "-1.250 ± 0.100" in cells and "21.00" in cells
    assert "2 pairs &amp; more" in text


def test_a_curve_needs_two_points_and_the_papers_is_apart(table: Table) -> None:
    assert curves_html(table).count("<svg") == 1, "the paper has one point only"
    table.rows[1].paper["psnr"] = 22.0
    text = curves_html(table)
    assert text.count("<svg") == 2 and "(paper, CelebA-HQ)" in text
    table.axis = ""
    assert curves_html(table) == ""


def test_pictures_stand_in_rows_of_pairs_and_inside_the_page(table: Table) -> None:
    reader = Reader(pictures_html(table))
    images = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert [cell for cell in reader.cells if cell.strip()] == ["conditions", "exemplars", "one", "two"]
    assert [image["alt"] for image in images[:4]] == [f"{name}, a.png" for name in reader.cells[:4]]
    assert len(images) == 8 and all(str(image["src"]).startswith("data:image/") for image in images)


def test_the_page_loads_nothing(table: Table, tmp_path: Path) -> None:
    write_tables_report(tmp_path / "report.html", [table, table])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    reader = Reader(text)
    assert not any(tag in ("script", "link", "iframe") for tag, _ in reader.tags)
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert text.count("Sampling steps (Table 7 of the paper).") == 2
    assert not list(tmp_path.glob("*.part"))


def test_a_row_that_only_the_paper_has_is_blank_where_nothing_was_measured(table: Table) -> None:
    table.rows.append(Row("GAN", paper={"psnr": 19.0}))
    body = table_html(table).split("<tr>")[-1]
    assert body.count('<td class="number"></td>') == 2 and "19.00" in body
