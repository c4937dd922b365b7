#!/usr/bin/env python
"""Translate pairs with trained weights; what is already there is not made again.

    python scripts/sample.py --benchmark faces --pairs 16 --out outputs/faces --save-intermediates
    python scripts/sample.py --condition sketch.png --exemplar photo.jpg --out outputs/mine
    python scripts/sample.py --condition maps/*.npy --exemplar photo.jpg --weights runs/demo/weights --out outputs/mine
    torchrun --nproc-per-node 2 scripts/sample.py --benchmark faces --pairs 256 --out outputs/faces

Under torchrun each process takes its share of the pairs; OUT has to be one folder that all of them see. A pair's noise
depends on the seed and the pair alone. When a process is lost, run the same command again: what is done is kept.
Results go to OUT/images; with the benchmark also OUT/truth, OUT/exemplars, OUT/conditions under the same names, so
that `scripts/evaluate.py --generated OUT/images --reference OUT/truth` measures them.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from midms.programs import handle_user_errors

#: Task of the built-in benchmark -> weights that the package ships for it.
SHIPPED = {"faces": "demo", "figures": "demo-figures", "churches": "demo-churches"}
_MOST = 1_000_000  # pairs, and pairs a batch
PROTOCOLS = ("paper", "released", "fast")


def _positive(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= _MOST):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {_MOST:,}, got {text!r}")
    return int(text)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="folder, shipped name or hub repository (default: demo, or with --benchmark "
                        "demo-figures, demo-churches)")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--benchmark", choices=["faces", "figures", "churches"], help="pairs of the built-in benchmark's test list"
    )
    parser.add_argument("--pairs", type=_positive, default=64, help="how many of them (default: 64)")
    parser.add_argument("--condition", nargs="+", type=Path, help="drawings, or condition maps (L, H, W) as .npy")
    parser.add_argument("--exemplar", nargs="+", type=Path, help="photos: one, or one per condition")
    parser.add_argument("--exemplar-condition", nargs="+", type=Path, help="their maps (released form of the encoders)")
    parser.add_argument("--protocol", choices=["weights", *PROTOCOLS], default="weights",
                        help="settings: the weights' own (default), paper's, release's, or few calls")  # fmt: skip
    parser.add_argument("--steps", type=int, help="T")
    parser.add_argument("--calls", type=int, help="N (default: T / 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=_positive, default=8)
    parser.add_argument("--fast", action="store_true", help="the quickest way of computing that keeps the picture")
    parser.add_argument("--device", default=None, help="default: cuda where there is one")
    parser.add_argument("--save-intermediates", action="store_true", help="also warps, masks and predictions")
    parser.add_argument("--overwrite", action="store_true", help="make again what is already there")
    options = parser.parse_args(arguments)
    options.weights = options.weights or SHIPPED[options.benchmark or "faces"]
    if bool(options.benchmark) == bool(options.condition):
        parser.error("give either --benchmark or --condition with --exemplar")
    if options.condition and len(options.exemplar or []) not in (1, len(options.condition)):
        parser.error(f"--exemplar: expected 1 or {len(options.condition)} photos, got {len(options.exemplar or [])}")
    return options


def work(options: argparse.Namespace, size: int | None) -> tuple[list[str], Any]:
    """Names of the results, and a function of an index that gives that pair as a dict of tensors."""
    from midms.pipelines.midms import batch_conditions, batch_pictures

    if options.benchmark:
        from midms.data.procedural.dataset import test_pairs

        dataset = test_pairs(options.benchmark, size or 64, options.pairs)
        return [f"{index:05d}" for index in range(options.pairs)], dataset.__getitem__

    def pick(files: list[Path] | None, index: int) -> Path | None:
        return None if not files else files[index if len(files) > 1 else 0]

    def load(index: int) -> dict[str, Any]:
        labels = pick(options.exemplar_condition, index)
        pair = {
            "condition": batch_conditions(options.condition[index], size)[0],
            "exemplar": batch_pictures(pick(options.exemplar, index), size)[0],  # type: ignore[arg-type]
        }
        return pair if labels is None else pair | {"exemplar_condition": batch_conditions(labels)[0]}

    names = [f"{index:05d}_{path.stem}" for index, path in enumerate(options.condition)]
    return names, load


def settings_of(options: argparse.Namespace, pipe: Any) -> Any:
    """The protocol's settings with the command line's changes."""
    from midms.diffusion.settings import InterleaveSettings
    from midms.models.translation_gan import GANSettings
    from midms.pipelines.settings import gan_settings

    if isinstance(pipe.settings, GANSettings):
        return gan_settings(pipe.settings, options)
    settings = getattr(InterleaveSettings, options.protocol)() if options.protocol in PROTOCOLS else pipe.settings
    return settings.with_steps(options.steps, options.calls)


def save_intermediates(folder: Path, output: Any, row: int) -> None:
    """First warp, predictions n = N ... 1 and masks of one pair."""
    from midms.visualize import save_png, to_pixels

    save_png(folder / "warp.png", to_pixels(output.warps[row]))
    count = len(output.predictions)
    for index, prediction in enumerate(output.predictions):
        save_png(folder / f"prediction_{count - index:02d}.png", to_pixels(prediction[row]))
    for index, mask in enumerate(output.masks):
        save_png(folder / f"mask_{count - index:02d}.png", to_pixels(2 * mask[row] - 1))


def save_pair(
    options: argparse.Namespace, name: str, batch: dict[str, Any], output: Any, row: int, text: dict[str, str]
) -> None:
    """Everything of one pair; the result last, for its presence says that the pair is done."""
    from midms.visualize import condition_image, save_png, to_pixels

    if options.save_intermediates:
        save_intermediates(options.out / "intermediates" / name, output, row)
    pictures = {"exemplars": batch["exemplar"][row], "conditions": condition_image(batch["condition"])[row]}
    if "truth" in batch:
        pictures["truth"] = batch["truth"][row]
    for folder, picture in pictures.items():
        save_png(options.out / folder / f"{name}.png", to_pixels(picture))
    save_png(options.out / "images" / f"{name}.png", to_pixels(output.images[row]), text)


def share(count: int, rank: int, world: int) -> range:
    """Indices of the pairs that a process makes; fixed by its number, whatever is done already."""
    return range(rank, count, world)


def load_pipeline(options: argparse.Namespace) -> Any:
    """The pipeline on this process's device, checked against the task."""
    import torch

    from midms.config import ConfigError
    from midms.pipelines.midms import MIDMsPipeline

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    pipe = MIDMsPipeline.from_pretrained(options.weights, device)
    task = pipe.info.get("task")
    if options.benchmark and task not in (None, options.benchmark):
        raise ConfigError(f"--weights: {options.weights} are for {task}, --benchmark says {options.benchmark}")
    return pipe.fast() if options.fast else pipe


def sample(options: argparse.Namespace) -> dict[str, int]:
    """Make what is missing of this process's share; returns how many were made and how many were there."""
    import torch
    from torch.utils.data import default_collate
    from tqdm import tqdm

    from midms.evaluation.benchmark import noise_generators
    from midms.io.provenance import Record, text_chunk

    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    pipe = load_pipeline(options)
    settings = settings_of(options, pipe)
    names, load = work(options, pipe.info.get("size"))
    mine = share(len(names), rank, world)
    missing = [i for i in mine if options.overwrite or not (options.out / "images" / f"{names[i]}.png").is_file()]
    text = text_chunk(
        Record(
            program="sample.py",
            weights=str(options.weights),
            weight_files=pipe.weight_files,
            seed=options.seed,
            settings=asdict(settings),
        )
    )
    for start in tqdm(range(0, len(missing), options.batch_size), "sampling", disable=True if rank else None):
        indices = missing[start : start + options.batch_size]
        items = [load(index) for index in indices]
        if len({tuple(v.shape for v in item.values() if isinstance(v, torch.Tensor)) for item in items}) > 1:
            # pictures of several sizes go one by one
            groups = [([index], [item]) for index, item in zip(indices, items, strict=True)]
        else:
            groups = [(indices, items)]
        for numbers, group in groups:
            batch = default_collate(group)
            labels = batch.get("exemplar_condition") if pipe.model.encoders.form == "released" else None
            output = pipe(
                batch["condition"],
                batch["exemplar"],
                labels,
                settings=settings,
                generator=noise_generators(numbers, options.seed),
                output_type="pt",
                return_intermediates=options.save_intermediates,
            )
            for row, index in enumerate(numbers):
                save_pair(options, names[index], batch, output, row, text)
    return merge({"made": len(missing), "already there": len(mine) - len(missing)}, world)


def merge(counts: dict[str, int], world: int) -> dict[str, int]:
    """Wait for all processes and add up what they did."""
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
