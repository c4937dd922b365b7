"""Show scenes of the built-in benchmark, or write images of it, for example to try a training on a folder of photos.

python -m midms.data.procedural --task faces --show 16 faces.png
python -m midms.data.procedural --task faces --images 200 portraits
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from midms.config import ConfigError
from midms.options import add_overwrite_option, between
from midms.programs import handle_user_errors


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m midms.data.procedural",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, nargs="?", help="PNG to write; with --images, a new folder")
    parser.add_argument("--images", type=between(1, 10**6), metavar="N", help="instead write N images of the training "
                        "split as PNGs")  # fmt: skip
    parser.add_argument("--time", type=int, metavar="N", help="instead draw N scenes and conditions and say how fast")
    parser.add_argument("--task", default="faces", choices=("faces", "figures", "churches"), help="(default: faces)")
    parser.add_argument("--show", type=int, default=16, help="number of pairs (default: 16)")
    parser.add_argument("--size", type=int, default=128, help="pixels per side (default: 128)")
    add_overwrite_option(parser, "an existing PNG that midms did not write")
    options = parser.parse_args(arguments)
    if (options.out is None) == (options.time is None):
        parser.error("give either a PNG to write or --time N")
    if options.time is not None and options.images is not None:
        parser.error("--images: writes images, and --time writes none; give one of them")
    if options.time is not None and options.time < 1:
        parser.error(f"--time: got {options.time}, expected at least 1")
    if options.show < 1 or options.size < 16:
        parser.error("--show: expected at least 1; --size: at least 16")
    return options


def measure(options: argparse.Namespace) -> int:
    """Print scenes and conditions drawn per second of one core."""
    from midms.data.procedural.dataset import generator, task_module

    task = task_module(options.task)
    drawn = [
        (task.sample_layout(generator("val", index, 0)), task.sample_style(generator("val", index, 1)))
        for index in range(options.time)
    ]
    start = time.process_time()
    scenes = [task.render(layout, style, options.size) for layout, style in drawn]
    middle = time.process_time()
    for scene in scenes:
        task.condition(scene)
    end = time.process_time()
    rates = (options.time / (middle - start), options.time / (end - middle))
    print(f"{options.task}, {options.size} px: {rates[0]:.0f} scenes/s, {rates[1]:.0f} conditions/s per core")
    return 0


def write_images(options: argparse.Namespace) -> int:
    """Write images of the training split to a new folder: 00000.png, ...

    Raises:
        ConfigError: the folder exists and holds something.
    """
    from midms.data.procedural.dataset import ProceduralImages
    from midms.visualize import save_png, to_pixels

    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise ConfigError(f"{options.out}: is there already; give a new folder for the images")
    dataset = ProceduralImages(options.task, options.size, "train", options.images)
    for index in range(options.images):
        save_png(options.out / f"{index:05d}.png", to_pixels(dataset[index]["image"]))
    print(f"{options.images} images of {options.task}: {options.out}")
    return 0


@handle_user_errors("midms.data.procedural")
def main(arguments: list[str] | None = None) -> int:
    """Draw pairs: condition, its photo, exemplar, truth, and the exemplar pulled along the true correspondence."""
    options = parse(arguments)
    if options.time is not None:
        return measure(options)
    if options.images is not None:
        return write_images(options)
    import torch
    from torch.utils.data import default_collate

    from midms.data.procedural.dataset import test_pairs
    from midms.io.outputs import check_output_files
    from midms.visualize import condition_image, grid, save_png

    check_output_files([options.out], overwrite=options.overwrite)
    dataset = test_pairs(options.task, options.size, options.show)
    batch = default_collate([dataset[index] for index in range(options.show)])
    places = batch["coordinates"].movedim(1, -1)
    pulled = torch.nn.functional.grid_sample(batch["exemplar"], places, align_corners=True)
    pulled = torch.where(batch["visible"][:, None], pulled, torch.ones_like(pulled))
    columns = [("condition", condition_image(batch["condition"])), ("its photo", batch["source"])]
    columns += [("exemplar", batch["exemplar"]), ("truth", batch["truth"]), ("pulled", pulled)]
    save_png(options.out, grid(columns))
    print(f"{options.show} pairs of {options.task}: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
