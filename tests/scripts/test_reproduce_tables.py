"""scripts/reproduce_tables.py as its users run it: every table, every task, data sets, trainings, mistakes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from files_on_disk import celeba
from PIL import Image
from programs import load_program

from midms.data.procedural.dataset import test_pairs as fixed_test_pairs
from midms.diffusion.settings import InterleaveSettings
from midms.models.denoiser import Denoiser
from midms.models.encoders import CorrespondenceEncoders
from midms.models.first_stage import FirstStage
from midms.models.midms import MIDMs
from midms.pipelines.midms import MIDMsPipeline
from tables.regions import region_scores

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "reproduce_tables.py"
STAGE = {"kind": "vq", "ch": 8, "ch_mult": [1, 1, 2], "num_res_blocks": 1, "n_embed": 64, "norm_groups": 4}
UNET = {"model_channels": 16, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_resolutions": [2],
        "num_head_channels": 8, "norm_groups": 8}  # fmt: skip
ENCODERS = {"latent_channels": 3, "widths": [8, 8, 16], "out_channels": 16, "hidden": 8, "padding_mode": "reflect",
            "form": "paper"}  # fmt: skip
CONDITIONS = {"figures": (20, "unshuffle"), "churches": (151, "nearest")}


@pytest.fixture(scope="module")
def program():
    return load_program("scripts/reproduce_tables.py")


@pytest.fixture(scope="module")
def task_weights(tmp_path_factory):
    """Small random pipelines of the other two tasks, in their shipped form."""
    folders = {}
    for task, (channels, form) in CONDITIONS.items():
        torch.manual_seed(0)
        parts = FirstStage(STAGE), CorrespondenceEncoders(condition_channels=channels, condition_input=form, **ENCODERS)
        model = MIDMs(*parts, Denoiser(UNET))
        settings = InterleaveSettings(num_inference_steps=8, num_interleaved_steps=2, refine_steps=0)
        pipe = MIDMsPipeline(model, settings, {"task": task, "size": 32})
        folders[task] = pipe.save_pretrained(tmp_path_factory.mktemp("pipelines") / task)
    return folders


def test_components_with_bounds_differences_and_the_paper_beside_them(program, run, tiny_pipeline_folder, tmp_path):
    arguments = ["--table", 3, "--weights", tiny_pipeline_folder, "--pairs", 4, "--out", tmp_path]
    code, out, err = run(program, *arguments)
    assert code == 0, err
    table = json.loads((tmp_path / "table3.json").read_text())
    rows = {row["name"]: row for row in table["rows"]}
    assert list(rows)[:2] == ["full method", "no confidence mask"] and len(rows) == 11
    assert rows["no diffusion"]["paper"] == {"fid_reference": 128.70, "swd_average": 34.59}
    assert not rows["full method"]["differences"]
    first, second = rows["full method"]["values"]["psnr"]["mean"], rows["other style"]["values"]["psnr"]["mean"]
    assert rows["other style"]["differences"]["psnr"]["mean"] == pytest.approx(first - second)
    assert table["record"]["matching"][str(tiny_pipeline_folder)]["identity"]["pck"] > 0.1
    assert 0 <= table["record"]["mask"]["recall"] <= 1
    # what could not be measured has no column of its own, and the reason is said
    assert "fid_reference" not in rows["full method"]["values"] and "fid was not measured" in out
    assert "| full method |" in out and out.strip() == (tmp_path / "table3.md").read_text().strip()
    assert r"\begin{tabular}" in (tmp_path / "table3.tex").read_text()
    # a second run makes nothing again and says the same
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "samples").rglob("*.png")}
    assert len(files) == 4 * (11 + 4)
    assert run(program, *arguments)[1] == out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "samples").rglob("*.png")} == files


def test_components_by_pyramid_level(program, run, tiny_pipeline_folder, tmp_path):
    arguments = ["--table", 3, "bands", "--weights", tiny_pipeline_folder, "--pairs", 4, "--out", tmp_path]
    code, out, err = run(program, *arguments)
    assert code == 0, err
    third, bands = (json.loads((tmp_path / f"table{name}.json").read_text()) for name in ("3", "bands"))
    assert [row["name"] for row in bands["rows"]] == [row["name"] for row in third["rows"]]
    assert [c["title"] for c in bands["columns"]] == ["SWD 32", "SWD 16", "detail 32", "SWD to truth"]
    for whole, row in zip(third["rows"], bands["rows"], strict=True):
        levels = [row["values"][f"swd_level_{level}"]["mean"] for level in (32, 16)]
        assert np.mean(levels) == pytest.approx(whole["values"]["swd_truth"]["mean"])
        assert whole["differences"].get("swd_truth") == row["differences"].get("swd_truth")
    rows = {row["name"]: row for row in bands["rows"]}
    assert rows["other style"]["differences"]["swd_level_16"]["error"] > 0
    assert rows["other style"]["differences"]["detail_32"]["error"] > 0
    assert "the truth has" in bands["notes"][-1] and "| Δ SWD 16 |" in out


def test_components_by_what_the_exemplar_shows(program, run, tiny_pipeline_folder, tmp_path):
    arguments = ["--table", "regions", "--weights", tiny_pipeline_folder, "--pairs", 4, "--out", tmp_path]
    code, out, err = run(program, *arguments)
    assert code == 0, err
    table = json.loads((tmp_path / "tableregions.json").read_text())
    keys = ["psnr_visible", "psnr_hidden", "psnr_absent", "psnr_subject", "psnr_surroundings", "error_share_subject"]
    assert [column["key"] for column in table["columns"]][:6] == keys
    rows = {row["name"]: row for row in table["rows"]}
    assert "| Δ PSNR dB, hidden |" in out and "hidden: it shows the part" in table["notes"][-1]
    pairs = fixed_test_pairs("faces", 32, 4)
    exemplars = torch.stack([pairs[index]["exemplar"] for index in range(4)])
    expected = region_scores(exemplars, pairs)
    for key in (*keys[:2], *keys[3:]):
        assert rows["exemplar itself"]["values"][key]["mean"] == pytest.approx(expected[key].mean(), abs=0.05)  # 8 bits
        assert rows["no confidence mask"]["differences"][key]["error"] >= 0


@pytest.mark.parametrize(("task", "ours"), [("figures", 10.89), ("churches", None)])
def test_the_other_tasks_and_tables_one_and_two(program, run, task_weights, tmp_path, task, ours):
    arguments = ["--table", 1, 2, "--benchmark", task, "--weights", task_weights[task], "--pairs", 4]
    code, out, err = run(program, *arguments, "--out", tmp_path, "--json")
    assert code == 0, err
    first, second = json.loads(out)
    rows = {row["name"]: row for row in first["rows"]}
    assert rows["MIDMs"]["paper"].get("fid_reference") == ours
    assert ("CoCosNet v2" in rows) == (ours is not None)
    for name in ("swd_average", "fd_reference", "fd_exemplars", "diversity_encoder", "psnr"):
        assert math.isfinite(rows["MIDMs"]["values"][name]["mean"]), name
    assert rows["exemplar itself"]["values"]["fd_exemplars"]["mean"] == pytest.approx(0, abs=1e-6)
    style = {row["name"]: row["values"] for row in second["rows"] if row["values"]}
    assert style["exemplar itself"]["colour_encoder"]["mean"] == pytest.approx(1)
    assert style["photo of the condition"]["semantic_encoder"]["mean"] == pytest.approx(1)


def test_the_gan_and_its_iterated_form_beside_the_method(program, run, tiny_pipeline_folder, tiny_gan_folder, tmp_path):
    arguments = ["--table", 2, 8, 9, "--weights", tiny_pipeline_folder, "--gan", tiny_gan_folder, "--pairs", 4]
    code, out, err = run(program, *arguments, "--out", tmp_path, "--json")
    assert code == 0, err
    for table in json.loads(out):
        rows = {row["name"]: row for row in table["rows"] if row["values"]}
        assert list(rows)[:4] == ["MIDMs", "matching GAN", "matching GAN, iterated", "one-time matching"]
        for name in list(rows)[1:]:  # each with its paired error against the full method
            assert rows[name]["differences"]["psnr"]["error"] > 0, name
            assert math.isfinite(rows[name]["differences"]["swd_truth"]["mean"])
        gap = rows["MIDMs"]["values"]["psnr"]["mean"] - rows["matching GAN"]["values"]["psnr"]["mean"]
        assert rows["matching GAN"]["differences"]["psnr"]["mean"] == pytest.approx(gap)
        assert rows["matching GAN"]["values"]["psnr"] != rows["matching GAN, iterated"]["values"]["psnr"]
        assert "pck" in rows["matching GAN"]["values"] and "pck" not in rows["exemplar itself"]["values"]
        assert table["record"]["settings"]["matching GAN, iterated"] == [2]
        notes = " ".join(table["notes"])
        assert "seed not recorded" in notes and "not shipped" not in notes
        assert ("biased upwards" in notes) == (table["number"] == "9")
    style = {row["name"]: row["values"] for row in json.loads(out)[1]["rows"]}
    assert style["exemplar itself"]["colour_encoder"]["mean"] == pytest.approx(1)
    sets = {row["name"]: row["values"] for row in json.loads(out)[2]["rows"]}
    assert sets["matching GAN"]["fd_reference"]["mean"] > 0


def test_a_gan_that_is_not_shipped_has_rows_that_say_so(program, run, tiny_pipeline_folder, monkeypatch, tmp_path):
    monkeypatch.setitem(program.TASKS, "faces", program.TASKS["faces"]._replace(gan="no-such-weights"))
    arguments = ["--table", 9, "--weights", tiny_pipeline_folder, "--pairs", 3, "--out", tmp_path]
    code, out, err = run(program, *arguments)
    assert code == 0, err
    assert "| matching GAN (not shipped yet) | - |" in out and "| matching GAN, iterated (not shipped yet) | - |" in out
    assert "python main.py --base configs/baselines/matching_gan.yaml -t" in out
    root = SCRIPT.parents[1] / "configs" / "baselines"
    for task in program.TASKS.values():  # the folder that the note names is the run's own
        assert f"name: {task.gan_bases[-1]}\n" in (root / f"{task.gan_bases[-1]}.yaml").read_text()


def test_weights_of_midms_are_no_gan(program, run, tiny_pipeline_folder, tiny_gan_folder, task_weights, tmp_path):
    arguments = ["--table", 8, "--weights", tiny_pipeline_folder, "--pairs", 3, "--out", tmp_path]
    code, _, err = run(program, *arguments, "--gan", tiny_pipeline_folder)
    assert code == 2 and "expected matching_gan" in err
    arguments[3:4] = [task_weights["figures"], "--benchmark", "figures"]
    code, _, err = run(program, *arguments, "--gan", tiny_gan_folder)
    assert code == 2 and "are of task 'faces', not 'figures'" in err


@pytest.mark.parametrize("name", ["paper", "released", "fast"])
def test_a_protocol_keeps_the_weights_threshold_unless_it_has_its_own(program, name):
    options = program.parse(["--table", "3", "--protocol", name])
    expected = getattr(InterleaveSettings, name)()
    if name != "released":
        expected = expected.replace(threshold=0.7)
    assert program.sampler_settings(options, {"settings": {"threshold": 0.7}}) == expected


def test_noise_levels_over_seeds_on_a_data_set_of_ones_own(program, run, tiny_pipeline_folder, tmp_path):
    config = tmp_path / "own.yaml"
    config.write_text(
        "data: {params: {validation: {target: midms.data.procedural.dataset.ProceduralPairs, "
        "params: {task: faces, size: 64, split: val, length: 5, exemplars: {hard: 1.0}}}}}"
    )
    arguments = ["--table", 4, "--config", config, "--set", "data.params.validation.params.size=32"]
    arguments += ["--weights", tiny_pipeline_folder, "--protocol", "weights", "--pairs", 3, "--seeds", 2]
    report = tmp_path / "report.html"
    code, out, err = run(program, *arguments, "--out", tmp_path, "--json", "--report", report)
    assert code == 0, err
    (table,) = json.loads(out)
    assert [row["x"] for row in table["rows"]] == [25, 20, 30, 35] and table["record"]["settings"]["35 %"] == [20, 7]
    for row in table["rows"]:
        assert "psnr" not in row["values"] and not row["paper"]  # no truth here, and no data set of the paper
        assert row["values"]["swd_average"]["error"] > 0  # two seeds
    assert len(list((tmp_path / "samples").glob("25-*"))) == 2
    assert "swd over noise level" in report.read_text().lower()


class AnyFeatures(torch.nn.Module):
    """Stands for Inception, whose file is not here: 2048 functions of an image's mean colours."""

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(12, 2048, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1) @ self.weight


def test_fid_stands_beside_the_papers_where_its_file_is(program, run, monkeypatch, tiny_pipeline_folder, tmp_path):
    from midms.evaluation import records

    file = tmp_path / "inception.pth"
    file.write_bytes(b"stands for the weights")
    monkeypatch.setattr(records, "InceptionFeatures", AnyFeatures)
    arguments = ["--table", 1, "--weights", tiny_pipeline_folder, "--pairs", 3, "--inception", file]
    code, out, err = run(program, *arguments, "--out", tmp_path / "out")
    assert code == 0, err
    head = next(line for line in out.splitlines() if line.startswith("| row"))
    assert "| FID ↓ |" in head and "| FID w/ exemplars ↓ |" in head and "| paper FID |" in head
    assert "fid was not measured" not in out and "lpips was not measured" in out
    rows = {row["name"]: row for row in json.loads((tmp_path / "out/table1.json").read_text())["rows"]}
    assert rows["MIDMs"]["values"]["fid_reference"]["mean"] > 0
    assert rows["exemplar itself"]["values"]["fid_exemplars"]["mean"] == pytest.approx(0, abs=1e-6)
    assert rows["CoCosNet"]["values"] == {} and rows["CoCosNet"]["paper"]["fid_exemplars"] == 11.01


def test_celeba_as_users_have_it(program, run, tiny_pipeline_folder, tmp_path):
    config = SCRIPT.parents[1] / "configs" / "celeba.yaml"
    node = "data.params.validation.params"
    changes = [f"{node}.root={celeba(tmp_path / 'data')}", f"{node}.size=32"]
    arguments = ["--table", 2, "--config", config, "--set", *changes, "--weights", tiny_pipeline_folder]
    code, out, err = run(program, *arguments, "--steps", 8, "--protocol", "weights", "--out", tmp_path, "--json")
    assert code == 0, err
    (table,) = json.loads(out)
    rows = {row["name"]: row for row in table["rows"]}
    assert rows["CoCosNet"]["paper"]["semantic"] == 0.949 and rows["MIDMs"]["paper"]["texture"] == 0.962
    assert table["published_on"] == "CelebA-HQ" and table["record"]["pairs"] >= 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--table", "6"], "invalid choice: '6'"),
        (["--table", "3", "--pairs", "1"], "--pairs: expected at least 2, got 1"),
        (["--table", "4", "--train"], "--train: trains the rows of tables 3 and 5"),
        (["--table", "1", "--config", "configs/celeba.yaml"], "--config: give the --weights"),
        (["--table", "bands", "--config", "configs/celeba.yaml", "--weights", "demo"], "only a --benchmark knows"),
        (["--table", "regions", "--config", "configs/celeba.yaml", "--weights", "demo"], "only a --benchmark knows"),
        (["--table", "1", "--set", "a=b"], "--set: changes a --config"),
        (["--table", "1", "--weights", "nowhere"], "nowhere"),
        (["--table", "8", "--gan", "nowhere"], "nowhere"),
        (["--table", "3", "--gan", "nowhere"], "--gan: compared in tables 1, 2, 8 and 9 only"),
        (["--table", "5"], "this table compares trainings"),
        (["--table", "5", "--continue"], "--continue: goes with --train on a --benchmark"),
        (["--table", "1", "--config", "none.yaml", "--weights", "demo"], "none.yaml: no such file"),
        (["--table", "1", "--report", "nowhere/x.html"], "--report: no folder"),
    ],
)
def test_a_mistake_is_one_line(program, run, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(program, *arguments)
    assert code == 2 and not out and words in err.splitlines()[-1]
    assert "Traceback" not in err


def test_weights_of_another_task_are_refused(program, run, task_weights, tmp_path):
    arguments = ["--table", "3", "--benchmark", "churches", "--weights", task_weights["figures"], "--out", tmp_path]
    code, _, err = run(program, *arguments)
    assert code == 2 and "are of task 'figures', not 'churches'" in err


@pytest.mark.slow
def test_losses_are_trained_and_compared(program, run, tiny_pipeline_folder, tmp_path):
    arguments = ["--table", 5, "--weights", tiny_pipeline_folder, "--pairs", 4, "--out", tmp_path, "--train", 4]
    code, out, err = run(program, *arguments, "--json")
    assert code == 0 and err.count("training") >= 6, err
    (table,) = json.loads(out)  # nothing else on the way out
    rows = {row["name"]: row for row in table["rows"]}
    assert list(rows) == ["full method", "w/o L_cycle", "w/o L_style", "w/o L_perc", "w/o L_dom", "w/o L_src"]
    assert all(0 <= row["values"]["pck"]["mean"] <= 1 for row in rows.values())
    assert rows["w/o L_src"]["paper"] == {"fid_reference": 72.25}
    assert len(set(table["record"]["networks"].values())) == 6  # each loss that is taken out gives other weights
    training = table["record"]["training"]
    assert (training["steps"], training["warmup_steps"]) == (4, 3) and len(training["start"]["weights"]) == 64
    # trained weights are found again
    code, again, err = run(program, *arguments, "--json")
    assert code == 0 and "training" not in err and json.loads(again) == json.loads(out)


@pytest.mark.slow
def test_a_training_goes_on_from_trained_encoders(program, run, tmp_path):
    arguments = ["--table", 3, "--pairs", 8, "--out", tmp_path, "--train", 1, "--continue"]
    code, out, err = run(program, *arguments, "--json")
    assert code == 0, err
    (table,) = json.loads(out)
    assert [row["name"] for row in table["rows"]] == [
        "full method", "no confidence mask", "one-time matching", "no diffusion"
    ]  # fmt: skip
    assert table["record"]["training"]["warmup_steps"] == 0
    assert len(set(table["record"]["networks"].values())) >= 3
    assert all(row["values"]["pck"]["mean"] > 0.3 for row in table["rows"])  # it did not start afresh


@pytest.mark.slow
def test_two_ranks_give_the_same_table(tiny_pipeline_folder, tmp_path):
    tables = []
    for ranks, launcher in enumerate(([], ["-m", "torch.distributed.run", "--nproc-per-node", "2"]), start=1):
        out = tmp_path / str(ranks)
        arguments = ["--table", "4", "--weights", str(tiny_pipeline_folder), "--pairs", "5", "--batch-size", "2"]
        command = [sys.executable, *launcher, str(SCRIPT), *arguments, "--out", str(out), "--quiet", "--json"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        assert result.returncode == 0, result.stderr
        rows = json.loads(result.stdout)[0]["rows"]
        tables.append([[cell["mean"] for cell in row["values"].values()] for row in rows])
    np.testing.assert_allclose(tables[1], tables[0], rtol=1e-5)


def test_the_report_in_a_browser(program, run, chromium, tiny_pipeline_folder, tmp_path):
    report = tmp_path / "report.html"
    arguments = ["--table", 4, 7, "--weights", tiny_pipeline_folder, "--pairs", 3, "--out", tmp_path]
    code, _, err = run(program, *arguments, "--report", report)
    assert code == 0, err
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page, problems, requests = context.new_page(), [], []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    assert not problems and not [url for url in requests if not url.startswith(("file:", "data:"))]
    assert page.locator("h2").count() == 2
    broken = "Array.from(document.images).filter(image => !image.complete || image.naturalWidth === 0).length"
    assert page.evaluate(broken) == 0 and page.locator("img").count() == 3 * (2 + 2 + 4) + 3 * (2 + 2 + 3)
    # curves: PSNR over the noise level has one point for each of its four levels, placed inside its box
    figure = page.locator("figure", has_text="PSNR dB over noise level")
    assert figure.locator("circle").count() == 4
    box, svg = figure.locator("polyline").bounding_box(), figure.locator("svg").bounding_box()
    assert svg["x"] <= box["x"] and box["x"] + box["width"] <= svg["x"] + svg["width"]
    assert page.locator("figure", has_text="U-Net calls N (paper, CelebA-HQ)").count() == 2
    page.screenshot(path=str(tmp_path / "report.png"), full_page=True)
    with Image.open(tmp_path / "report.png") as image:
        assert np.asarray(image).std() > 10
    context.close()
