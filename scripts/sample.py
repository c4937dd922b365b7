#!/usr/bin/env python
"""Translate pairs with trained weights. Pictures that exist already are kept.

    python scripts/sample.py --benchmark faces --pairs 16 --out outputs/faces --save-intermediates
    python scripts/sample.py --condition sketch.png --exemplar photo.jpg --out outputs/mine
    python scripts/sample.py --condition maps/*.npy --exemplar photo.jpg --weights runs/demo/weights --out outputs/mine
    python scripts/sample.py --config configs/celeba.yaml --split val --weights runs/celeba/weights --out outputs/celeba
    torchrun --nproc-per-node 2 scripts/sample.py --benchmark faces --pairs 256 --out outputs/faces

Under torchrun each process takes its share of the pairs. All processes must see the same folder OUT. A pair's noise
depends only on the seed and the pair: pair i of your own files is the picture of `midms translate --seed SEED+i`. To
continue after an interruption, run the same command again: pictures whose record names the same files and settings are
kept. Results go to OUT/images. OUT/exemplars, OUT/conditions, with --benchmark OUT/truth, and with --config OUT/sources
(the photos of the conditions) have the same file names, so that
`scripts/evaluate.py --generated OUT/images --reference OUT/truth` measures the results.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midms.config import ConfigError
from midms.options import add_computing_options, add_loop_options, add_overwrite_option, between
from midms.programs import handle_user_errors, warn
from sampling.sources import (
    CONTACT_SHEET,
    INTERMEDIATES,
    SPLITS,
    Loaded,
    Pair,
    benchmark_pairs,
    check_outputs,
    data_pairs,
    notes_of,
    own_pairs,
)
from tables.tasks import TASKS

if TYPE_CHECKING:
    from torch import Generator

    from midms.pipelines.midms import MIDMsOutput, MIDMsPipeline


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="folder, shipped name or hub repository (default: demo, or with --benchmark "
                        "demo-figures, demo-churches)")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--benchmark", choices=TASKS, help="pairs of the built-in benchmark's test list")
    parser.add_argument("--config", type=Path, metavar="YAML", help="pairs of a training config's data set")
    parser.add_argument("--split", choices=SPLITS, default="val", help="of --config: which (default: %(default)s)")
    parser.add_argument("--pairs", type=between(1, 10**6), help="how many of them, from the first (default: 64 of "
                        "--benchmark, all of --config)")  # fmt: skip
    parser.add_argument("--condition", nargs="+", type=Path, help="drawings, condition maps (L, H, W) as .npy, or "
                        "samples of the package: sample:1 ... sample:24")  # fmt: skip
    parser.add_argument("--exemplar", nargs="+", type=Path, help="photos or samples: one, or one per condition")
    parser.add_argument("--exemplar-condition", nargs="+", type=Path, help="their maps (released form of the encoders)")
    add_loop_options(parser)
    parser.add_argument("--batch-size", type=between(1, 4096), default=8)
    add_computing_options(parser)
    parser.add_argument("--save-intermediates", action="store_true", help="also save warps, masks and predictions")
    parser.add_argument("--contact-sheet", type=between(1, 100), metavar="K",
                        help="also OUT/contact_sheet.png: the first K pairs")  # fmt: skip
    add_overwrite_option(parser, "all pictures that exist already")
    options = parser.parse_args(arguments)
    if sum(map(bool, (options.benchmark, options.config, options.condition))) != 1:
        parser.error("give one of --benchmark, --config, and --condition with --exemplar")
    if options.config and not options.weights:
        parser.error("--config: give the --weights, too")
    options.weights = options.weights or TASKS[options.benchmark or "faces"].weights
    for name in ("exemplar", "exemplar_condition"):
        count = len(getattr(options, name) or [])
        if options.condition and count not in (1, len(options.condition), *[0] * (name != "exemplar")):
            parser.error(f"--{name.replace('_', '-')}: expected 1 or {len(options.condition)} files, got {count}")
    return options


def is_made(file: Path, pair: Pair, pipe: MIDMsPipeline) -> bool:
    """Whether a picture exists and was made from the same files with the same settings.

    Raises:
        ConfigError: a picture without a record exists, which must not be replaced.
    """
    from midms.io.provenance import read_settings
    from midms.pipelines.making import computed_by, same_picture

    if not file.exists():
        return False
    try:
        recorded = read_settings(file)
    except ConfigError as error:
        raise ConfigError(f"{error}; choose another --out, or --overwrite") from None
    return same_picture(recorded, pair.making.record(computed_by(pipe), file))


def shapes_of(loaded: Loaded) -> tuple[Any, ...]:
    """The shapes that must be equal within a batch."""
    labels = loaded.exemplar_condition
    return loaded.condition.shape, loaded.exemplar.shape, None if labels is None else labels.shape


def save_intermediates(folder: Path, output: MIDMsOutput, row: int) -> None:
    """First warp, predictions n = N ... 1 and masks of one pair."""
    from midms.visualize import save_png, to_pixels

    assert output.warps is not None
    save_png(folder / "warp.png", to_pixels(output.warps[row]))
    count = len(output.predictions)
    for index, prediction in enumerate(output.predictions):
        save_png(folder / f"prediction_{count - index:02d}.png", to_pixels(prediction[row]))
    for index, mask in enumerate(output.masks):
        save_png(folder / f"mask_{count - index:02d}.png", to_pixels(2 * mask[row] - 1))


def save_pair(
    options: argparse.Namespace, pipe: MIDMsPipeline, pair: Pair, loaded: Loaded, output: MIDMsOutput, row: int
) -> None:
    """Save all files of one pair; the result last, because its presence marks the pair as done."""
    from midms.io.provenance import text_chunk
    from midms.pipelines.making import computed_by
    from midms.pipelines.pictures import resize_images
    from midms.visualize import condition_image, save_png, to_pixels

    if options.save_intermediates:
        save_intermediates(options.out / INTERMEDIATES / pair.name, output, row)
    images = pipe.model.encoders.condition_input == "latent"
    shown = loaded.condition if images else condition_image(loaded.condition[None])[0]
    pictures = {"exemplars": loaded.exemplar, "conditions": shown}
    pictures |= {"truth": loaded.truth} if loaded.truth is not None else {}
    pictures |= {"sources": loaded.source} if loaded.source is not None else {}
    for folder, picture in pictures.items():
        save_png(options.out / folder / f"{pair.name}.png", to_pixels(picture))
    assert not isinstance(output.images, list)
    image = resize_images(output.images[row : row + 1], loaded.size)
    place = options.out / "images" / f"{pair.name}.png"
    save_png(place, to_pixels(image)[0], text_chunk(pair.making.record(computed_by(pipe), place)))


def share(count: int, rank: int, world: int) -> range:
    """Indices of the pairs of a process, which depend on its rank alone, not on finished pairs."""
    return range(rank, count, world)


def load_pipeline(options: argparse.Namespace) -> MIDMsPipeline:
    """The pipeline on this process's device, checked against the task."""
    from midms.pipelines import making

    device = making.usable_device(options.device)
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    pipe = making.load_pipeline(options.weights, device, options.dtype, options.fast)
    task = pipe.info.get("task")
    if options.benchmark and task not in (None, options.benchmark):
        raise ConfigError(f"--weights: {options.weights} are for {task}, --benchmark says {options.benchmark}")
    return pipe


def generators(options: argparse.Namespace, pairs: list[Pair]) -> list[Generator]:
    """Random generators of some pairs, independent of batch and process."""
    from midms.diffusion.schedule import sample_generators
    from midms.evaluation.benchmark import noise_generators

    numbers = [pair.seed_or_index for pair in pairs]
    return noise_generators(numbers, options.seed) if options.benchmark else sample_generators(numbers)


def make(
    options: argparse.Namespace, pipe: MIDMsPipeline, pairs: list[Pair], loaded: list[Loaded], settings: Any
) -> None:
    """Translate pairs of one shape as a batch, and save them."""
    import torch

    labels = [item.exemplar_condition for item in loaded if item.exemplar_condition is not None]
    released = pipe.model.encoders.form == "released"
    condition = pipe.encode_condition(torch.stack([item.condition for item in loaded]))
    exemplar = pipe.encode_exemplar(
        torch.stack([item.exemplar for item in loaded]), torch.stack(labels) if released else None
    )
    output = pipe(
        condition,
        exemplar,
        settings=settings,
        generator=generators(options, pairs),
        output_type="pt",
        return_intermediates=("warps", "predictions", "masks") if options.save_intermediates else False,
    )
    for row, (pair, item) in enumerate(zip(pairs, loaded, strict=True)):
        notes = notes_of(pipe, item, condition, exemplar, row)
        for note in notes:
            warn(f"{pair.name}: note: {note}")
        save_pair(options, pipe, pair._replace(making=replace(pair.making, notes=notes)), item, output, row)


def sample(options: argparse.Namespace) -> dict[str, int]:
    """Translate the missing pairs of this process's share. Returns the numbers of new and existing pairs."""
    import torch

    from midms.pipelines.making import loop_settings
    from midms.progress import Progress

    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    pipe = load_pipeline(options)
    settings = loop_settings(pipe, options.protocol, options.steps, options.calls, options.threshold)
    find = benchmark_pairs if options.benchmark else data_pairs if options.config else own_pairs
    pairs = find(options, pipe, settings)
    mine = [pairs[index] for index in share(len(pairs), rank, world)]
    images = options.out / "images"
    missing = [p for p in mine if options.overwrite or not is_made(images / f"{p.name}.png", p, pipe)]
    check_outputs(options, missing)
    starts = range(0, len(missing), options.batch_size)
    with Progress("sampling", len(missing), hidden=rank > 0) as bar:
        for start in starts:
            batch = missing[start : start + options.batch_size]
            loaded = [pair.load() for pair in batch]
            if len({shapes_of(item) for item in loaded}) == 1:
                make(options, pipe, batch, loaded, settings)
            else:  # pairs of several sizes are translated one by one
                for pair, item in zip(batch, loaded, strict=True):
                    make(options, pipe, [pair], [item], settings)
            bar.update(len(batch))
    counts = merge({"made": len(missing), "already there": len(mine) - len(missing)}, world)
    if options.contact_sheet and rank == 0:
        contact_sheet(options.out, [pair.name for pair in pairs[: options.contact_sheet]])
    return counts


def contact_sheet(out: Path, names: list[str]) -> None:
    """OUT/contact_sheet.png: condition, exemplar, first warp if saved, result, and the right or original picture."""
    from midms.pipelines.pictures import read_picture
    from midms.visualize import panels, save_png

    columns = [("condition", "conditions/{}.png"), ("exemplar", "exemplars/{}.png"),
               ("first warp", "intermediates/{}/warp.png"), ("result", "images/{}.png"),
               ("truth", "truth/{}.png"), ("photo of the condition", "sources/{}.png")]  # fmt: skip
    shown = [(caption, path) for caption, path in columns if all((out / path.format(name)).is_file() for name in names)]
    rows = [
        [(caption if row == 0 else "", read_picture(out / path.format(name))) for caption, path in shown]
        for row, name in enumerate(names)
    ]
    save_png(out / CONTACT_SHEET, panels(rows, cell=128))


def merge(counts: dict[str, int], world: int) -> dict[str, int]:
    """Wait for all processes and add up their counts."""
    if world == 1:
        return counts
    import torch

    torch.distributed.init_process_group("gloo")
    numbers = torch.tensor(list(counts.values()))
    torch.distributed.all_reduce(numbers)
    torch.distributed.destroy_process_group()
    return dict(zip(counts, numbers.tolist(), strict=True))


@handle_user_errors("sample.py")
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 on success, 2 with one line on a user's mistake."""
    options = parse(arguments)
    counts = sample(options)
    if os.environ.get("RANK", "0") == "0":
        print(f"{counts['made']} made, {counts['already there']} already there: {options.out / 'images'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
