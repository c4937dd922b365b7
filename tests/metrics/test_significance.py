"""Paired tests, Holm's correction, and the family of all comparisons."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from midms.metrics.significance import compare_pairwise, holm, paired_p_value


def test_holm_on_the_textbook_example():
    # Holm (1979) step down: 4 * 0.005, 3 * 0.01, then 2 * 0.03 and never less than the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_a_test_that_was_not_possible_does_not_count():
    adjusted = holm([float("nan"), 0.01, 0.04])
    assert np.isnan(adjusted[0]) and adjusted[1:] == pytest.approx([0.02, 0.04])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_between_no_correction_and_bonferroni_and_keeps_the_order(values):
    adjusted = holm(values)
    for p, q in zip(values, adjusted, strict=True):
        assert p <= q <= min(1.0, len(values) * p) + 1e-15
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_the_p_values_are_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40), rng.normal(0.3, size=40)
    assert paired_p_value(a, b) == stats.ttest_rel(a, b).pvalue
    assert paired_p_value(a, b, "wilcoxon") == stats.wilcoxon(a, b).pvalue


@pytest.mark.parametrize("test", ["t", "wilcoxon"])
def test_equal_methods_shifted_methods_and_too_few_pairs(test):
    rng = np.random.default_rng(0)
    a = rng.normal(size=30)
    assert paired_p_value(a, a, test) == 1.0
    assert paired_p_value(a, a + 1, test) < 1e-5  # the same shift in each pair
    assert np.isnan(paired_p_value(a[:1], a[1:2], test))
    infinite = np.r_[a, np.inf]
    assert paired_p_value(infinite, np.r_[a + 1, 0.0], test) == paired_p_value(a, a + 1, test)


def test_an_unknown_test_is_named():
    with pytest.raises(ValueError, match="unknown 'anova', expected one of t, wilcoxon"):
        paired_p_value(np.zeros(2), np.zeros(2), "anova")


def test_all_pairs_of_methods_and_metrics_are_one_family():
    rng = np.random.default_rng(1)
    numbers = {metric: {name: rng.normal(size=25) for name in "abc"} for metric in ("psnr", "ssim")}
    rows = compare_pairwise(numbers)
    assert [(r.metric, r.first, r.second) for r in rows[:3]] == [
        ("psnr", "a", "b"), ("psnr", "a", "c"), ("psnr", "b", "c")]  # fmt: skip
    assert [r.adjusted for r in rows] == holm([r.p_value for r in rows]) and len(rows) == 6
    first = rows[0]
    want = numbers["psnr"]["a"] - numbers["psnr"]["b"]
    assert first.mean == pytest.approx(want.mean()) and first.pairs == 25
    assert first.standard_error == pytest.approx(want.std(ddof=1) / 5)


def test_equal_methods_are_rarely_called_different():
    """With 60 tests of equal methods at 5 % each, about three p-values are below 0.05, but none after Holm."""
    rng = np.random.default_rng(0)
    numbers = {f"m{k}": {name: rng.normal(size=50) for name in "abcd"} for k in range(10)}
    rows = compare_pairwise(numbers)
    assert sum(r.p_value < 0.05 for r in rows) > 0
    assert all(r.adjusted >= 0.05 for r in rows)
