#!/usr/bin/env python
"""The demo from end to end: train MIDMs for some minutes, translate fixed test pairs, measure them, draw everything.

python scripts/demo.py                                    # drawn portraits, edges
python scripts/demo.py --task figures                     # drawn people, poses
python scripts/demo.py --task churches --skip-training    # drawn churches, class maps; the shipped weights as they are
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import cast

from midms.programs import handle_user_errors

ROOT = Path(__file__).resolve().parents[1]
#: Task of the built-in benchmark -> its shipped weights and its training config.
TASKS = {
    "faces": ("demo", "configs/demo.yaml"),
    "figures": ("demo-figures", "configs/demo_figures.yaml"),
    "churches": ("demo-churches", "configs/demo_churches.yaml"),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(TASKS), default="faces", help="what is drawn (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="default: outputs/ and the name of the task's weights")
    parser.add_argument("--weights", help="weights to start from, or with --skip-training to use (default: the "
                        "task's shipped ones)")  # fmt: skip
    parser.add_argument("--pairs", type=int, default=48, help="pairs that are measured (default: 48)")
    parser.add_argument("--shown", type=int, default=8, help="pairs on the contact sheet (default: 8)")
    parser.add_argument("--skip-training", action="store_true", help="use the shipped weights")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="for main.py")
    options = parser.parse_intermixed_args(arguments)
    for name, least in (("pairs", 2), ("shown", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name}: got {getattr(options, name)}, expected at least {least}")
    options.weights = options.weights or TASKS[options.task][0]
    if Path(options.weights).is_dir():  # programs run in the project's folder
        options.weights = str(Path(options.weights).resolve())
    options.out = options.out or Path("outputs") / TASKS[options.task][0]
    return options


def call(*command: str) -> None:
    """Run one of this project's own programs, shown as a user would type it."""
    print(f"\n$ python {' '.join(command)}", flush=True)
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def contact_sheet(weights: str, task: str, out: Path, count: int) -> None:
    """condition | exemplar | first warp | three steps of the loop | result | truth, and the masks."""
    import torch
    from torch.utils.data import default_collate

    from midms.data.procedural.dataset import Task, test_pairs
    from midms.evaluation.benchmark import noise_generators
    from midms.pipelines.midms import MIDMsPipeline
    from midms.visualize import condition_image, grid, overlay, save_png

    pipe = MIDMsPipeline.from_pretrained(weights)
    dataset = test_pairs(cast(Task, task), pipe.info.get("size", 64), count)
    batch = default_collate([dataset[index] for index in range(count)])
    output = pipe(
        batch["condition"],
        batch["exemplar"],
        generator=noise_generators(range(count), 0),
        output_type="pt",
        return_intermediates=True,
    )
    result = torch.as_tensor(output.images)  # a tensor already, as asked for
    calls = len(output.predictions)
    steps = sorted({0, calls // 2, max(calls - 2, 0)})
    columns = [("condition", condition_image(batch["condition"])), ("exemplar", batch["exemplar"])]
    columns += [("first warp", output.warps)]
    columns += [(f"step n = {calls - step}", output.predictions[step]) for step in steps]
    columns += [("result", result), ("truth", batch["truth"])]
    save_png(out / "contact_sheet.png", grid(columns))
    masks = [(f"mask {index + 1}", overlay(result, mask)) for index, mask in enumerate(output.masks)]
    if masks:
        save_png(out / "masks.png", grid([("result", result), *masks]))


def comparable(options: argparse.Namespace) -> bool:
    """Whether the training started from weights that can translate, not only from the first two stages."""
    from midms.checkpoints.loading import open_weights

    return not options.skip_training and "encoders" in open_weights(options.weights).configs


def run(options: argparse.Namespace) -> None:
    """Train, translate, draw and measure."""
    from midms.training.curves import draw_curves

    task, out, weights = options.task, options.out.resolve(), options.weights
    if not options.skip_training:
        folder = out / "run"
        start = f"model.params.weights={weights}"
        call("main.py", "--base", TASKS[task][1], "-t", "--run", str(folder), start, *options.overrides)
        draw_curves(folder, out / "training_curves.png")
        weights = str(folder / "weights")
    pairs = ("--benchmark", task, "--pairs", str(options.pairs), "--weights", weights)
    call("scripts/sample.py", *pairs, "--out", str(out / "pairs"), "--save-intermediates", "--overwrite")
    print("\nDrawing the contact sheets", flush=True)
    contact_sheet(weights, task, out, options.shown)
    if comparable(options):
        contact_sheet(options.weights, task, out / "shipped", options.shown)
    call("scripts/reproduce_tables.py", "--table", "3", *pairs, "--out", str(out))


@handle_user_errors("demo.py")
def main(arguments: list[str] | None = None) -> int:
    """Run the demo; 0 on success, 2 on a user's mistake, otherwise the exit status of the program that failed."""
    options = parse(arguments)
    from midms.checkpoints.loading import open_weights
    from tables.measure import check_task

    check_task(open_weights(options.weights).info, options.task, options.weights)
    try:
        run(options)
    except subprocess.CalledProcessError as error:
        print(f"demo.py: {error.cmd[1]} failed with exit status {error.returncode}", file=sys.stderr)
        return error.returncode
    trained = "" if options.skip_training else ", training_curves.png"
    print(f"\nDone. Look at {options.out / 'contact_sheet.png'}, and at masks.png{trained}, table3.md there", end="")
    print("." if not comparable(options) else f"; shipped/ shows the same pairs by {options.weights!r} itself.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
