"""The curves of a finished run, from its metrics.csv."""

from __future__ import annotations

import csv
from pathlib import Path

from midms.config import load_config, resolve
from midms.training.folder import CONFIG, TABLE
from midms.training.midms import WARMUP_OVER
from midms.visualize import curves


def draw_curves(run: Path, picture: Path) -> None:
    """Draw every column of a run's metrics.csv, except throughput and learning rates, as PNG.

    A dashed line shows where the loss gets other terms.
    """
    table: dict[str, list[tuple[float, float]]] = {}
    with (run / TABLE).open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in ("step", "epoch", "train/skipped") and not name.startswith("run/"):
                    table.setdefault(name, []).append((float(row["step"]), float(value)))
    config = resolve(load_config([run / CONFIG]))
    warmup, steps = config["model"]["params"].get("warmup_steps"), config["trainer"]["max_steps"]
    midms = config["model"]["target"].endswith(".MIDMsTraining")
    marks = {float(warmup): WARMUP_OVER} if midms and warmup and warmup < steps else None
    curves(picture, table, "training", marks)
