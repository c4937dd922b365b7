#!/usr/bin/env python
"""The demo from end to end: shipped weights on all three tasks, your own picture, a short training, and its table.

python scripts/demo.py                                    # all tasks, then a training on drawn portraits
python scripts/demo.py --exemplar photo.jpg               # also your photo as exemplar
python scripts/demo.py --task churches --skip-training    # drawn churches; the shipped weights as they are
python scripts/demo.py --from-scratch                     # train the encoders from random weights

1. The shipped weights translate fixed pairs of all three tasks into one sheet, shipped.png.
2. With --exemplar: the same conditions in the style of your photo, yours.png.
3. A short training continues from encoders of an earlier stretch (configs/demo128_short.yaml). before_and_after.png
   shows fixed pairs before and after, training_curves.png the losses; a line says how much the results gained.
4. The result is measured, component by component: table3.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from midms.options import add_overwrite_option
from midms.programs import handle_user_errors
from tables.tasks import TASKS, task_of

if TYPE_CHECKING:
    from midms.pipelines.midms import MIDMsPipeline

ROOT = Path(__file__).resolve().parents[1]
PICTURES, GAIN = ("shipped.png", "yours.png", "before_and_after.png", "training_curves.png"), "gain.json"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(TASKS), default="faces", help="what is trained and measured "
                        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--exemplar", type=Path, metavar="PHOTO", help="your own picture, as exemplar of the task")
    parser.add_argument("--out", type=Path, help="default: outputs/ and the name of the task's weights")
    parser.add_argument("--weights", help="weights of the task (default: its shipped ones)")
    parser.add_argument("--pairs", type=int, default=48, help="pairs that are measured (default: 48)")
    parser.add_argument("--shown", type=int, default=4, help="pairs of each sheet (default: 4)")
    training = parser.add_mutually_exclusive_group()
    training.add_argument("--skip-training", action="store_true", help="measure the shipped weights")
    training.add_argument("--from-scratch", action="store_true", help="train the encoders from random weights")
    add_overwrite_option(parser)
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="for main.py")
    options = parser.parse_intermixed_args(arguments)
    for name, least in (("pairs", 2), ("shown", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name}: got {getattr(options, name)}, expected at least {least}")
    options.chosen = options.weights is not None
    options.weights = options.weights or TASKS[options.task].weights
    if Path(options.weights).is_dir():  # programs run in the project's folder
        options.weights = str(Path(options.weights).resolve())
    options.out = options.out or Path("outputs") / TASKS[options.task].weights
    return options


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse to replace the user's files. The training and the table check theirs."""
    from midms.io.files import read_json
    from midms.io.outputs import check_output_files, is_ours

    def ours(file: Path) -> bool:
        return is_ours(file) if file.name != GAIN else {"pairs", "psnr"} <= set(read_json(file))

    inputs = [] if options.exemplar is None else [options.exemplar]
    check_output_files([options.out / name for name in (*PICTURES, GAIN)], inputs, options.overwrite, ours)


def call(*command: str) -> None:
    """Run one of this project's own programs, shown as a user would type it."""
    print(f"\n$ python {' '.join(command)}", flush=True)
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def fixed_pairs(pipe: MIDMsPipeline, task: str, count: int) -> dict[str, Any]:
    """The first test pairs of a task at the weights' size, as one batch."""
    from torch.utils.data import default_collate

    from midms.data.procedural.dataset import Task, test_pairs

    dataset = test_pairs(cast(Task, task), pipe.info.get("size", 64), count)
    return default_collate([dataset[index] for index in range(count)])


def results(pipe: MIDMsPipeline, batch: dict[str, Any], exemplars: Any = None) -> Any:
    """Translations of a batch of fixed pairs, (B, 3, H, W). `exemplars` replace those of the pairs."""
    from midms.evaluation.benchmark import noise_generators

    conditions = batch["condition"]
    exemplars = batch["exemplar"] if exemplars is None else exemplars
    return pipe(conditions, exemplars, generator=noise_generators(range(len(conditions)), 0), output_type="pt").images


def can_translate(weights: str) -> bool:
    """Whether weights hold all networks, and not only those of the first two stages."""
    from midms.checkpoints.loading import open_weights

    return "encoders" in open_weights(weights).configs


def shipped_sheet(options: argparse.Namespace) -> Path:
    """condition | exemplar | result | truth of fixed pairs of all tasks, side by side in one picture."""
    from midms.pipelines.midms import MIDMsPipeline
    from midms.visualize import condition_image, panels, save_png

    rows: list[list[Any]] = [[] for _ in range(options.shown)]
    for task, (shipped, *_) in TASKS.items():
        own = task == options.task
        if options.chosen and not own:
            continue  # with weights of one's own, only their task is shown
        pipe = MIDMsPipeline.from_pretrained(options.weights if own else shipped)
        batch = fixed_pairs(pipe, task, options.shown)
        columns = {"condition": condition_image(batch["condition"]), "exemplar": batch["exemplar"]}
        columns |= {"result": results(pipe, batch), "truth": batch["truth"]}
        for index, row in enumerate(rows):
            space = [None] if row else []
            row += [*space, *((name if index == 0 else "", images[index]) for name, images in columns.items())]
    path = options.out / "shipped.png"
    save_png(path, panels(rows, 128))
    return path


def your_sheet(options: argparse.Namespace) -> Path:
    """Fixed conditions of the task in the style of the user's photo."""
    import torch.nn.functional as F

    from midms.pipelines.midms import MIDMsPipeline
    from midms.pipelines.reading import read_exemplar
    from midms.visualize import condition_image, grid, save_png

    pipe = MIDMsPipeline.from_pretrained(options.weights)
    batch, photo = fixed_pairs(pipe, options.task, options.shown), read_exemplar(pipe, options.exemplar)
    height, width = batch["exemplar"].shape[-2:]
    photos = F.interpolate(photo[None], (height, width), mode="area").expand(options.shown, -1, -1, -1)
    columns = [("condition", condition_image(batch["condition"])), ("your exemplar", photos)]
    path = options.out / "yours.png"
    save_png(path, grid([*columns, ("result", results(pipe, batch, photos))]))
    return path


def training_configs(options: argparse.Namespace) -> list[str]:
    """The configs of the training, merged left to right, below the project's folder."""
    task = task_of(options.task, options.weights)
    return [*task.configs, *task.short, *(task.scratch if options.from_scratch else ())]


def start_weights(options: argparse.Namespace) -> list[str]:
    """Overrides that name the weights the training starts from.

    The encoders of an earlier stretch fit the shipped weights. Weights of one's own train their own encoders further,
    or random ones where they hold none.
    """
    overrides = [f"model.params.weights={options.weights}"]
    if options.from_scratch or options.weights == task_of(options.task, options.weights).weights:
        return overrides
    encoders = options.weights if can_translate(options.weights) else "null"
    return [*overrides, f"model.params.encoders_from={encoders}"]


def start_of_training(options: argparse.Namespace, changes: list[str]) -> MIDMsPipeline | None:
    """The pipeline that the training starts from. None: its encoders are random, so it cannot translate."""
    from midms.config import instantiate, load_config
    from midms.pipelines.midms import MIDMsPipeline

    config = load_config([ROOT / path for path in training_configs(options)], changes)
    if config.model.params.get("encoders_from") is None:
        return None
    with chdir(ROOT):  # as the training itself: its config names folders of the project
        training = instantiate(config.model)
    size = config.data.params.validation.params.size
    return MIDMsPipeline(training.model, training.settings, {"task": options.task, "size": size})


def before_and_after(options: argparse.Namespace, before: MIDMsPipeline | None, trained: Path) -> None:
    """A sheet of fixed pairs before and after the training, and how much the results gained, with paired errors."""
    from midms.data.procedural.dataset import Task, test_pairs
    from midms.evaluation import benchmark
    from midms.io.files import write_atomically
    from midms.metrics.truth import paired_difference
    from midms.pipelines.midms import MIDMsPipeline
    from midms.visualize import condition_image, grid, save_png

    after = MIDMsPipeline.from_pretrained(trained)
    batch = fixed_pairs(after, options.task, options.shown)
    columns = [("condition", condition_image(batch["condition"])), ("exemplar", batch["exemplar"])]
    columns += [] if before is None else [("before training", results(before, batch))]
    columns += [("after training", results(after, batch)), ("truth", batch["truth"])]
    save_png(options.out / "before_and_after.png", grid(columns))
    if before is None:
        return
    dataset = test_pairs(cast(Task, options.task), after.info.get("size", 64), options.pairs)
    scores = []
    for pipe in (before, after):
        pairs = list(benchmark.encoded_pairs(pipe.model, dataset))
        scores.append(benchmark.score(pipe.model, pairs, benchmark.full_method, after.settings))
    gains = {}
    for name in ("psnr", "distance"):
        gain = paired_difference(getattr(scores[1], name), getattr(scores[0], name))
        gains[name] = {"mean": gain.mean, "standard_error": gain.standard_error}
    write_atomically(options.out / GAIN, json.dumps({"pairs": options.pairs, **gains}, indent=2) + "\n")
    print(
        "The training changed PSNR by {psnr[mean]:+.2f} ± {psnr[standard_error]:.2f} dB (more is better) and the "
        "feature distance by {distance[mean]:+.3f} ± {distance[standard_error]:.3f} (less is better), "
        "mean and standard error over {pairs} pairs.".format(pairs=options.pairs, **gains)
    )


def run(options: argparse.Namespace) -> dict[str, str]:
    """Translate, train, draw and measure. Returns the files made and what they show."""
    from midms.training.curves import draw_curves

    options.out.mkdir(parents=True, exist_ok=True)
    task, weights = options.task, options.weights
    shown: dict[str, str] = {}
    if can_translate(weights):
        shown[str(shipped_sheet(options))] = "the weights on fixed pairs"
        if options.exemplar is not None:
            shown[str(your_sheet(options))] = "your picture as exemplar"
        print("\n".join(f"{path}: {what}" for path, what in shown.items()), flush=True)
    if not options.skip_training:
        folder, changes = options.out.resolve() / "run", [*start_weights(options), *options.overrides]
        before = start_of_training(options, changes)
        call("main.py", "--base", *training_configs(options), "-t", "--run", str(folder), *changes)
        draw_curves(folder, options.out / "training_curves.png")
        weights = str(folder / "weights")
        before_and_after(options, before, Path(weights))
        shown[str(options.out / "before_and_after.png")] = "fixed pairs and the training"
        shown[str(options.out / "training_curves.png")] = "the losses"
    pairs = ("--benchmark", task, "--pairs", str(options.pairs), "--weights", weights)
    call("scripts/reproduce_tables.py", "--table", "3", *pairs, "--out", str(options.out.resolve()),
         *["--overwrite"] * options.overwrite)  # fmt: skip
    shown[str(options.out / "table3.md")] = "the table above"
    return shown


@handle_user_errors("demo.py")
def main(arguments: list[str] | None = None) -> int:
    """Run the demo; 0 on success, 2 on a user's mistake, otherwise the exit status of the program that failed."""
    options = parse(arguments)
    check_outputs(options)
    from midms.checkpoints.loading import open_weights
    from midms.config import ConfigError
    from midms.io.images import read_rgb
    from tables.measure import check_task

    check_task(open_weights(options.weights).info, options.task, options.weights)
    if options.exemplar is not None:
        if not can_translate(options.weights):
            raise ConfigError(f"--exemplar: the weights {options.weights} hold no encoders, so they cannot translate")
        read_rgb(options.exemplar)  # a file that is not a picture is refused before anything is computed
    try:
        shown = run(options)
    except subprocess.CalledProcessError as error:
        print(f"demo.py: {error.cmd[1]} failed with exit status {error.returncode}", file=sys.stderr)
        return error.returncode
    print("\nDone. Files:")
    for path, what in shown.items():
        print(f"  {path}: {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
