"""The curve of quality against calls: its rows, and the promise of the short preset."""

from __future__ import annotations

import argparse

import pytest
import torch

from benchmarks import steps
from midms.data.procedural import dataset as dataset_module
from midms.diffusion.settings import InterleaveSettings
from midms.evaluation import benchmark


def options(**changes: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    steps.add_arguments(parser)
    return argparse.Namespace(**(vars(parser.parse_args([])) | {"device": "cpu", "threads": 1} | changes))


def test_rows(tiny_pipeline_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    chosen = ["T=16 N=4", "trailing T=24 N=2 + 2", "fast", "first warp"]
    arguments = options(
        weights=str(tiny_pipeline_folder), pairs=3, batch_size=2, schedules=chosen, plot=tmp_path / "curve.png"
    )
    rows = list(steps.run(arguments))
    assert [(row["name"], row["calls"]) for row in rows] == [
        ("T=16 N=4", 4), (chosen[1], 4), ("fast", 4), ("first warp", 0),
    ]  # fmt: skip
    assert len({(row["pck"], row["same_part"]) for row in rows}) == 1 and 0 <= rows[0]["pck"] <= 1
    assert rows[0]["psnr_loss"] == rows[0]["distance_loss"] == 0 and rows[1]["psnr"] != rows[0]["psnr"]
    assert all(row["split"] == "test" and "chosen" not in row for row in rows)
    assert [row["rewarps"] for row in rows] == [2, 1, 3, 0]
    assert rows[0]["lpips"] is None and "alexnet-owt-7be5be79.pth" in rows[0]["lpips_note"]
    assert (tmp_path / "curve.png").stat().st_size > 5000


def test_lpips_from_a_file_in_torchvisions_layout(tiny_pipeline_folder, tmp_path):
    torchvision = pytest.importorskip("torchvision")
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), tmp_path / "alexnet.pth")
    arguments = options(weights=str(tiny_pipeline_folder), pairs=2, schedules=["T=24 N=3", "T=16 N=4"],
                    lpips=tmp_path / "alexnet.pth", plot=tmp_path / "curve.png")  # fmt: skip
    rows = list(steps.run(arguments))
    assert all(row["lpips"] > 0 and "lpips_note" not in row for row in rows)
    network, note = steps.lpips_network(tmp_path / "alexnet.pth", "cpu")
    same = torch.rand(1, 3, 32, 32)
    assert network is not None and not note and network(same, same).item() == 0 < network(same, -same).item()
    with pytest.raises(FileNotFoundError, match="no file"):
        list(steps.run(options(lpips=tmp_path / "none.pth")))


@pytest.mark.parametrize("installed", [True, False])
def test_choice_is_made_on_validation_pairs_and_reported_on_the_test_pairs(
    tiny_pipeline_folder, monkeypatch, installed
):
    column = "fixed_distance" if installed else "feature_distance"
    if installed:
        monkeypatch.setattr(steps, "fixed_network", lambda device: (shrunken, {}))
    else:
        monkeypatch.setattr(steps, "fixed_network", lambda device: (None, {"fixed_note": "not measured: no package"}))
    wanted = ["T=64 N=16", "T=64 N=16 dpm1", "T=16 N=4", "T=24 N=3", "fast"]
    arguments = options(weights=str(tiny_pipeline_folder), pairs=3, choose=2, schedules=wanted)
    rows = list(steps.run(arguments))
    tried, reported = rows[:5], rows[5:]
    assert [row["split"] for row in rows] == ["val"] * 5 + ["test"] * 5 and tried[0]["psnr"] != reported[0]["psnr"]
    best = min(tried, key=lambda row: row[column])["name"]
    assert [row["name"] for row in rows if row["chosen"]] == [best, best]
    assert all((row["fixed_distance"] is None) == ("fixed_note" in row) == (not installed) for row in rows)
    assert steps.choose([tried[0] | {"calls": 18}]) is None


def shrunken(made: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """A distance in place of the fixed network's: that of the images at a quarter of their size."""
    return torch.nn.functional.avg_pool2d(made - true, 4).square().mean(dim=(1, 2, 3))


def test_differences_of_the_fixed_distance_are_those_of_its_pairs(tiny_pipeline_folder, monkeypatch):
    monkeypatch.setattr(steps, "fixed_network", lambda device: (shrunken, {}))
    arguments = options(weights=str(tiny_pipeline_folder), pairs=3, schedules=["T=24 N=3", "T=16 N=4"])
    first, second = steps.run(arguments)
    assert first["fixed_difference"] == first["fixed_error"] == 0 and second["fixed_error"] > 0
    assert second["fixed_difference"] == pytest.approx(second["fixed_distance"] - first["fixed_distance"], abs=2e-4)
    assert second["psnr_difference"] == pytest.approx(second["psnr"] - first["psnr"], abs=2e-3)


def test_reported_pairs_are_the_fixed_list_of_the_published_numbers(tiny_pipeline_folder, monkeypatch):
    seen = []
    monkeypatch.setattr(benchmark, "encoded_pairs", lambda model, dataset, size: seen.append(dataset) or [])
    with pytest.raises(ValueError, match="non-empty"):  # no pairs, no truth
        list(steps.run(options(weights=str(tiny_pipeline_folder), pairs=2)))
    published = dataset_module.test_pairs("faces", 32, 2)
    assert all(torch.equal(seen[0][k]["truth"], published[k]["truth"]) for k in range(2))


def test_the_preset_makes_at_most_a_quarter_of_the_papers_calls():
    calls = {name: s.num_interleaved_steps + s.refine_steps for name, s in steps.schedules().items()}
    assert calls["paper"] == 70 and calls["fast"] <= 70 / 4 and steps.LARGEST == 70 // 4
    assert steps.schedules()["fast"] == InterleaveSettings.fast()


def test_mistakes(tmp_path):
    with pytest.raises(ValueError, match="--plot: got the first warp alone"):
        steps.plot([{"name": "first warp", "calls": 0}], tmp_path / "curve.png")
    with pytest.raises(ValueError, match="unknown \\['T=1'\\]"):
        list(steps.run(options(schedules=["T=1"])))
    with pytest.raises(ValueError, match="got \\(1, 2, 16\\)"):
        list(steps.run(options(pairs=1)))
    with pytest.raises(ValueError, match="--choose: the choice is made on validation pairs"):
        list(steps.run(options(choose=4, split="val")))
