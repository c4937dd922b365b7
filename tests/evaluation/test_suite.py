"""The suite as a library; scripts/evaluate.py, which is a thin face of it, has the tests of whole runs."""

import pytest
from PIL import Image

from midms.evaluation.metrics import EDIT_METRICS, condition_of
from midms.evaluation.suite import METRICS, Folders, Options, evaluate, expand


def test_groups_expand_to_their_members_once():
    assert expand(["truth", "psnr", "swd"]) == ["psnr", "lpips_truth", "swd"]
    with pytest.raises(ValueError, match=r"'beauty', expected some of .*fid"):
        expand(["beauty"])


@pytest.mark.parametrize(
    ("name", "condition"), [("12__7", "12"), ("12/7", "12"), ("a/12/7", "a/12"), ("12", "12"), ("x/12__7", "x/12")]
)
def test_the_condition_is_read_from_the_name(name, condition):
    assert condition_of(name) == condition


def test_a_metric_says_which_folder_it_needs(tmp_path):
    (tmp_path / "generated").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "generated" / "a.png")
    results = {r.metric: r for r in evaluate(Folders(tmp_path / "generated"), Options())}
    assert list(results) == [name for name in METRICS if name not in EDIT_METRICS]
    assert all(r.status == "skipped" and not r.values for r in results.values())
    assert results["psnr"].reason == "needs --truth DIR"
    assert results["style"].reason == "needs --exemplars DIR"
