"""scripts/evaluate.py with several methods: one table, its files, and what is wrong named in one line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from programs import load_program

COUNT, SIZE = 8, 32


@pytest.fixture(scope="module")
def program():
    return load_program("scripts/evaluate.py")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("methods"), np.random.default_rng(0)
    truth = rng.uniform(40, 215, (COUNT, 4, 4, 3)).repeat(SIZE // 4, 1).repeat(SIZE // 4, 2)
    for name, noise in (("truth", 0.0), ("ours", 5.0), ("theirs", 25.0)):
        (root / name).mkdir()
        for index, pixels in enumerate(truth + noise * rng.standard_normal(truth.shape)):
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name / f"{index}.png")
    return root


def _arguments(root):
    return ["--generated", f"ours={root / 'ours'}", f"b={root / 'theirs'}", "--truth", root / "truth"]


def test_two_methods_in_every_form(program, run, root, tmp_path):
    files = [part for name in ("latex", "csv", "report") for part in (f"--{name}", tmp_path / f"out.{name}")]
    code, out, err = run(program, *_arguments(root), "--reference", root / "truth", "--metrics", "psnr,swd", *files)
    assert code == 0, err
    assert "Methods on the same pairs. Bold: best." in out and "| ours | **" in out and "| b |" in out
    assert "- Not comparable with the paper's numbers: 8 outputs" in out
    latex = (tmp_path / "out.latex").read_text()
    assert latex.count(r"\begin{tabular}") == 2 and "ours - b" in latex and r"\footnotesize Not comparable" in latex
    assert (tmp_path / "out.csv").read_text().startswith("method,metric,better,value,standard_error,mark,")
    assert (tmp_path / "out.report").read_text().startswith("<!doctype html>")


def test_json_has_every_number_and_every_comparison(program, run, root):
    code, out, err = run(program, *_arguments(root), "--metrics", "psnr", "--json", "--paired-test", "wilcoxon")
    assert code == 0, err
    record = json.loads(out)
    assert list(record["methods"]) == ["ours", "b"] and record["pairs"] == COUNT and record["missing"] == {}
    assert record["generated"]["b"] == str(root / "theirs")
    (first, second) = record["comparisons"]
    assert (first["metric"], first["first"], first["second"]) == ("psnr", "ours", "b") and second["metric"] == "ssim"
    means = [record["methods"][name][0]["values"]["psnr"] for name in ("ours", "b")]
    assert first["mean"] == pytest.approx(means[0] - means[1]) and first["adjusted"] == 2 * 2 / 2**COUNT
    code, out, _ = run(program, "--generated", root / "ours", "--truth", root / "truth", "--metrics", "psnr", "--json")
    assert code == 0 and json.loads(out)["results"][0]["values"]["psnr"] == pytest.approx(means[0], rel=1e-12)


def test_one_method_has_a_table_of_one_row_too(program, run, root, tmp_path):
    arguments = ["--generated", f"ours={root / 'ours'}", "--truth", root / "truth", "--metrics", "psnr"]
    code, out, err = run(program, *arguments, "--latex", tmp_path / "t.tex", "--csv", tmp_path / "t.csv")
    assert code == 0, err
    assert out.startswith("psnr ") and (tmp_path / "t.tex").read_text().count("begin{tabular}") == 1
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 3  # head, PSNR, SSIM


def test_a_folder_with_an_equals_sign_is_a_folder(program, run, root, tmp_path):
    folder = tmp_path / "a=b"
    folder.symlink_to(root / "ours")
    code, out, err = run(program, "--generated", folder, "--truth", root / "truth", "--metrics", "psnr", "--json")
    assert code == 0, err
    assert json.loads(out)["generated"] == str(folder)


def test_fid_at_infinity_is_a_value_of_its_own(program, run, root, tmp_path, monkeypatch):
    from midms.evaluation import records

    class Colours(torch.nn.Module):
        def __init__(self, *_):
            super().__init__()
            self.register_buffer("weight", torch.randn(12, 2048, generator=torch.Generator().manual_seed(0)))

        def forward(self, images):
            return torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1) @ self.weight

    file = tmp_path / "inception.pth"
    file.write_bytes(b"stands for the weights")
    monkeypatch.setattr(records, "InceptionFeatures", Colours)
    arguments = ["--generated", root / "ours", "--reference", root / "truth", "--inception", file, "--metrics", "fid"]
    code, out, err = run(program, *arguments, "--json", "--fid-infinity")
    assert code == 0, err
    values = json.loads(out)["results"][0]["values"]
    assert set(values) == {"fid_reference", "fid_reference_infinity"}
    assert "_reference_infinity" not in run(program, *arguments, "--json")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a=x", "y"], "several methods need names, NAME=DIR, got 'y'"),
        (["=x", "b=y"], "several methods need names, NAME=DIR, got '=x'"),
        (["a=x", "a=y"], "two methods are called 'a'"),
        (["a=nowhere", "b=nowhere"], "nowhere: no such folder"),
        (["a=x", "b=y", "--latex", "."], "--latex: . is a folder"),
        (["a=x", "b=y", "--csv", "nowhere/t.csv"], "--csv: no folder"),
    ],
)
def test_a_mistake_is_one_line_here_too(program, run, arguments, words):
    code, out, err = run(program, "--generated", *arguments)
    assert code == 2 and not out and words in err.splitlines()[-1]


def test_missing_outputs_stop_the_program_unless_asked(program, run, root, tmp_path):
    for index in range(COUNT - 2):
        Image.open(root / "theirs" / f"{index}.png").save(tmp_path / f"{index}.png")
    arguments = ["--generated", f"ours={root / 'ours'}", f"few={tmp_path}", "--truth", root / "truth"]
    code, out, err = run(program, *arguments, "--metrics", "psnr")
    assert code == 2 and not out and "few lacks 2 (6, 7); give --common to compare the 6 that all have" in err
    code, out, err = run(program, *arguments, "--metrics", "psnr", "--common")
    assert code == 0 and "Only the 6 common pairs: few lacks 2 (6, 7)" in out
