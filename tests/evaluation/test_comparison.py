"""Several methods in one call: the numbers of single runs, every image read once, marks that follow the tests."""

import csv
import io
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from midms.evaluation import folders as folders_module
from midms.evaluation.comparison import compare_methods, comparison_csv, comparison_table, missing_outputs
from midms.evaluation.comparison_report import write_comparison_report
from midms.evaluation.records import Folders, Options, Result
from midms.evaluation.suite import evaluate
from midms.evaluation.tables import latex, markdown
from midms.metrics.significance import Comparison

COUNT, SIZE = 12, 32
METRICS = ["fid", "swd", "psnr"]
NOISE = {"ours": 4.0, "near": 4.5, "far": 40.0, "other": 20.0}


def _write(folder, images, names=None):
    folder.mkdir(parents=True)
    for index, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("methods"), np.random.default_rng(0)
    truth = rng.uniform(40, 215, (COUNT, 4, 4, 3)).repeat(SIZE // 4, 1).repeat(SIZE // 4, 2)
    _write(root / "truth", truth.astype(np.uint8))
    photos = rng.uniform(0, 255, (COUNT, 8, 8, 3)).repeat(SIZE // 8, 1).repeat(SIZE // 8, 2)
    _write(root / "reference", photos.astype(np.uint8))
    for name, noise in NOISE.items():
        noisy = truth + noise * rng.standard_normal(truth.shape)
        _write(root / name, noisy.clip(0, 255).astype(np.uint8))
    return root


def _methods(root, names=tuple(NOISE)):
    return {name: root / name for name in names}


def _folders(root):
    return Folders(root / "ours", reference=root / "reference", truth=root / "truth")


@pytest.mark.usefixtures("narrow_network")
def test_four_methods_have_the_numbers_of_four_single_runs_and_each_image_is_read_once(sets, monkeypatch):
    options, folders = Options(), _folders(sets)
    single = {name: evaluate(replace(folders, generated=sets / name), options, METRICS) for name in NOISE}
    reads, read = Counter(), folders_module.read_rgb
    monkeypatch.setattr(folders_module, "read_rgb", lambda path: reads.update([path]) or read(path))
    together = compare_methods(_methods(sets), folders, options, METRICS)
    for name, results in single.items():
        for want, got in zip(results, together.results[name], strict=True):
            assert got.status == want.status == "ok" and got.images == want.images
            assert got.image_format == want.image_format and got.protocol == want.protocol
            assert got.values == pytest.approx(want.values, rel=1e-9, abs=1e-9)
            assert got.standard_errors == pytest.approx(want.standard_errors, rel=1e-9, nan_ok=True)
            assert got.per_image == want.per_image
    assert len(reads) == COUNT * (len(NOISE) + 2) and set(reads.values()) == {1}


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_network")
def test_four_methods_of_256_pairs_have_the_numbers_of_four_single_runs(tmp_path):
    rng = np.random.default_rng(0)
    names = ("a", "b", "c", "d")
    for name in (*names, "truth", "reference"):
        _write(tmp_path / name, rng.integers(0, 256, (256, 64, 64, 3), dtype=np.uint8))
    folders = Folders(tmp_path / "a", tmp_path / "reference", truth=tmp_path / "truth")
    together = compare_methods({name: tmp_path / name for name in names}, folders, None, METRICS)
    for name in names:
        single = evaluate(replace(folders, generated=tmp_path / name), None, METRICS)
        for want, got in zip(single, together.results[name], strict=True):
            assert got.values == pytest.approx(want.values, rel=1e-9, abs=1e-9)
    assert "Not comparable" in " ".join(together.table.notes)


def test_the_table_marks_the_best_and_what_is_not_significantly_worse(sets):
    comparison = compare_methods(_methods(sets), _folders(sets), None, ["swd", "psnr"])
    rows = {row.name: row for row in comparison.table.rows}
    assert rows["ours"].marks["psnr"] == "best" and "psnr" not in rows["far"].marks
    found = {(c.metric, c.first, c.second): c for c in comparison.comparisons}
    assert len(found) == 2 * 6  # PSNR and SSIM, six pairs of methods
    near = found["psnr", "ours", "near"]
    assert (rows["near"].marks.get("psnr") == "tied") == (near.adjusted >= 0.05)
    psnr = {name: np.array(results[1].per_image["psnr"]) for name, results in comparison.results.items()}
    gap = psnr["ours"] - psnr["far"]
    assert rows["far"].differences["psnr"].mean == pytest.approx(gap.mean())
    assert rows["far"].differences["psnr"].error == pytest.approx(gap.std(ddof=1) / math.sqrt(COUNT))
    notes = " ".join(comparison.table.notes)
    for part in ("Holm", "12 outputs instead of 2,993 (CelebA-HQ) or 4,993 (DeepFashion)", "32 x 32 pixels", "floor"):
        assert part in notes
    text = markdown(comparison.table)
    assert f"**{rows['ours'].values['psnr'].mean:.2f}" in text and r"\textbf{" in latex(comparison.table)
    assert [row.name for row in comparison.differences.rows][:2] == ["ours - near", "ours - far"]


def _result(name, values):
    errors = {name: 0.1}
    return Result(name, values={name: float(np.mean(values))}, standard_errors=errors, per_image={name: values})


def test_marks_follow_the_corrected_tests_not_the_means():
    results = {
        "a": [_result("psnr", [3.0, 1.0])],
        "b": [_result("psnr", [2.0, 1.0])],
        "c": [_result("psnr", [0.0, 0.0])],
    }
    tests = [Comparison("psnr", *pair, 1.0, 0.5, 2, p, p) for pair, p in
             ((("a", "b"), 0.05), (("a", "c"), 0.049), (("b", "c"), 0.9))]  # fmt: skip
    marks = {row.name: row.marks for row in comparison_table(results, tests).rows}
    assert marks == {"a": {"psnr": "best"}, "b": {"psnr": "tied"}, "c": {}}


def test_equal_best_numbers_of_whole_sets_are_both_marked_and_nan_is_not():
    results = {name: [Result("swd", values={"swd_average": value})] for name, value in
               (("a", 2.0), ("b", 2.0), ("c", 3.0), ("d", math.nan))}  # fmt: skip
    marks = {row.name: row.marks.get("swd_average") for row in comparison_table(results, []).rows}
    assert marks == {"a": "best", "b": "best", "c": None, "d": None}


def test_missing_outputs_are_named_and_common_ones_compared_only_when_asked(sets, tmp_path):
    partial = tmp_path / "partial"
    partial.mkdir()
    for index in range(COUNT - 5):
        (partial / f"{index:03d}.png").write_bytes((sets / "other" / f"{index:03d}.png").read_bytes())
    methods = {"ours": sets / "ours", "partial": partial}
    missing = ["007", "008", "009", "010", "011"]
    with pytest.raises(ValueError, match=r"partial lacks 5 .007, 008, 009, 010, 011.; give --common to compare the 7"):
        compare_methods(methods, _folders(sets), None, ["swd", "psnr"])
    comparison = compare_methods(methods, _folders(sets), None, ["swd", "psnr"], common=True)
    assert comparison.missing == {"partial": missing} and comparison.names == [f"{k:03d}" for k in range(COUNT - 5)]
    assert "Only the 7 common pairs: partial lacks 5 (007" in " ".join(comparison.table.notes)
    for results in comparison.results.values():
        assert all(set(result.images.values()) == {COUNT - 5} for result in results)
    alone = tmp_path / "alone"
    alone.mkdir()
    for index in range(COUNT - 5):
        (alone / f"{index:03d}.png").write_bytes((sets / "ours" / f"{index:03d}.png").read_bytes())
    want = evaluate(replace(_folders(sets), generated=alone), None, ["psnr"])[0].values
    assert comparison.results["ours"][1].values == pytest.approx(want, rel=1e-12)


def test_methods_without_a_common_output_or_of_other_sizes_are_refused(sets, tmp_path):
    _write(tmp_path / "large", np.zeros((COUNT, 48, 48, 3), np.uint8))
    with pytest.raises(ValueError, match=r"ours has images of 32x32 and large of 48x48; give one .--size."):
        compare_methods({"ours": sets / "ours", "large": tmp_path / "large"}, _folders(sets))
    (tmp_path / "strange").mkdir()
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "strange" / "x.png")
    with pytest.raises(ValueError, match="no output is common to all"):
        compare_methods({"ours": sets / "ours", "strange": tmp_path / "strange"}, _folders(sets), common=True)


def test_missing_outputs_of_three_methods():
    names = {"a": ["1", "2"], "b": ["2", "3"], "c": ["1", "2", "3"]}
    assert missing_outputs(names) == {"a": ["3"], "b": ["1"]}


def test_the_csv_has_a_line_per_method_and_metric(sets):
    comparison = compare_methods(_methods(sets, ("ours", "far")), _folders(sets), None, ["swd", "psnr"])
    lines = list(csv.DictReader(io.StringIO(comparison_csv(comparison))))
    assert [(line["method"], line["metric"]) for line in lines] == [
        (name, metric) for name in ("ours", "far") for metric in ("swd_average", "psnr", "ssim")]  # fmt: skip
    far = next(line for line in lines if (line["method"], line["metric"]) == ("far", "psnr"))
    (row,) = (c for c in comparison.comparisons if c.metric == "psnr")
    assert float(far["first_minus_method"]) == row.mean and float(far["p_holm"]) == row.adjusted
    assert float(far["value"]) == comparison.results["far"][1].values["psnr"] and far["outputs"] == str(COUNT)
    assert lines[0]["p_holm"] == "" and lines[1]["mark"] == "best"


def test_the_page_shows_every_method_and_its_differences(sets, tmp_path):
    methods = _methods(sets, ("ours", "far"))
    comparison = compare_methods(methods, _folders(sets), None, ["psnr"])
    write_comparison_report(tmp_path / "page.html", methods, _folders(sets), comparison, {"torch": "2"}, most_images=3)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img") == 3 * 4 and page.count("<svg") == 2  # reference, truth, two methods; PSNR and SSIM
    for part in ("<b>", "ours - far", "psnr: ours - far", "Methods on the same 12 pairs", "Not comparable"):
        assert part in page
