#!/usr/bin/env python
"""Train MIDMs on a folder of your own photos: conditions, three stages and a contact sheet by one command.

    python scripts/train_on_folder.py photos --out runs/mine                        # 64 pixels on a CPU, 128 on a GPU
    python scripts/train_on_folder.py photos --condition keypoints --size 128 --out runs/people
    python scripts/train_on_folder.py photos --out runs/mine --dry-run              # only print the commands

Every step is a command of this project and is printed as such. The command can be killed at any time; run again, it
goes on where it was. Afterwards `MIDMsPipeline.from_pretrained("runs/mine/weights")` and `midms translate --weights
runs/mine/weights` use the result. docs/train_on_folder.md explains the steps.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from midms.config import ConfigError, load_config, resolve
from midms.options import between
from midms.programs import handle_user_errors

ROOT = Path(__file__).resolve().parents[1]
#: Condition -> (condition of `ImageFolder`, its channels, the command of prepare_data.py that makes the annotations).
CONDITIONS = {
    "edges": ("edges", 15, "edges"),
    "keypoints": ("keypoints", 20, "keypoints"),
    "parts": ("segmentation", 14, "edges"),
}
STAGES = ("first_stage", "ldm", "midms")
#: From this number of photos on a stage has its full number of steps.
FULL_SET = {"cpu": 200, "cuda": 2000}


class Sizes(NamedTuple):
    """Networks and steps of the three stages."""

    channels: int  # of the first stage's first level
    unet_channels: int
    encoder_widths: tuple[int, int, int]
    batches: tuple[int, int, int]  # at the smallest size of the device, 64 or 128 pixels
    steps: tuple[int, int, int]


SIZES = {
    "cpu": Sizes(16, 48, (32, 64, 96), (8, 16, 8), (1000, 800, 300)),
    "cuda": Sizes(64, 128, (64, 128, 256), (16, 32, 8), (8000, 12000, 4000)),
}


@dataclass(frozen=True)
class Plan:
    """All that the commands depend on. Stored in OUT/plan.json, so that another run goes on with the same."""

    photos: str
    condition: str
    annotations: str | None  # folder that the user gave
    device: str
    size: int
    steps: tuple[int, int, int]
    batches: tuple[int, int, int]
    codes: int  # of the first stage's codebook


class Step(NamedTuple):
    """One command."""

    title: str
    words: tuple[str, ...]  # behind "python"
    made: Path  # exists when the command has finished
    may_leave_out: bool = False  # whether exit status 1 (photos that cannot be used) is no failure


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of photos, at any depth")
    parser.add_argument("--condition", choices=CONDITIONS, default="edges",
                        help="edges, with face parts where a face is found; keypoints of a body; parts of a face as "
                        "classes (default: %(default)s)")  # fmt: skip
    parser.add_argument("--annotations", type=Path, metavar="DIR",
                        help="part maps or poses in the form of prepare_data.py (default: made here)")  # fmt: skip
    parser.add_argument("--size", type=between(32, 512), metavar="PIXELS", help="side of the training pictures, a "
                        "multiple of 32 (default: 64 on a CPU, 128 on a GPU)")  # fmt: skip
    parser.add_argument("--steps", type=between(1, 10**7), nargs=3, metavar="N",
                        help="of the three stages (default: by device and number of photos)")  # fmt: skip
    parser.add_argument("--device", choices=SIZES, help="default: cuda where there is one")
    parser.add_argument("--workers", type=between(0, 1024), metavar="N", help="processes that make conditions")
    parser.add_argument("--out", type=Path, required=True, help="folder of everything that is made")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, and do nothing")
    options = parser.parse_args(arguments)
    if options.size is not None and options.size % 32:
        parser.error(f"--size: got {options.size}, expected a multiple of 32")
    return options


def make_plan(options: argparse.Namespace) -> Plan:
    """The plan of an earlier run in OUT, or a new one for the device and the number of photos.

    Raises:
        ConfigError: OUT was begun with other options, its plan cannot be read, or it lies among the photos.
        ValueError: the folder is missing or has too few photos.
    """
    from midms.io.files import read_json
    from midms.io.outputs import check_output_folder

    file = options.out / "plan.json"
    if options.out.resolve().is_relative_to(options.photos.resolve()):
        raise ConfigError(f"--out {options.out}: lies in the folder of the photos, where its pictures would count as "
                          "photos; choose another")  # fmt: skip
    asked = {"photos": os.path.abspath(options.photos), "condition": options.condition}
    asked["annotations"] = None if options.annotations is None else os.path.abspath(options.annotations)
    asked |= {key: value for key in ("size", "device") if (value := getattr(options, key)) is not None}
    asked |= {} if options.steps is None else {"steps": tuple(options.steps)}
    check_output_folder(options.out, file.name)
    if not file.is_file():
        return new_plan(options, asked)
    stored: Any = read_json(file)
    try:
        plan = Plan(**stored | {key: tuple(stored[key]) for key in ("steps", "batches")})
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); choose another --out") from None
    for key, value in asked.items():
        if getattr(plan, key) != value:
            raise ConfigError(f"--out: {options.out} was begun with {key} {getattr(plan, key)}, not {value}; "
                              "choose another --out")  # fmt: skip
    return plan


def new_plan(options: argparse.Namespace, asked: dict[str, object]) -> Plan:
    """Sizes and steps for the device and the number of photos."""
    import torch

    from midms.data.folder import list_photos
    from midms.data.preparation import FEWEST_PHOTOS

    photos = len(list_photos(options.photos))
    if photos < FEWEST_PHOTOS:
        raise ValueError(f"{options.photos}: {photos} photos, expected at least {FEWEST_PHOTOS} for a training")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    smallest = 64 if device == "cpu" else 128
    size, sizes = options.size or smallest, SIZES[device]
    smaller = max(1, size // smallest)  # batches shrink with the side, so that a step costs at most that much more
    batches = tuple(max(2, batch // smaller) for batch in sizes.batches)
    share = min(1.0, max(0.25, photos / FULL_SET[device]))
    steps = tuple(options.steps or (round(count * share) for count in sizes.steps))
    vectors = min(photos * 9 // 10, 96) * (size // 4) ** 2  # latents that the codebook starts from
    codes = min(1024, 2 ** ((vectors // 8).bit_length() - 1))
    return Plan(**asked | dict(device=device, size=size, steps=steps, batches=batches, codes=codes))  # type: ignore[arg-type]


def shown(path: Path) -> str:
    """A path as it is typed: relative to the working folder where it is inside."""
    whole = Path(os.path.abspath(path))
    return os.path.relpath(whole) if whole.is_relative_to(Path.cwd()) else str(whole)


def setting(key: str, value: object) -> str:
    """An override of main.py, with quotes around text that YAML would read otherwise."""
    text = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, str) and not (re.fullmatch(r"[\w./-]+", text) and yaml.safe_load(text) == text):
        text = json.dumps(value, ensure_ascii=False)
    return f"{key}={text}"


def data_settings(plan: Plan, out: Path, pairs: bool) -> dict[str, object]:
    """Overrides of the training data, which the validation follows; with `pairs` also the condition."""
    values: dict[str, object] = {"root": shown(Path(plan.photos)), "size": plan.size}
    if pairs and plan.condition != "edges":
        values["condition"] = CONDITIONS[plan.condition][0]
    if pairs and plan.annotations is not None:
        values["annotations"] = shown(annotation_place(plan, out))
    found = {f"data.params.train.params.{key}": value for key, value in values.items()}
    if pairs and plan.condition == "parts":
        found |= {f"data.params.{part}.params.classes": CONDITIONS["parts"][1] for part in ("train", "validation")}
    return found


def annotation_place(plan: Plan, out: Path) -> Path:
    """The folder of part maps or poses."""
    return out / "annotations" if plan.annotations is None else Path(plan.annotations)


def stage_settings(plan: Plan, out: Path, stage: str) -> dict[str, object]:
    """Overrides of a stage: folders, and networks and steps where they differ from the config's."""
    number, sizes = STAGES.index(stage), SIZES[plan.device]
    steps = plan.steps[number]
    values: dict[str, object] = {"run.root": shown(out), **data_settings(plan, out, pairs=stage == "midms")}
    if stage == "first_stage":
        values |= {"model.params.first_stage.ch": sizes.channels, "model.params.first_stage.n_embed": plan.codes}
        values |= {"model.params.quantise_from": steps * 3 // 4}
    elif stage == "ldm":
        values |= {"model.params.denoiser.model_channels": sizes.unet_channels}
    else:
        values |= {"model.params.encoders.condition_channels": CONDITIONS[plan.condition][1]}
        values |= {"model.params.encoders.widths": list(sizes.encoder_widths)}
        values |= {"model.params.warmup_steps": steps * 9 // 10}
    values |= {"data.params.batch_size": plan.batches[number], "trainer.max_steps": steps}
    return values | {"trainer.accelerator": {"cpu": "cpu", "cuda": "gpu"}[plan.device]}


def value_of(config: dict[str, Any], key: str) -> Any:
    """The value at a dotted key of a config. None: there is none."""
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def training(plan: Plan, out: Path, stage: str) -> Step:
    """The command that trains a stage, from its last checkpoint if it has one. The last stage's run folder is OUT."""
    run = out if stage == "midms" else out / stage
    words = [shown(ROOT / "main.py"), "--base", shown(ROOT / f"configs/photos/{stage}.yaml"), "-t"]
    words += ["--run", shown(run)] if stage == "midms" else []
    words += ["--resume", shown(run)] if any((run / "checkpoints").glob("step_*.ckpt")) else []
    title = {"first_stage": "the autoencoder", "ldm": "the denoiser", "midms": "matching, and all together"}[stage]
    config = resolve(load_config([ROOT / f"configs/photos/{stage}.yaml"]))
    for key, value in stage_settings(plan, out, stage).items():
        if value != value_of(config, key):  # else the config says so already
            words.append(setting(key, value))
    return Step(f"training, stage {STAGES.index(stage) + 1}: {title}", tuple(words), run / "weights/config.json")


def preparation(plan: Plan, out: Path, workers: int | None) -> list[Step]:
    """The commands before the training: conditions, the check of every photo with its split, exemplars.

    Raises:
        ConfigError: the condition needs the networks of `midms get photos`, and they are missing.
    """
    from midms.conditions.photos.models import REMEDY, have_models

    kind, channels, command = CONDITIONS[plan.condition]
    program, photos, lists = shown(ROOT / "scripts/prepare_data.py"), shown(Path(plan.photos)), out / "lists"
    parallel = [] if workers is None else ["--workers", str(workers)]
    steps = []
    made = annotation_place(plan, out)
    if plan.annotations is None and have_models():
        words = (program, command, photos, "--out", shown(made), *parallel)
        steps.append(Step("conditions", words, lists / "train.txt", may_leave_out=True))
    elif plan.annotations is None and plan.condition != "edges":
        raise ConfigError(f"--condition {plan.condition} needs networks that read photos: run `{REMEDY}` once")
    check = [program, "verify", "--data", "folder", "--root", photos, "--condition", kind, "--annotations", shown(made)]
    check += ["--classes", str(channels)] if plan.condition == "parts" else []
    check += ["--lists", shown(lists), "--overwrite", *parallel]  # half of the lists, if the command was killed
    steps.append(Step("every photo checked, and a tenth held out", tuple(check), lists / "train.txt", True))
    for split in ("train", "val"):
        pairs = lists / f"{split}_pairs.txt"
        words = (program, "pairs", photos, "--names", shown(lists / f"{split}.txt"), "--out", shown(pairs), *parallel)
        steps.append(Step(f"the most similar photos as exemplars ({split})", words, pairs))
    return steps


def steps_of(plan: Plan, out: Path, workers: int | None = None) -> list[Step]:
    """All commands in order."""
    sheet = [shown(ROOT / "scripts/sample.py"), "--config", shown(out / "config.yaml"), "--split", "val"]
    sheet += ["--weights", shown(out / "weights"), "--pairs", "16", "--out", shown(out / "pairs")]
    sheet += ["--device", plan.device, "--save-intermediates", "--contact-sheet", "8"]
    return [
        *preparation(plan, out, workers),
        *(training(plan, out, stage) for stage in STAGES),
        Step("held-out photos translated", tuple(sheet), out / "pairs/contact_sheet.png"),
    ]


def run(plan: Plan, out: Path, workers: int | None, dry: bool) -> int:
    """Run what is not there yet. Returns 0, or the exit status of the command that failed."""
    steps = steps_of(plan, out, workers)
    for number, step in enumerate(steps, 1):
        done = step.made.is_file()
        print(f"\n[{number}/{len(steps)}] {step.title}{', done' if done else ''}", flush=True)
        print(f"$ python {shlex.join(step.words)}", flush=True)
        if dry or done:
            continue
        program, *arguments = step.words
        code = runpy.run_path(program)["main"](arguments)
        if code != 0 and not (step.may_leave_out and code == 1):
            return int(code)
    return 0


@handle_user_errors("train_on_folder.py", stopped="stopped; run the same command again to continue")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 on success, 2 on a user's mistake, otherwise the exit status of the failed command."""
    options = parse(arguments)
    from midms.conditions.photos.models import REMEDY, have_models
    from midms.io.files import write_atomically

    plan = make_plan(options)
    print(f"{plan.condition} at {plan.size} pixels on {plan.device}; {' + '.join(map(str, plan.steps))} steps")
    if plan.condition == "edges" and plan.annotations is None and not have_models():
        print(f"note: the edges will have no face parts; for these run `{REMEDY}` first")
    if not options.dry_run:
        write_atomically(options.out / "plan.json", json.dumps(asdict(plan), indent=2) + "\n")
    code = run(plan, options.out, options.workers, options.dry_run)
    if code or options.dry_run:
        return code
    weights = shown(options.out / "weights")
    print(f"\nDone: look at {shown(options.out / 'pairs/contact_sheet.png')}. Your own pictures:")
    print(f"midms translate --condition photo.jpg --exemplar other.jpg --weights {weights} --out out.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
