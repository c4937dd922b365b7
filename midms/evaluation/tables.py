"""Tables of measured and published numbers, as Markdown, LaTeX and plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from midms.io.provenance import LATEX_MARK

Mark = Literal["best", "tied"]  # tied: not significantly worse than the best


class Cell(NamedTuple):
    """A number and its standard error (NaN: unknown)."""

    mean: float
    error: float = float("nan")


class Column(NamedTuple):
    """A measured quantity: `better` is "lower", "higher" or ""; `digits` after the point."""

    key: str
    title: str
    better: str = ""
    digits: int = 2


@dataclass
class Row:
    """One row: measured values, paired differences to the first row, the paper's values, and marks of best values."""

    name: str
    values: dict[str, Cell] = field(default_factory=dict)
    differences: dict[str, Cell] = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)
    x: float | None = None  # position on the axis of a plot
    marks: dict[str, Mark] = field(default_factory=dict)


@dataclass
class Table:
    """One table. `columns` has only columns with at least one value; `notes` give the reasons for missing values."""

    number: str
    title: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    axis: str = ""  # name of `Row.x`, if the table is a curve
    published_on: str = ""
    record: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers that are not finite become None."""
        data = asdict(self)
        data["columns"] = [column._asdict() for column in self.columns]
        for row, plain in zip(self.rows, data["rows"], strict=True):
            for kind in ("values", "differences"):
                cells: dict[str, Cell] = getattr(row, kind)
                plain[kind] = {k: {"mean": _finite(c.mean), "error": _finite(c.error)} for k, c in cells.items()}
        return data


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def number(cell: Cell | None, digits: int, plus_minus: str = "±", signed: bool = False) -> str:
    """A cell as text: "12.34 ± 0.05"; "-" without a number."""
    if cell is None or math.isnan(cell.mean):
        return "-"
    text = f"{cell.mean:+.{digits}f}" if signed else f"{cell.mean:.{digits}f}"
    return f"{text} {plus_minus} {cell.error:.{digits}f}" if math.isfinite(cell.error) else text


def _layout(table: Table) -> tuple[list[Column], list[Column], list[Column]]:
    """Columns with numbers, with differences, and with published numbers."""

    def having(kind: str) -> list[Column]:
        return [c for c in table.columns if any(c.key in getattr(row, kind) for row in table.rows)]

    return having("values"), having("differences"), having("paper")


def cells_of(table: Table, plus_minus: str = "±") -> tuple[list[str], list[list[str]]]:
    """Head and body of a table as text, the row's name first."""
    measured, differing, printed = _layout(table)
    arrows = {"lower": " ↓", "higher": " ↑", "": ""}
    head = ["row", *(c.title + arrows[c.better] for c in measured), *(f"Δ {c.title}" for c in differing)]
    head += [f"paper {c.title}" for c in printed]
    body = []
    for row in table.rows:
        blank = row.paper and not row.values  # a method with numbers only in the paper
        line = [row.name, *("" if blank else number(row.values.get(c.key), c.digits, plus_minus) for c in measured)]
        line += [
            number(row.differences[c.key], c.digits + 1, plus_minus, signed=True) if c.key in row.differences else ""
            for c in differing
        ]
        line += [f"{row.paper[c.key]:.{c.digits}f}" if c.key in row.paper else "" for c in printed]
        body.append(line)
    return head, body


def marks_of(table: Table) -> list[list[Mark | None]]:
    """The mark of each cell of the body of `cells_of`."""
    width = len(cells_of(table)[0])
    measured = _layout(table)[0]
    lines: list[list[Mark | None]] = []
    for row in table.rows:
        line: list[Mark | None] = [None, *(row.marks.get(column.key) for column in measured)]
        lines.append(line + [None] * (width - len(line)))
    return lines


def marked_body(table: Table, body: list[list[str]], forms: Mapping[Mark, str]) -> list[list[str]]:
    """The cells of a body, with the marked ones put into a form such as "**{}**"."""
    return [
        [forms[mark].format(cell) if mark else cell for cell, mark in zip(line, marks, strict=True)]
        for line, marks in zip(body, marks_of(table), strict=True)
    ]


def caption(table: Table) -> str:
    """One line above the numbers."""
    parts = [table.title + (f" (Table {table.number} of the paper)." if table.number.isdigit() else ".")]
    if any(row.marks for row in table.rows):
        parts.append("Bold: best. Italic: not significantly worse than the best.")
    if any(row.differences for row in table.rows):
        parts.append(f"Δ: {table.rows[0].name} minus the row, pair by pair.")
    if any(row.paper for row in table.rows):
        parts.append(f'Columns "paper": the paper\'s own numbers, of {table.published_on}.')
    return " ".join(parts)


def markdown(table: Table) -> str:
    """The table with its notes as Markdown."""
    head, body = cells_of(table)
    head = [_one_line(cell).replace("|", r"\|") for cell in head]
    lines = [caption(table), "", _markdown_line(head), _markdown_line(["---"] * len(head))]
    body = [[_one_line(cell).replace("|", r"\|") for cell in line] for line in body]
    lines += [_markdown_line(line) for line in marked_body(table, body, {"best": "**{}**", "tied": "*{}*"})]
    lines += ["", *(f"- {_one_line(note)}" for note in table.notes)] if table.notes else []
    return "\n".join(lines) + "\n"


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _one_line(text: str) -> str:
    return " ".join(text.split())


_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
          "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "±": r"$\pm$", "Δ": r"$\Delta$",
          "↓": r"$\downarrow$", "↑": r"$\uparrow$", "∞": r"$\infty$"}  # fmt: skip


def latex_text(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(character, character) for character in text)


def latex(table: Table) -> str:
    """The table as LaTeX, for `booktabs`, with its notes below the numbers."""
    head, body = cells_of(table)
    body = [[latex_text(cell) for cell in line] for line in body]
    body = marked_body(table, body, {"best": r"\textbf{{{}}}", "tied": r"\textit{{{}}}"})
    lines = [LATEX_MARK, r"\begin{table}", r"\centering", rf"\caption{{{latex_text(caption(table))}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule"]
    lines += [_latex_line([latex_text(cell) for cell in head]), r"\midrule", *(_latex_line(line) for line in body)]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {latex_text(_one_line(note))}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
