#!/usr/bin/env python
"""The demo from end to end: train MIDMs for some minutes, translate fixed test pairs, measure them, draw everything.

python scripts/demo.py --out outputs/demo
python scripts/demo.py --out outputs/demo --skip-training      # the shipped weights as they are
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"))
    parser.add_argument("--pairs", type=int, default=48, help="pairs that are measured (default: 48)")
    parser.add_argument("--shown", type=int, default=8, help="pairs on the contact sheet (default: 8)")
    parser.add_argument("--skip-training", action="store_true", help="use the shipped weights")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="for main.py")
    return parser.parse_intermixed_args(arguments)


def call(*command: str) -> None:
    """Run one of this project's own programs, shown as a user would type it."""
    print(f"\n$ python {' '.join(command)}", flush=True)
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def contact_sheet(weights: str, out: Path, count: int) -> None:
    """condition | exemplar | first warp | three steps of the loop | result | truth, and the masks."""
    from torch.utils.data import default_collate  # noqa: PLC0415

    from midms.data.procedural.dataset import test_pairs  # noqa: PLC0415
    from midms.evaluation.benchmark import noise_generators  # noqa: PLC0415
    from midms.pipelines.midms import MIDMsPipeline  # noqa: PLC0415
    from midms.visualize import condition_image, grid, overlay, save_png  # noqa: PLC0415

    pipe = MIDMsPipeline.from_pretrained(weights)
    dataset = test_pairs("faces", pipe.info.get("size", 64), count)
    batch = default_collate([dataset[index] for index in range(count)])
    output = pipe(
        batch["condition"],
        batch["exemplar"],
        generator=noise_generators(range(count), 0),
        output_type="pt",
        return_intermediates=True,
    )
    calls = len(output.predictions)
    steps = sorted({0, calls // 2, max(calls - 2, 0)})
    columns = [("condition", condition_image(batch["condition"])), ("exemplar", batch["exemplar"])]
    columns += [("first warp", output.warps)]
    columns += [(f"step n = {calls - step}", output.predictions[step]) for step in steps]
    columns += [("result", output.images), ("truth", batch["truth"])]
    save_png(out / "contact_sheet.png", grid(columns))
    masks = [(f"mask {index + 1}", overlay(output.images, mask)) for index, mask in enumerate(output.masks)]
    if masks:
        save_png(out / "masks.png", grid([("result", output.images), *masks]))


def training_curves(run: Path, out: Path) -> None:
    """The run's metrics.csv as a picture."""
    from midms.visualize import curves  # noqa: PLC0415

    table: dict[str, list[tuple[float, float]]] = {}
    with (run / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    table.setdefault(name, []).append((float(row["step"]), float(value)))
    curves(out / "training_curves.png", table, "training")


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; 0 on success, otherwise the exit status of the program that failed."""
    options = parse(arguments)
    out = options.out.resolve()
    weights = "demo"
    try:
        if not options.skip_training:
            run = out / "run"
            call("main.py", "--base", "configs/demo.yaml", "-t", "--run", str(run), *options.overrides)
            training_curves(run, out)
            weights = str(run / "weights")
        call("scripts/sample.py", "--benchmark", "faces", "--pairs", str(options.pairs), "--weights", weights,
             "--out", str(out / "pairs"), "--save-intermediates", "--overwrite")  # fmt: skip
        print("\nDrawing the contact sheets", flush=True)
        contact_sheet(weights, out, options.shown)
        if weights != "demo":
            contact_sheet("demo", out / "shipped", options.shown)
        call("scripts/reproduce_tables.py", "--table", "3", "--benchmark", "faces", "--pairs", str(options.pairs),
             "--weights", weights, "--out", str(out))  # fmt: skip
    except subprocess.CalledProcessError as error:
        print(f"demo.py: {error.cmd[1]} failed with exit status {error.returncode}", file=sys.stderr)
        return error.returncode
    print(
        f"\nDone. Look at {options.out / 'contact_sheet.png'}, and at masks.png, training_curves.png, table3.md there; "
        "shipped/ shows the same pairs by the weights that were trained longer."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
