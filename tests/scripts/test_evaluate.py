"""scripts/evaluate.py as its users run it: folders in, numbers or one clear line out."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from programs import load_program

from midms.losses.perceptual import VGG19Features
from midms.metrics.swd import sliced_wasserstein_distance

SCRIPT = Path(__file__).parents[2] / "scripts" / "evaluate.py"
COUNT, SIZE = 6, 32


@pytest.fixture(scope="module")
def program():
    return load_program("scripts/evaluate.py")


def _save_set(folder: Path, seed: int, noise: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (COUNT, 4, 4, 3)).repeat(SIZE // 4, 1).repeat(SIZE // 4, 2)
    images = np.clip(coarse + noise * np.random.default_rng(99).standard_normal(coarse.shape), 0, 255).astype(np.uint8)
    folder.mkdir(parents=True)
    for index, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{index // 2}__{index}.png")  # two outputs per condition
    return images


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Outputs, photographs, exemplars, truth; truth = outputs without their noise."""
    root = tmp_path_factory.mktemp("sets")
    arrays = {"generated": _save_set(root / "generated", 0, noise=8.0), "truth": _save_set(root / "truth", 0)}
    arrays |= {"reference": _save_set(root / "reference", 1), "exemplars": _save_set(root / "exemplars", 2)}
    return root, arrays


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Random weights in the layouts of the real files."""
    lpips = pytest.importorskip("midms.metrics.diversity", reason="needs the extra [metrics]")
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="needs the extra [metrics]")
    root = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    torch.save(VGG19Features("random").state_dict(), root / "vgg19_conv.pth")
    trunk = lpips.LPIPS(pretrained=False).metric.net.state_dict()
    torch.save({f"features.{key.partition('.')[2]}": value for key, value in trunk.items()}, root / "alex.pth")
    torch.save({}, root / "inception.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = module.FeatureExtractorInceptionV3("x", ["2048"], str(root / "inception.pth"))
    state = {k: v * 6**0.5 if k.endswith("conv.weight") else v for k, v in network.state_dict().items()}
    torch.save(state, root / "inception.pth")
    return {"--inception": root / "inception.pth", "--vgg19": root / "vgg19_conv.pth", "--lpips": root / "alex.pth"}


def folder_arguments(root: Path, *roles: str) -> list[str]:
    return [part for role in roles for part in (f"--{role}", str(root / role))]


def test_all_metrics_with_their_records(program, run, sets, networks, tmp_path):
    root, arrays = sets
    files = [part for pair in networks.items() for part in pair]
    report = tmp_path / "report.html"
    roles = ("generated", "reference", "exemplars", "truth")
    code, out, err = run(program, *folder_arguments(root, *roles), *files, "--json", "--report", report)
    assert code == 0, err
    record = json.loads(out)
    results = {result["metric"]: result for result in record["results"]}
    assert all(result["status"] == "ok" for result in results.values()), results
    assert {"fid_reference", "fid_exemplars"} == set(results["fid"]["values"])
    assert results["fid"]["image_format"]["generated"] == "PNG, through JPEG quality 75"
    assert len(results["style"]["network"]["sha256"]) == 64 and results["kid"]["protocol"] == "paper"
    assert results["swd"]["images"] == {"generated": COUNT, "reference": COUNT}
    assert results["lpips"]["images"] == {"generated": COUNT, "pairs": COUNT // 2}
    difference = (arrays["generated"].astype(float) - arrays["truth"]) / 255
    want = np.mean(-10 * np.log10((difference**2).mean(axis=(1, 2, 3))))
    assert results["psnr"]["values"]["psnr"] == pytest.approx(want, rel=1e-4)
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0] or record["versions"]["torch"]
    assert report.read_text().startswith("<!doctype html>")


def test_absent_networks_are_named_and_the_rest_goes_on(program, run, sets):
    root, arrays = sets
    roles = folder_arguments(root, "generated", "reference", "exemplars", "truth")
    code, out, _ = run(program, *roles, "--protocol", "clean", "--json")
    results = {result["metric"]: result for result in json.loads(out)["results"]}
    assert code == 0
    skipped = {name for name, result in results.items() if result["status"] == "skipped"}
    assert skipped == {"fid", "kid", "lpips", "lpips_truth", "style", "semantic"}
    for name in skipped:
        assert "no file" in results[name]["reason"] and "values" not in results[name]
    images = [torch.from_numpy(arrays[role]).permute(0, 3, 1, 2) for role in ("generated", "reference")]
    want = sliced_wasserstein_distance(*images).average
    assert results["swd"]["values"]["swd_average"] == pytest.approx(want, rel=1e-6)
    code, out, err = run(program, *roles, "--metrics", "psnr,style")
    assert code == 2 and "psnr" in out and "style was skipped" in err and "vgg19_conv.pth" in err


def test_the_batch_size_and_a_cache_change_nothing(program, run, sets, networks, tmp_path):
    root, _ = sets
    arguments = [*folder_arguments(root, "generated", "reference"), "--metrics", "swd,semantic", "--json"]
    arguments += ["--vgg19", networks["--vgg19"]]
    values = []
    for extra in (["--batch-size", 1], ["--batch-size", 4, "--cache", tmp_path], ["--cache", tmp_path]):
        code, out, err = run(program, *arguments, *extra)
        assert code == 0, err
        values.append([value for result in json.loads(out)["results"] for value in result["values"].values()])
    np.testing.assert_allclose(values[1], values[0], rtol=1e-5, atol=1e-7)
    assert values[2] == values[1]


@pytest.mark.slow
def test_fid_equals_torch_fidelity_on_the_same_files(program, run, sets, networks):
    torch_fidelity = pytest.importorskip("torch_fidelity", reason="needs the extra [metrics]")
    root, _ = sets
    want = torch_fidelity.calculate_metrics(
        input1=str(root / "generated"),
        input2=str(root / "reference"),
        fid=True,
        kid=True,
        kid_subset_size=COUNT,
        feature_extractor_weights_path=str(networks["--inception"]),
        verbose=False,
        cuda=False,
        cache=False,
    )
    arguments = [*folder_arguments(root, "generated", "reference"), "--metrics", "fid,kid", "--json", "--seed", "2020"]
    code, out, err = run(program, *arguments, "--protocol", "torch-fidelity", *["--inception", networks["--inception"]])
    assert code == 0, err
    got = {key: value for result in json.loads(out)["results"] for key, value in result["values"].items()}
    assert got["fid_reference"] == pytest.approx(want["frechet_inception_distance"], rel=1e-3)
    assert got["kid_reference"] == pytest.approx(want["kernel_inception_distance_mean"], rel=1e-3)


def test_folders_that_do_not_fit_are_explained(program, run, sets, tmp_path):
    root, _ = sets
    for index in range(2):
        (tmp_path / "few").mkdir(exist_ok=True)
        Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "few" / f"{index}.png")
    code, out, _ = run(program, *folder_arguments(root, "generated"), "--reference", tmp_path / "few")
    assert code == 2 and f"as many generated images as references, got {COUNT} and 2" in out
    generated = folder_arguments(root, "generated")
    code, _, err = run(program, *generated, "--truth", tmp_path / "few", "--metrics", "psnr")
    assert code == 2 and "have no partner" in err
    code, out, err = run(program, "--generated", tmp_path / "few", "--reference", tmp_path / "few", "--metrics", "swd")
    assert (
        code == 2 and "nan" not in out and "the generated images have one colour without any detail at level 32" in err
    )
    assert "--reference is the folder of --generated" in err
    for role in ("generated", "truth"):
        (tmp_path / "tiny" / role).mkdir(parents=True)
        Image.new("RGB", (10, 12)).save(tmp_path / "tiny" / role / "0.png")
    code, _, err = run(program, *folder_arguments(tmp_path / "tiny", "generated", "truth"), "--metrics", "psnr")
    assert code == 2 and "SSIM needs images of 11 x 11 pixels, got 10x12 (--size)" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--metrics", "fid"], "--generated"),
        (["--generated", "nowhere"], "nowhere: no such folder"),
        (["--generated", "x", "--metrics", "fid,beauty"], "unknown metric 'beauty'"),
        (["--generated", "x", "--size", "0"], "at least 1, got '0'"),
        (["--generated", "x", "--device", "cuda:99"], "--device cuda:99: "),
        (["--generated", "x", "--report", "nowhere/out.html"], "--report: no folder"),
        (["--generated", "x", "--report", "."], "--report: . is a folder"),
        (["--generated", "x", "--cache", __file__], "is a file, give a folder"),
        (["--generated", "x", "--seed", "-1"], "--seed: expected a whole number of at least 0, got '-1'"),
    ],
)
def test_a_mistake_is_one_line(program, run, arguments, words):
    code, out, err = run(program, *arguments)
    assert code == 2 and not out
    assert words in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "metric", "content", "reason"),
    [
        ("--inception", "fid", "another network", "not the weights of"),
        ("--inception", "kid", "text", "damaged, or not a weights file"),
        ("--vgg19", "style", "text", "damaged, or not a weights file"),
        ("--vgg19", "semantic", "another network", "not the weights of"),
        ("--lpips", "lpips", "nothing", "0 bytes; expected"),
    ],
)
def test_a_wrong_network_file_is_named(program, run, sets, tmp_path, option, metric, content, reason):
    pytest.importorskip("torch_fidelity", reason="needs the extra [metrics]")
    file = tmp_path / "weights.pth"
    file.write_text(content if content == "text" else "")
    if content == "another network":
        torch.save({"layer.weight": torch.zeros(2)}, file)
    arguments = folder_arguments(sets[0], "generated", "reference", "exemplars")
    code, out, err = run(program, *arguments, "--metrics", metric, option, file)
    assert code == 2 and not out and f"{file}: {reason}" in err and len(err.strip().splitlines()) == 1


def test_images_too_small_for_a_network_are_named(program, run, sets, networks):
    arguments = [*folder_arguments(sets[0], "generated", "reference", "exemplars"), "--size", 8]
    code, out, err = run(program, *arguments, "--metrics", "semantic,style", "--vgg19", networks["--vgg19"])
    assert code == 2 and out.count("VGG-19 needs images of 16 x 16 pixels, got 8x8") == 2
    code, _, err = run(program, *arguments, "--metrics", "lpips", "--lpips", networks["--lpips"])
    assert code == 2 and "LPIPS needs images of 32 x 32 pixels" in err


def test_files_that_are_no_images_are_named(program, run, tmp_path):
    for role, seed in (("generated", 0), ("reference", 1)):
        _save_set(tmp_path / role, seed)
    (tmp_path / "generated" / "notes.txt").write_text("no image")
    code, out, _ = run(program, *folder_arguments(tmp_path, "generated", "reference"), "--metrics", "swd")
    assert code == 0 and "left out of generated, no images: 1 file, the first is notes.txt" in out
    assert "left out of reference" not in out


def test_a_broken_image_stops_the_program_by_its_name(program, run, tmp_path):
    images = _save_set(tmp_path / "generated", 0)
    broken = tmp_path / "generated" / "1__2.png"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    _save_set(tmp_path / "reference", 1)
    code, out, err = run(program, *folder_arguments(tmp_path, "generated", "reference"), "--metrics", "swd")
    assert code == 2 and not out and "1__2.png: not a whole picture" in err and len(images) == COUNT


def test_a_truth_that_the_camera_turned_is_measured_upright(program, run, sets, tmp_path):
    root, arrays = sets
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown a quarter turn clockwise
    (tmp_path / "truth").mkdir()
    for index, pixels in enumerate(arrays["truth"]):
        Image.fromarray(np.rot90(pixels).copy()).save(tmp_path / "truth" / f"{index // 2}__{index}.png", exif=turned)
    values = []
    for truth in (root / "truth", tmp_path / "truth"):
        arguments = [*folder_arguments(root, "generated"), "--truth", truth, "--metrics", "psnr", "--json"]
        code, out, err = run(program, *arguments)
        assert code == 0, err
        values.append(json.loads(out)["results"][0]["values"])
    assert values[0] == values[1] and 20 < values[0]["psnr"] < 40


@pytest.mark.slow
def test_two_ranks_give_the_same_numbers(sets, networks, tmp_path):
    root, _ = sets
    arguments = [*folder_arguments(root, "generated", "reference"), "--metrics", "fid,kid,swd,semantic", "--json"]
    arguments += [str(part) for pair in networks.items() for part in pair]
    values = []
    for launcher in ([sys.executable], [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]):
        command = [*launcher, str(SCRIPT), *arguments, "--quiet"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300)
        assert result.returncode == 0, result.stderr
        values.append([v for r in json.loads(result.stdout)["results"] for v in r["values"].values()])
    np.testing.assert_allclose(values[1], values[0], rtol=1e-5, atol=1e-7)
