"""Paired tests of several methods on the same pairs, corrected for the number of comparisons."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy import stats

from midms.metrics.truth import paired_difference

PairedTest = Literal["t", "wilcoxon"]
PAIRED_TESTS: tuple[str, ...] = get_args(PairedTest)


class Comparison(NamedTuple):
    """Difference of two methods in one metric: first minus second, over pairs measured with both."""

    metric: str
    first: str
    second: str
    mean: float
    standard_error: float
    pairs: int
    p_value: float  # of one test
    adjusted: float  # of all tests of a table together (`holm`)


def paired_p_value(first: np.ndarray, second: np.ndarray, test: PairedTest = "t") -> float:
    """Two-sided p-value of "the two methods have the same mean" on the same pairs.

    Args:
        first, second: one number per pair, (N,), in the same order; pairs with an infinite number or NaN are left out.
        test: "t", `scipy.stats.ttest_rel`, or "wilcoxon", the signed-rank test `scipy.stats.wilcoxon`, which asks
            about the median and does not assume a normal distribution.
    Returns:
        1 if all differences are 0; NaN with fewer than two pairs.
    """
    if test not in PAIRED_TESTS:
        raise ValueError(f"paired test: unknown {test!r}, expected one of {', '.join(PAIRED_TESTS)}")
    a, b = (np.asarray(x, dtype=np.float64) for x in (first, second))
    kept = np.isfinite(a) & np.isfinite(b)
    a, b = a[kept], b[kept]
    if len(a) < 2:
        return float("nan")
    if np.array_equal(a, b):
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all differences equal: the statistic is infinite, p is 0
        result = stats.ttest_rel(a, b) if test == "t" else stats.wilcoxon(a, b)
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm (1979), which bounds the probability of even one wrong rejection.

    The k-th smallest of m is multiplied by m - k + 1, and is at least as large as the ones before.

    Args:
        p_values: of all tests that are made; NaN for a test that was not possible, which counts for nothing.
    Returns:
        Adjusted values in the same order, at most 1.
    """
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(values), np.nan)
    order = [k for k in np.argsort(values, kind="stable") if not np.isnan(values[k])]
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * float(values[index])))
        adjusted[index] = largest
    return adjusted.tolist()


def compare_pairwise(per_pair: Mapping[str, Mapping[str, np.ndarray]], test: PairedTest = "t") -> list[Comparison]:
    """Every two methods in every metric, as one family of tests.

    All comparisons belong to the family, so the best method may be chosen after looking at the numbers.

    Args:
        per_pair: metric -> method -> one number per pair, (N,), in the same order for all methods.
        test: see `paired_p_value`.
    """
    rows = []
    for metric, methods in per_pair.items():
        for first, second in combinations(methods, 2):
            difference = paired_difference(methods[first], methods[second])
            p_value = paired_p_value(methods[first], methods[second], test)
            rows.append(Comparison(metric, first, second, *difference, p_value, p_value))
    adjusted = holm([row.p_value for row in rows])
    return [row._replace(adjusted=value) for row, value in zip(rows, adjusted, strict=True)]
