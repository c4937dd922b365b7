"""scripts/pairs_for.py as its users run it: pairs out, made-up outputs in, the numbers of evaluate.py at the end."""

from __future__ import annotations

import json

import pytest
from own_photos import PAIRS, SIDE, write_photos
from PIL import Image, ImageFilter
from programs import load_program

from others import layouts


@pytest.fixture(scope="module")
def program():
    return load_program("scripts/pairs_for.py")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("own"))


def _write(photos, layout, out):
    folder, pairs = photos
    return ["write", layout, "--photos", folder, "--pairs", pairs, "--size", SIDE, "--out", out]


def test_the_command_line_offers_every_layout(program):
    assert program.LAYOUTS == tuple(layouts.LAYOUTS)


@pytest.mark.parametrize("layout", ["cocosnet", "diffusers", "ctrl-x"])
def test_pairs_go_out_and_made_up_outputs_come_back_to_be_measured(program, run, photos, tmp_path, layout):
    code, out, err = run(program, *_write(photos, layout, tmp_path / "pairs"))
    assert code == 0 and "3 pairs in" in out, err
    results = tmp_path / "results"
    results.mkdir()
    for number, name in enumerate(PAIRS):  # a method that blurs the photo of the condition
        Image.open(photos[0] / name).convert("RGB").filter(ImageFilter.BoxBlur(1)).save(results / f"out_{number}.png")
    code, out, err = run(program, "read", results, "--of", tmp_path / "pairs", "--out", tmp_path / "back")
    assert code == 0 and "3 of 3 outputs" in out, err
    evaluate = load_program("scripts/evaluate.py")
    reference = tmp_path / "pairs" / "evaluation" / "photos"
    arguments = ["--generated", f"blur={tmp_path / 'back'}", f"itself={reference}", "--truth", reference]
    code, out, err = run(evaluate, *arguments, "--metrics", "psnr", "--json")
    assert code == 0, err
    record = json.loads(out)
    assert record["pairs"] == 3 and record["methods"]["blur"][0]["values"]["ssim"] < 0.99
    assert record["methods"]["itself"][0]["values"]["ssim"] == pytest.approx(1)


def test_pairs_without_an_output_are_named(program, run, photos, tmp_path):
    run(program, *_write(photos, "diffusers", tmp_path / "pairs"))
    (tmp_path / "results").mkdir()
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "results" / "0.png")
    code, out, err = run(program, "read", tmp_path / "results", "--of", tmp_path / "pairs", "--out", tmp_path / "back")
    assert code == 1 and "1 of 3 outputs" in out and "no output of 2 pairs: sub/b, c" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["write", "cocosnet", "--photos", "nowhere", "--pairs", "p.txt", "--out", "x"], "nowhere: no such folder"),
        (["write", "matebit"], "invalid choice: 'matebit'"),
        (["read", "x", "--of", "nowhere", "--out", "y"], "nowhere"),
        (["read", "x", "--of", "y", "--out", "z", "--panel", "3/2"], "expected K/N with 1 <= K <= N, got '3/2'"),
    ],
)
def test_a_mistake_of_the_pairs_is_one_line(program, run, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(program, *arguments)
    assert code == 2 and not out and words in err.splitlines()[-1] and "Traceback" not in err


def test_pairs_of_another_layout_are_no_pairs_of_diffusers(program, run, photos, tmp_path):
    run(program, *_write(photos, "ctrl-x", tmp_path / "pairs"))
    models = ["--base", "b", "--controlnet", "c", "--adapter", "a", "--local"]
    code, _, err = run(program, "diffusers", tmp_path / "pairs", *models)
    assert code == 2 and "pairs in the layout of ctrl-x; make them with `write diffusers`" in err
