"""The curve of quality against calls: its rows, and the promise of the short preset."""

from __future__ import annotations

import argparse

import pytest

from midms.benchmarks import steps
from midms.diffusion.settings import InterleaveSettings


def options(**changes: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    steps.add_arguments(parser)
    return argparse.Namespace(**(vars(parser.parse_args([])) | {"device": "cpu", "threads": 1} | changes))


def test_rows(tiny_pipeline_folder, tmp_path):
    chosen = ["T=16 N=4", "T=16 N=4 + 4", "fast"]
    found = options(
        weights=str(tiny_pipeline_folder), pairs=3, batch_size=2, schedules=chosen, plot=tmp_path / "curve.png"
    )
    rows = list(steps.run(found))
    assert [(row["name"], row["calls"]) for row in rows] == [("T=16 N=4", 4), ("T=16 N=4 + 4", 8), ("fast", 12)]
    assert rows[0]["psnr_loss"] == rows[0]["distance_loss"] == 0 and rows[1]["psnr"] != rows[0]["psnr"]
    assert (tmp_path / "curve.png").stat().st_size > 5000


def test_the_preset_makes_at_most_a_quarter_of_the_papers_calls():
    calls = {name: s.num_interleaved_steps + s.refine_steps for name, s in steps.schedules().items()}
    assert calls["paper"] == 70 and calls["fast"] <= 70 / 4 and calls["fast"] <= 50 / 4
    assert steps.schedules()["fast"] == InterleaveSettings.fast()


def test_mistakes():
    with pytest.raises(ValueError, match="unknown \\['T=1'\\]"):
        list(steps.run(options(schedules=["T=1"])))
    with pytest.raises(ValueError, match="--pairs, --batch-size: got 1, 16"):
        list(steps.run(options(pairs=1)))
