"""One self-contained HTML page of several methods on the same pairs, without scripts or downloads."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

from midms.evaluation.comparison import MethodComparison, numbers_per_pair
from midms.evaluation.folders import list_images
from midms.evaluation.records import Folders
from midms.evaluation.report import STYLE, histogram_svg, picture_grid, table_html, write_page
from midms.evaluation.tables import caption

_WIDER = "body { max-width: 110rem }"


def _plots(comparison: MethodComparison) -> str:
    """For each metric with a number per pair, the first method minus each other."""
    figures = []
    for metric, methods in numbers_per_pair(comparison.results).items():
        (first, numbers), *others = methods.items()
        figures += [histogram_svg((numbers - rows).tolist(), f"{metric}: {first} - {name}") for name, rows in others]
    return "".join(figures)


def write_comparison_report(
    path: Path,
    methods: Mapping[str, Path | str],
    folders: Folders,
    comparison: MethodComparison,
    versions: Mapping[str, str],
    most_images: int = 16,
) -> None:
    """Write the page atomically.

    Args:
        path: the file.
        methods: name -> folder of outputs. folders: the other folders.
        comparison: the numbers. versions: of the libraries.
        most_images: number of pairs that are shown.
    """
    shown = {role: getattr(folders, role) for role in ("exemplars", "reference", "truth")}
    columns = {role: root for role, root in shown.items() if root is not None} | dict(methods)
    files = {name: {file.name: file.path for file in list_images(root)[0]} for name, root in columns.items()}
    results = [result for measured in comparison.results.values() for result in measured]
    networks = {r.network["name"]: r.network.get("sha256", "") for r in results if r.network}
    hashes = html.escape("; ".join(f"{name}: sha256 {digest}" for name, digest in networks.items()))
    library = html.escape(", ".join(f"{name} {number}" for name, number in versions.items()))
    sections = [f"<h1>Methods on the same {len(comparison.names)} pairs</h1>"]
    for table in (comparison.table, comparison.differences):
        if table.rows:
            sections.append(f"<h2>{html.escape(caption(table))}</h2>{table_html(table)}")
    sections += [
        f"<h2>Differences pair by pair</h2>{_plots(comparison)}",
        f'<h2>Images</h2><div class="wide">{picture_grid(files, comparison.names[:most_images])}</div>',
        f'<p class="note">{hashes}</p><p class="note">{library}</p>',
    ]
    write_page(path, "Methods on the same pairs", "".join(sections), STYLE + _WIDER)
