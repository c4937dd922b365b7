"""Footnotes: every difference from the paper is named, none is invented, and the bias of small sets is stated."""

from __future__ import annotations

import pytest

from midms.evaluation.columns import SUITE_COLUMNS
from midms.evaluation.footnotes import differences_from_paper, not_comparable, small_set_notes


@pytest.mark.parametrize("published_on", ["CelebA-HQ", ""])
def test_numbers_like_the_papers_have_no_footnote(published_on):
    assert differences_from_paper(2993, (256, 256), "paper", published_on) == []
    assert not_comparable([]) == [] and small_set_notes(["fid_reference", "swd_average"], 4993) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"count": 4993}, "4,993 outputs instead of 2,993 (CelebA-HQ)"),
        ({"count": 256, "published_on": ""}, "256 outputs instead of 2,993 (CelebA-HQ) or 4,993 (DeepFashion)"),
        ({"size": (256, 128)}, "256 x 128 pixels instead of 256 x 256"),
        ({"protocol": "clean"}, "FID protocol 'clean' instead of 'paper'"),
        ({"drawn": True}, "drawn pictures instead of CelebA-HQ"),
    ],
)
def test_each_difference_is_named_alone(options, reason):
    like_the_paper = {"count": 2993, "size": (256, 256), "protocol": "paper", "published_on": "CelebA-HQ"}
    reasons = differences_from_paper(**(like_the_paper | options))
    assert reasons == [reason]
    assert not_comparable(reasons) == [f"Not comparable with the paper's numbers: {reason}"]


def test_the_bias_is_said_of_the_columns_that_have_it():
    assert small_set_notes(["psnr", "colour"], 4) == []
    (fid,) = small_set_notes(["fd_reference"], 256)
    assert "256 images is biased upwards" in fid
    (swd,) = small_set_notes(["swd_truth"], 256)
    assert "13.6 for N = 256" in swd and swd.endswith("here 256")
    infinity = small_set_notes(["fid_reference_infinity"], 256)
    assert "the line is uncertain for so few images" in infinity[-1]
    assert "uncertain" not in small_set_notes(["fid_reference_infinity"], 5000)[-1]


def test_every_column_of_the_suite_has_a_direction():
    assert all(column.better in ("lower", "higher") for column in SUITE_COLUMNS.values())
    assert len({column.title for column in SUITE_COLUMNS.values()}) == len(SUITE_COLUMNS)
