"""Plots of the benchmarks' results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from midms.visualize import save_figure

DPI = 100


@contextmanager
def figure(file: Path, *grid: int, **options: Any) -> Iterator[Any]:
    """Axes of a new figure (`pyplot.subplots`), saved to `file` at the end of the context, without a display."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(*grid, layout="constrained", **options)
    try:
        yield axes
        save_figure(file, drawn, DPI)
    finally:
        pyplot.close(drawn)


def stacked_bars(
    file: Path, bars: Mapping[str, Mapping[str, float]], unit: str, line: tuple[str, float] | None = None
) -> None:
    """One bar per name: its parts from left to right, and the sum at the end.

    Args:
        bars: name -> part -> value.
        unit: unit of the values, the axis's label.
        line: name and position of a dotted line.
    """
    parts = list(dict.fromkeys(part for bar in bars.values() for part in bar))
    with figure(file, figsize=(7.5, 1.7 + 0.5 * len(bars))) as axis:
        left = dict.fromkeys(bars, 0.0)
        for number, part in enumerate(parts):
            widths = [bar.get(part, 0.0) for bar in bars.values()]
            axis.barh(list(bars), widths, left=list(left.values()), label=part, color=f"C{number}")
            left = {name: left[name] + width for name, width in zip(bars, widths, strict=True)}
        for place, total in enumerate(left.values()):
            axis.annotate(f"{total:.3g}", (total, place), xytext=(3, 0), textcoords="offset points", va="center")
        if line is not None:
            axis.axvline(line[1], color="black", linestyle=":", label=line[0])
        axis.set_xlim(right=1.1 * max(left.values()))  # room for the sums
        axis.invert_yaxis()
        axis.set_xlabel(unit)
        axis.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def curves(
    file: Path, points: Mapping[str, Sequence[float]], places: Mapping[str, float], labels: tuple[str, Sequence[str]]
) -> None:
    """Panels side by side of numbered points over a logarithmic axis, with a common legend below.

    Args:
        points: name -> its value in each panel.
        places: name -> its position on the common axis.
        labels: of the common axis, and of each panel's axis.
    """
    across, panels = labels
    with figure(file, 1, len(panels), figsize=(4.2 * len(panels), 4.6), squeeze=False) as axes:
        for column, (axis, label) in enumerate(zip(axes[0], panels, strict=True)):
            for number, (name, values) in enumerate(points.items(), start=1):
                place = (places[name], values[column])
                axis.plot(*place, "o", markersize=13, color=f"C{(number - 1) % 10}", alpha=0.85,
                          label=f"{number}  {name}" if column == 0 else None)  # fmt: skip
                axis.annotate(str(number), place, ha="center", va="center", fontsize=7, color="white")
            ticks = sorted(set(places.values()))
            axis.set_xscale("log", base=2)
            axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.minorticks_off()
            axis.margins(0.1)
            axis.set_xlabel(across)
            axis.set_ylabel(label)
            axis.grid(alpha=0.3)
        axes[0, 0].figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False, markerscale=0.5)
