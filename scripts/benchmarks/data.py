"""`scripts/benchmark.py data`: time of one CelebA-HQ training item (two faces), from raw files and prepared.

    python scripts/benchmark.py data                                       # drawn files
    python scripts/benchmark.py data --root CelebAMask-HQ --step-ms 200
    python scripts/benchmark.py data --config configs/demo.yaml            # does the loader keep up with the training?
    python scripts/benchmark.py data --pairs 30000                         # retrieval of exemplars

The rows of the first two commands are measured in turn, in one run:

    plain      the steps of the released loader one after the other: the photo is decoded for the image and again for
               the edges, masks are converted at full size and then sampled
    raw        `CelebAEdges` from the same files
    prepared   `CelebAEdges` with `cache_folder`

`median_ms` is the processor time of an item, `items_per_second` the rate of one core, and `ratio` the time of `plain`
divided by the row's. `workers_for_step` is the number of loader processes that a training step of `--step-ms` with
`--batch-size` items needs. Without --root the files are drawn: photos of 1024 x 1024 and masks of 512 x 512 pixels.

With --config the config is trained for a few steps on --device, and then its loader is read alone. The rows `step`,
`loader` and `training` are in wall-clock time. `keeps_up`: the device waits for data less than 5 percent of the time.
With --pairs N, the 20 nearest of N for each of N features of length 512: processor time, summed over --threads; and on
the built-in benchmark how often the nearest of 200 unseen pictures has the same style, against chance.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.timing import Row
    from midms.data.celeba import CelebAEdges

SUMMARY = "the CelebA-HQ loader: raw files, prepared items and the plain form"
_DRAWN = 4  # faces


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--root", help="CelebAMask-HQ folder with a training list (default: drawn files)")
    parser.add_argument(
        "--items", type=int, default=4, help="number of different items per round (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements per row, of which the median is reported")
    parser.add_argument(
        "--step-ms", type=float, help="time of a training step, to report how many loader processes keep up with it"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="items per step (default: %(default)s)")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--config", metavar="YAML", help="instead: compare this training's step with its loader")
    other.add_argument("--pairs", type=int, metavar="N", help="instead: retrieval among N photos")
    parser.add_argument("--set", nargs="+", default=[], metavar="key.path=value", help="changes to the --config")
    parser.add_argument("--steps", type=int, default=10, help="training steps that are timed (default: %(default)s)")


def run(options: argparse.Namespace) -> Iterator[Row]:
    """One row per way of reading; with `config` or `pairs` the rows of those.

    Raises:
        ValueError: a count below 1, a step without time, a folder that is no CelebAMask-HQ, or a config that cannot be
            run.
    """
    for name in ("items", "rounds", "batch_size", "steps"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')}: got {getattr(options, name)}, expected 1 or more")
    if options.step_ms is not None and options.step_ms <= 0:
        raise ValueError(f"--step-ms: got {options.step_ms:g}, expected more than 0")
    if options.config:
        from benchmarks.feeding import feeding_rows

        yield from feeding_rows(options)
        return
    if options.pairs is not None:
        from benchmarks.retrieval import retrieval_rows

        yield from retrieval_rows(options.pairs)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(options.root) if options.root else draw_faces(Path(folder) / "faces", _DRAWN)
        yield from _rows(options, root, Path(folder) / "prepared")


def _rows(options: argparse.Namespace, root: Path, prepared: Path) -> Iterator[Row]:
    import cv2

    from benchmarks import timing
    from midms.data.celeba import CelebAEdges

    cv2.setNumThreads(options.threads)
    raw = CelebAEdges(root, "train", exemplars={"easy": 1.0})
    ready = CelebAEdges(root, "train", exemplars={"easy": 1.0}, cache_folder=prepared)
    plain = plain_faces(root)
    datasets = {"plain": plain, "raw": raw, "prepared": ready}
    indices = range(min(options.items, len(raw)))

    def read(dataset: CelebAEdges) -> None:
        for index in indices:
            dataset[index, 0]

    variants: dict[str, timing.Run] = {name: partial(read, dataset) for name, dataset in datasets.items()}
    times = {
        name: [time / len(indices) for time in row]
        for name, row in timing.time_rounds(variants, options.rounds, "cpu").items()
    }
    for name in datasets:
        row = timing.row(name, "256x256", "cpu", "uint8", "item", times[name], None, times["plain"])
        median = statistics.median(times[name])
        row["items_per_second"] = round(1e3 / median, 1)
        if options.step_ms:
            row["workers_for_step"] = math.ceil(options.batch_size * median / options.step_ms)
        yield row


def plain_faces(root: Path) -> CelebAEdges:
    """The data set that makes an item in the released loader's steps; its items are equal to those of `CelebAEdges`."""
    import numpy as np
    from PIL import Image

    from midms.conditions.edges import FACE_PARTS, edge_condition
    from midms.data import celeba, transforms

    class PlainFaces(celeba.CelebAEdges):
        def _make(self, name: str) -> np.ndarray:
            size, file = (self.load_size, self.load_size), self.photo_file(name)
            photo = Image.open(file).convert("RGB").resize(size, Image.Resampling.BICUBIC)
            masks = {}
            for part in FACE_PARTS:
                mask_file = celeba.mask_file(self.root, name, part)
                if mask_file.is_file():
                    mask = Image.open(mask_file).convert("L").resize(size, Image.Resampling.NEAREST)
                    masks[part] = np.asarray(mask) > 127
            grey = transforms.grey_pixels(Image.open(file).convert("RGB"), self.load_size)
            pixels = np.asarray(photo).transpose(2, 0, 1)
            return np.concatenate([pixels, edge_condition(grey, masks)])

    return PlainFaces(root, "train", exemplars={"easy": 1.0})


def draw_faces(root: Path, count: int) -> Path:
    """Drawn faces in the layout and at the sizes of CelebAMask-HQ, with lists."""
    import numpy as np
    from PIL import Image

    from midms.conditions.edges import FACE_PARTS
    from midms.data import celeba
    from midms.data.exemplars import format_pairs
    from midms.data.procedural.dataset import generator, task_module

    faces = task_module("faces")
    names = [f"{index}.jpg" for index in range(count)]
    for index, name in enumerate(names):
        scene = faces.render(
            faces.sample_layout(generator("train", index, 0)), faces.sample_style(generator("train", index, 1)), 1024
        )
        for file in (celeba.photo_file(root, name), celeba.mask_file(root, name, "skin")):
            file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.image).save(celeba.photo_file(root, name), quality=92)
        for part, mask in scene.masks.items():
            if part in FACE_PARTS and mask.any():
                pixels = np.where(mask[1::2, 1::2, None], 255, 0).astype(np.uint8).repeat(3, 2)
                Image.fromarray(pixels).save(celeba.mask_file(root, name, part))
    (root / "lists").mkdir()
    (root / "train.txt").write_text("".join(f"{Path(name).stem}\n" for name in names))
    pairs = {name: [names[(index + 1) % count]] for index, name in enumerate(names)}
    (root / "lists" / "celebahq_ref.txt").write_text(format_pairs(pairs))
    return root
