"""One self-contained HTML page of an evaluation: table, plots and picture grid, without scripts or downloads."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from midms.evaluation.folders import list_images
from midms.evaluation.records import Folders, Result
from midms.evaluation.tables import Cell, Table, cells_of, marked_body
from midms.io.files import write_atomically
from midms.io.images import read_rgb
from midms.io.provenance import HTML_MARK

_ROLES = ("generated", "truth", "reference", "exemplars")
_THUMBNAIL = 128
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums } .note { color: #666; font-size: .9em }
figure { display: inline-block; margin: 0 1.5rem 1rem 0 } figcaption { font-size: .9em; color: #444 }
td img { display: block; width: 128px; image-rendering: auto } .wide { overflow-x: auto }
.wide th, .wide td { padding: .25rem .5rem; white-space: nowrap } p.note { overflow-wrap: anywhere }
"""


def thumbnail_uri(path: Path, side: int = _THUMBNAIL) -> str:
    """An image file, at most `side` pixels on its longer side, as a data address."""
    buffer = io.BytesIO()
    small = read_rgb(path)
    small.thumbnail((side, side))
    small.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def histogram_svg(values: Sequence[float], title: str, bins: int = 24) -> str:
    """A histogram of finite values with its mean marked, as inline SVG; empty when there are none."""
    finite = np.array([value for value in values if np.isfinite(value)])
    if finite.size == 0:
        return ""
    counts, edges = np.histogram(finite, bins=bins)
    width, height = 300, 120
    bar = width / bins
    heights = counts / counts.max() * height
    bars = "".join(
        f'<rect x="{k * bar:.1f}" y="{height - h:.1f}" width="{bar - 1:.1f}" height="{h:.1f}" fill="#4a7fb5"/>'
        for k, h in enumerate(heights)
    )
    mean = (finite.mean() - edges[0]) / (edges[-1] - edges[0]) * width
    mark = f'<line x1="{mean:.1f}" x2="{mean:.1f}" y1="0" y2="{height}" stroke="#c33" stroke-width="2"/>'
    labels = "".join(
        f'<text x="{x}" y="{height + 16}" text-anchor="{anchor}" font-size="12">{value:.4g}</text>'
        for x, anchor, value in ((0, "start", edges[0]), (width, "end", edges[-1]))
    )
    box = f'viewBox="0 0 {width} {height + 20}" width="{width}" height="{height + 20}"'
    caption = f"{html.escape(title)}: mean {finite.mean():.4g} (red), {finite.size} values"
    return f'<figure><svg {box} role="img">{bars}{mark}{labels}</svg><figcaption>{caption}</figcaption></figure>'


def levels_svg(values: dict[str, float], title: str) -> str:
    """Horizontal bars with their names and numbers, as inline SVG."""
    largest = max([abs(value) for value in values.values() if np.isfinite(value)], default=0.0) or 1.0
    rows = []
    for k, (name, value) in enumerate(values.items()):
        length = 220 * abs(value) / largest if np.isfinite(value) else 0
        y = 22 * k
        rows.append(f'<text x="0" y="{y + 14}" font-size="12">{html.escape(name)}</text>')
        rows.append(f'<rect x="110" y="{y + 2}" width="{length:.1f}" height="16" fill="#4a7fb5"/>')
        rows.append(f'<text x="{114 + length:.1f}" y="{y + 14}" font-size="12">{value:.4g}</text>')
    height = 22 * len(values)
    svg = f'<svg viewBox="0 0 420 {height}" width="420" height="{height}" role="img">{"".join(rows)}</svg>'
    return f"<figure>{svg}<figcaption>{html.escape(title)}</figcaption></figure>"


def curve_svg(points: Sequence[tuple[float, Cell]], title: str, axis: str, colour: str = "#4a7fb5") -> str:
    """A line through (x, number) with bars of one standard error, as inline SVG.

    Args:
        points: sorted by x, finite numbers.
        title: below the picture. axis: name of x.
    """
    left, top, width, height = 58, 8, 300, 150
    errors = [cell.error if np.isfinite(cell.error) else 0.0 for _, cell in points]
    low = min(cell.mean - error for (_, cell), error in zip(points, errors, strict=True))
    high = max(cell.mean + error for (_, cell), error in zip(points, errors, strict=True))
    margin = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
    low, high = low - margin, high + margin
    first, last = points[0][0], points[-1][0]

    def place(x: float, y: float) -> tuple[float, float]:
        return left + width * (x - first) / ((last - first) or 1), top + height * (high - y) / (high - low)

    parts = [f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#bbb"/>']
    for share in (0.0, 0.5, 1.0):
        value = low + share * (high - low)
        y = place(first, value)[1]
        parts.append(f'<line x1="{left - 4}" x2="{left}" y1="{y:.1f}" y2="{y:.1f}" stroke="#888"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" font-size="11">{value:.4g}</text>')
    line = " ".join("{:.1f},{:.1f}".format(*place(x, cell.mean)) for x, cell in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for (value, cell), error in zip(points, errors, strict=True):
        x, y = place(value, cell.mean)
        ends = [place(value, cell.mean + sign * error)[1] for sign in (-1, 1)]
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}" stroke="{colour}"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
        parts.append(f'<text x="{x:.1f}" y="{top + height + 14}" text-anchor="middle" font-size="11">{value:g}</text>')
    middle = left + width / 2
    parts.append(
        f'<text x="{middle}" y="{top + height + 30}" text-anchor="middle" font-size="12">{html.escape(axis)}</text>'
    )
    size = (left + width + 14, top + height + 38)
    svg = (
        f'<svg viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" height="{size[1]}" role="img">{"".join(parts)}</svg>'
    )
    return f"<figure>{svg}<figcaption>{html.escape(title)}</figcaption></figure>"


def _table(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        if result.status == "skipped":
            rows.append(f'<tr><td>{html.escape(result.metric)}</td><td colspan="3" class="note">skipped: ')
            rows.append(f"{html.escape(result.reason)}</td></tr>")
        for name, value in result.values.items():
            error = result.standard_errors.get(name, float("nan"))
            spread = f"{error:.3g}" if np.isfinite(error) else ""
            counts = ", ".join(f"{count} {role}" for role, count in result.images.items())
            others = ", ".join(f"left out of {role}, no images: {what}" for role, what in result.left_out.items())
            note = html.escape("; ".join(part for part in (result.protocol, counts, others) if part))
            rows.append(f'<tr><td>{html.escape(name)}</td><td class="number">{value:.5g}</td>')
            rows.append(f'<td class="number">{spread}</td><td class="note">{note}</td></tr>')
    head = "<tr><th>metric</th><th>value</th><th>standard error</th><th>protocol, images</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _plots(results: Sequence[Result]) -> str:
    figures = []
    for result in results:
        if result.metric == "swd" and result.values:
            figures.append(levels_svg(result.values, "sliced Wasserstein distance per pyramid level, x 1000"))
        figures += [histogram_svg(values, f"{name} per image") for name, values in result.per_image.items()]
    return "".join(figures)


def picture_grid(files: Mapping[str, Mapping[str, Path]], names: Sequence[str]) -> str:
    """A row per name and a column per set of files (name -> path), with a gap where a set lacks the name."""
    rows = []
    for name in names:
        cells = [
            f'<td><img alt="{html.escape(f"{column} {name}")}" src="{thumbnail_uri(paths[name])}"></td>'
            if name in paths
            else "<td></td>"
            for column, paths in files.items()
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{html.escape(column)}</th>" for column in files)
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _grid(folders: Folders, most: int) -> str:
    """The first outputs beside their partners."""
    roots = {role: getattr(folders, role) for role in _ROLES}
    files = {
        role: {file.name: file.path for file in list_images(root)[0]}
        for role, root in roots.items()
        if root is not None
    }
    return picture_grid(files, list(files["generated"])[:most])


def table_html(table: Table) -> str:
    """The numbers of a table, with their marks, and its notes."""
    head, body = cells_of(table)
    top = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    body = [[html.escape(cell) for cell in line] for line in body]
    lines = []
    for name, *cells in marked_body(table, body, {"best": "<b>{}</b>", "tied": "<i>{}</i>"}):
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        lines.append(f"<tr><td>{name}</td>{numbers}</tr>")
    notes = "".join(f'<li class="note">{html.escape(note)}</li>' for note in table.notes)
    return f'<div class="wide"><table><tr>{top}</tr>{"".join(lines)}</table></div><ul>{notes}</ul>'


def write_report(
    path: Path, folders: Folders, results: Sequence[Result], versions: dict[str, str], most_images: int = 16
) -> None:
    """Write the page atomically.

    Args:
        path: the file.
        folders: the measured folders; the first `most_images` outputs and their partners are shown.
        results: the numbers. versions: of the libraries.
    """
    title = f"Evaluation of {html.escape(str(folders.generated))}"
    library = html.escape(", ".join(f"{name} {number}" for name, number in versions.items()))
    networks = {r.network["name"]: r.network["sha256"] for r in results if r.network}
    hashes = html.escape("; ".join(f"{name}: sha256 {digest}" for name, digest in networks.items()))
    sections = [
        f"<h1>{title}</h1>",
        _table(results),
        f"<h2>Distributions</h2>{_plots(results)}",
        f"<h2>Images</h2>{_grid(folders, most_images)}",
        f'<p class="note">{hashes}</p><p class="note">{library}</p>',
    ]
    write_page(path, title, "".join(sections), STYLE)


def write_page(path: Path, title: str, body: str, style: str) -> None:
    """Write an HTML page atomically. `title` and `body` are HTML."""
    page = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{HTML_MARK}<title>{title}</title>'
    page += f"<style>{style}</style></head><body>{body}</body></html>\n"
    write_atomically(path, page)
