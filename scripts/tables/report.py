"""One self-contained HTML page of measured tables: numbers, curves and pictures, without scripts or downloads."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path

from midms.evaluation.report import STYLE, curve_svg, table_html, thumbnail_uri, write_page
from midms.evaluation.tables import Cell, Column, Row, Table, caption

_PAIRS_SHOWN = 8
_WIDER = "body { max-width: 110rem } td img { width: 104px }"
_MOST_ROWS_SHOWN = 9


def _points(rows: Sequence[Row], column: Column, paper: bool) -> list[tuple[float, Cell]]:
    points = []
    for row in rows:
        cell = Cell(row.paper[column.key]) if paper and column.key in row.paper else None
        cell = row.values.get(column.key) if not paper else cell
        if row.x is not None and cell is not None:
            points.append((row.x, cell))
    return sorted(points)


def curves_html(table: Table) -> str:
    """Each column over the table's axis, separately for ours and the paper's, which are measured on other data."""
    if not table.axis:
        return ""
    figures = []
    for column in table.columns:
        for paper in (False, True):
            points = _points(table.rows, column, paper)
            title = f"{column.title} over {table.axis}" + (f" (paper, {table.published_on})" if paper else "")
            if len(points) > 1:
                figures.append(curve_svg(points, title, table.axis, "#b5732f" if paper else "#4a7fb5"))
    return "".join(figures)


def pictures_html(table: Table) -> str:
    """The first pairs: condition, exemplar, every row's result, truth."""
    partners = Path(table.record["partners"])
    columns = {name: partners / name for name in ("conditions", "exemplars")}
    folders = {name: Path(paths[0]) for name, paths in list(table.record["folders"].items())[:_MOST_ROWS_SHOWN]}
    columns |= folders | {name: partners / name for name in ("sources", "truth") if (partners / name).is_dir()}
    names = sorted(file.name for file in (partners / "exemplars").glob("*.png"))[:_PAIRS_SHOWN]
    lines = []
    for name in names:
        cells = "".join(
            f'<td><img alt="{html.escape(column)}, {name}" src="{thumbnail_uri(folder / name)}"></td>'
            for column, folder in columns.items()
        )
        lines.append(f"<tr>{cells}</tr>")
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def write_tables_report(path: Path, tables: Sequence[Table]) -> None:
    """Write the page atomically."""
    sections = ["<h1>Tables of the paper, measured again</h1>"]
    for table in tables:
        curves = curves_html(table)
        sections += [f"<h2>{html.escape(caption(table))}</h2>", table_html(table)]
        sections += [f"<h3>Curves</h3>{curves}"] if curves else []
        sections.append(f"<h3>Pictures</h3>{pictures_html(table)}")
        facts = {key: table.record[key] for key in ("networks", "versions", "protocol", "settings")}
        sections.append(f'<p class="note">{html.escape(json.dumps(facts))}</p>')
    write_page(path, "Tables of the paper, measured again", "".join(sections), STYLE + _WIDER)
