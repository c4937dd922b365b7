"""Several methods on the same pairs: one joint table, paired differences, and tests that respect their number.

    from midms.evaluation.comparison import compare_methods
    comparison = compare_methods({"ours": "out/midms", "theirs": "out/other"}, Folders("out/midms", truth="truth"))
    print(markdown(comparison.table))

With several methods every image is decoded once, whatever the number of metrics, and its pixels are kept in a
temporary file. The numbers are those of `suite.evaluate` on each folder alone.
"""

from __future__ import annotations

import csv
import io
import math
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from midms.evaluation.columns import SUITE_COLUMNS
from midms.evaluation.folders import ImageFolder
from midms.evaluation.footnotes import differences_from_paper, not_comparable, small_set_notes
from midms.evaluation.records import Evaluation, Folders, Options, Result
from midms.evaluation.suite import cache_folder, expand, measure
from midms.evaluation.tables import Cell, Column, Row, Table
from midms.metrics.significance import Comparison, PairedTest, compare_pairwise

SIGNIFICANT = 0.05  # of the adjusted p-values
_NAMED = 10  # missing outputs that a message names
#: Numbers of pairs of outputs that share an output. They are not independent, and a paired test would be too sure.
_NOT_INDEPENDENT = ("lpips_diversity",)
_TESTS = {"t": "paired t-test", "wilcoxon": "Wilcoxon's signed-rank test"}


@dataclass
class MethodComparison:
    """Results of several methods.

    Attributes:
        results: method -> its results, one per metric.
        comparisons: every two methods in every metric with a number per pair.
        names: the compared pairs.
        missing: method -> outputs that it lacks and another method has.
        table: a row per method. differences: a row per two methods.
    """

    results: dict[str, list[Result]]
    comparisons: list[Comparison]
    names: list[str]
    missing: dict[str, list[str]]
    table: Table
    differences: Table = field(default_factory=lambda: Table("of differences", "Paired differences", [], []))


def missing_outputs(names: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """For each method that lacks some, the outputs that another method has, in order.

    Args:
        names: method -> names of its outputs.
    """
    everything = list(dict.fromkeys(name for own in names.values() for name in own))
    lacking = {}
    for method, own in names.items():
        known = set(own)
        absent = [name for name in everything if name not in known]
        if absent:
            lacking[method] = absent
    return lacking


def _name_some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _describe_missing(missing: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{method} lacks {len(names)} ({_name_some(names)})" for method, names in missing.items())


def _open_methods(first: ImageFolder, methods: Mapping[str, Path | str], options: Options) -> dict[str, ImageFolder]:
    """The outputs of all methods; the first method's are open already.

    Raises:
        ValueError: a folder is bad, or its images have another size than the first method's.
    """
    opened: dict[str, ImageFolder] = {}
    for name, path in methods.items():
        opened[name] = ImageFolder(path, options.size, first.jpeg) if opened else first
        if opened[name].size != first.size:
            sizes = [f"{folder.size[0]}x{folder.size[1]}" for folder in (first, opened[name])]
            leading = next(iter(methods))
            raise ValueError(f"methods: {leading} has images of {sizes[0]} and {name} of {sizes[1]}; give one (--size)")
    return opened


def _take_common(evaluation: Evaluation, outputs: dict[str, ImageFolder], common: set[str]) -> None:
    """Keep only the common pairs, in the outputs and in every other folder that has them all."""
    for method, folder in outputs.items():
        outputs[method] = folder.restricted(common)
    others = {role: folder for role, folder in evaluation.images.items() if role != "generated"}
    evaluation.set_folders(
        {role: folder.restricted(common) for role, folder in others.items() if common <= set(folder.names)}
    )


def compare_methods(
    methods: Mapping[str, Path | str],
    folders: Folders,
    options: Options | None = None,
    metrics: Sequence[str] | None = None,
    common: bool = False,
    test: PairedTest = "t",
) -> MethodComparison:
    """Measure several methods on the same pairs.

    Args:
        methods: name -> folder of outputs. The first is the one whose differences to the others the table shows.
        folders: the other folders; `generated` is replaced by each method's.
        options, metrics: as for `suite.evaluate`.
        common: compare only the pairs that all methods have, if one lacks some.
        test: see `significance.paired_p_value`.
    Raises:
        ValueError: a folder is bad, sizes differ, or (without `common`) a method lacks outputs; the message names them.
    """
    options = options or Options()
    folders = replace(folders, generated=next(iter(methods.values())))
    with cache_folder(options.cache) as cache, tempfile.TemporaryDirectory(prefix="midms-decoded-") as decoded:
        evaluation = Evaluation(folders, options, cache)
        outputs = _open_methods(evaluation.images["generated"], methods, options)
        missing = missing_outputs({name: folder.names for name, folder in outputs.items()})
        common_names = set.intersection(*(set(folder.names) for folder in outputs.values()))
        names = [name for name in outputs[next(iter(methods))].names if name in common_names]
        if missing and not common:
            advice = f"give --common to compare the {len(names)} that all have" if names else "they have none in common"
            raise ValueError(f"methods: not the same outputs: {_describe_missing(missing)}; {advice}")
        if not names:
            raise ValueError("methods: no output is common to all; names must agree up to the extension")
        if missing:
            _take_common(evaluation, outputs, common_names)
        shared = {role: folder for role, folder in evaluation.images.items() if role != "generated"}
        for index, folder in enumerate((*shared.values(), *outputs.values()) if len(outputs) > 1 else ()):
            folder.keep_decoded(Path(decoded) / f"{index}.pixels")
        results = {}
        for name, folder in outputs.items():
            evaluation.set_folders({**shared, "generated": folder})
            results[name] = measure(evaluation, expand(metrics))
        size = outputs[next(iter(methods))].size
    return _summarise(results, names, missing, size, options, test)


def _summarise(
    results: dict[str, list[Result]],
    names: list[str],
    missing: dict[str, list[str]],
    size: tuple[int, int],
    options: Options,
    test: PairedTest,
) -> MethodComparison:
    comparisons = compare_pairwise(numbers_per_pair(results), test)
    table = comparison_table(results, comparisons)
    keys = [column.key for column in table.columns]
    if missing:
        table.notes.append(f"Only the {len(names)} common pairs: {_describe_missing(missing)}")
    table.notes += _test_notes(table, comparisons, test)
    table.notes += not_comparable(differences_from_paper(len(names), size, options.protocol))
    table.notes += small_set_notes(keys, len(names))
    first = next(iter(results.values()))
    table.notes += [f"{r.metric} was not measured: {r.reason}" for r in first if r.status == "skipped"]
    return MethodComparison(results, comparisons, names, missing, table, differences_table(comparisons))


def numbers_per_pair(results: Mapping[str, Sequence[Result]]) -> dict[str, dict[str, np.ndarray]]:
    """Metric -> method -> one number per pair, for the metrics that every method has."""
    collected: dict[str, dict[str, np.ndarray]] = {}
    for method, measured in results.items():
        for result in measured:
            for key, numbers in result.per_image.items():
                collected.setdefault(key, {})[method] = np.asarray(numbers, dtype=np.float64)
    return {
        key: numbers
        for key, numbers in collected.items()
        if key not in _NOT_INDEPENDENT and len(numbers) == len(results) > 1
    }


def _columns(keys: Collection[str]) -> list[Column]:
    return [column for key, column in SUITE_COLUMNS.items() if key in keys]


def comparison_table(results: Mapping[str, Sequence[Result]], comparisons: Sequence[Comparison]) -> Table:
    """A row per method: values, differences of the first method to it, and marks of the best."""
    first = next(iter(results))
    rows = []
    for method, measured in results.items():
        values = {
            key: Cell(value, result.standard_errors.get(key, math.nan))
            for result in measured
            for key, value in result.values.items()
            if key in SUITE_COLUMNS
        }
        gaps = {c.metric: Cell(c.mean, c.standard_error) for c in comparisons if (c.first, c.second) == (first, method)}
        rows.append(Row(method, values, gaps))
    columns = _columns({key for row in rows for key in row.values})
    if len(rows) > 1:
        for column in columns:
            _mark(column, rows, [c for c in comparisons if c.metric == column.key])
    return Table("of methods", "Methods on the same pairs", columns, rows)


def _mark(column: Column, rows: Sequence[Row], comparisons: Sequence[Comparison]) -> None:
    """Mark the best value of a column, and those that a test does not tell from it."""
    sign = -1 if column.better == "lower" else 1
    scores = {row.name: sign * row.values[column.key].mean for row in rows if column.key in row.values}
    scores = {name: score for name, score in scores.items() if not math.isnan(score)}
    if not scores:
        return
    best = max(scores, key=scores.__getitem__)
    adjusted = {frozenset((c.first, c.second)): c.adjusted for c in comparisons}
    for row in rows:
        if row.name == best or scores.get(row.name) == scores[best]:
            row.marks[column.key] = "best"
        elif adjusted.get(frozenset((best, row.name)), 0.0) >= SIGNIFICANT:
            row.marks[column.key] = "tied"


def _test_notes(table: Table, comparisons: Sequence[Comparison], test: PairedTest) -> list[str]:
    notes = []
    if comparisons:
        notes.append(
            f"Significance: {_TESTS[test]} over pairs, all {len(comparisons)} comparisons of two methods in one metric "
            f"corrected together (Holm), level {SIGNIFICANT}"
        )
    tested = {c.metric for c in comparisons}
    untested = [column.title for column in table.columns if column.key not in tested]
    if untested and len(table.rows) > 1:
        notes.append(
            f"Without a test, because the number is one of whole sets or of pairs that share outputs (bold is only the "
            f"best number): {', '.join(untested)}"
        )
    return notes


def differences_table(comparisons: Sequence[Comparison]) -> Table:
    """A row per two methods: first minus second with its standard error, and Holm's p-value."""
    columns: list[Column] = []
    for column in _columns({c.metric for c in comparisons}):
        columns += [
            _plain(column, column.title, column.key, column.digits + 1),
            _plain(column, f"p {column.title}", f"{column.key}_p", 4),
        ]
    rows: dict[str, Row] = {}
    for c in comparisons:
        row = rows.setdefault(f"{c.first} - {c.second}", Row(f"{c.first} - {c.second}"))
        row.values |= {c.metric: Cell(c.mean, c.standard_error), f"{c.metric}_p": Cell(c.adjusted)}
    notes = ["p: adjusted for all comparisons of this table (Holm)"] if comparisons else []
    return Table("of differences", "Paired differences of the methods", columns, list(rows.values()), notes)


def _plain(column: Column, title: str, key: str, digits: int) -> Column:
    """A column of differences or p-values, for which no direction is better."""
    return column._replace(title=title, key=key, digits=digits, better="")


def comparison_csv(comparison: MethodComparison) -> str:
    """One line per method and metric: value, error, mark, and the first method's difference to it with Holm's p."""
    first = next(iter(comparison.results))
    against = {(c.metric, c.second): c for c in comparison.comparisons if c.first == first}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ("method", "metric", "better", "value", "standard_error", "mark")
    writer.writerow([*head, "first_minus_method", "difference_error", "p_holm", "outputs"])
    for row in comparison.table.rows:
        for column in comparison.table.columns:
            if column.key not in row.values:
                continue
            cell, gap = row.values[column.key], against.get((column.key, row.name))
            numbers = [gap.mean, gap.standard_error, gap.adjusted] if gap else [math.nan] * 3
            fields = [_csv_number(cell.mean), _csv_number(cell.error), row.marks.get(column.key, "")]
            fields += [*map(_csv_number, numbers), str(len(comparison.names))]
            writer.writerow([row.name, column.key, column.better, *fields])
    return stream.getvalue()


def _csv_number(value: float) -> str:
    """All digits; empty if unknown."""
    return "" if math.isnan(value) else repr(value)
