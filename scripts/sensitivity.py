"""How far FID, KID and SWD move when the protocol is not kept: file format, resizing, number of images.

    python scripts/sensitivity.py --images 64 --size 128
    python scripts/sensitivity.py --images 2048 --size 256 --task figures --inception FILE

Two sets of drawn scenes of one distribution are compared; then one of them is saved or resized in another way. What a
row says more than the first row is the protocol's doing alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from midms.options import between
from midms.programs import warn
from tables.tasks import TASKS


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python scripts/sensitivity.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--images", type=between(8, 10**6), default=64, metavar="N", help="per set (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=between(32, 4096), default=128, metavar="N", help="power of two (default: %(default)s)"
    )
    parser.add_argument("--task", choices=TASKS, default="faces", help="what is drawn (default: %(default)s)")
    parser.add_argument("--seeds", type=between(1, 1000), default=4, metavar="N",
                        help="random draws of SWD (default: %(default)s)")  # fmt: skip
    parser.add_argument("--inception", type=Path, metavar="FILE", help="Inception-2015 weights, for FID and KID")
    return parser


def draw_sets(root: Path, task: str, size: int, count: int) -> None:
    """Two disjoint sets of PNG files, root/first and root/second: scenes of the same distribution."""
    from midms.data.procedural.dataset import ProceduralImages, Split, Task
    from midms.visualize import save_png, to_pixels

    roles: dict[Split, str] = {"val": "first", "test": "second"}
    for split, role in roles.items():
        dataset = ProceduralImages(cast(Task, task), size, split, count)
        for index in range(count):
            save_png(root / role / f"{index:05d}.png", to_pixels(dataset[index]["image"]))


def rewrite(
    source: Path, target: Path, change: Callable[[Any], Any], suffix: str = ".png", most: int | None = None, **save: Any
) -> None:
    """Copy the first images of a folder through `change` (PIL image to PIL image)."""
    from PIL import Image

    target.mkdir(parents=True)
    for file in sorted(source.iterdir())[:most]:
        with Image.open(file) as image:
            change(image.convert("RGB")).save(target / f"{file.stem}{suffix}", **save)


def variants(root: Path, size: int, count: int) -> list[tuple[str, Path, Path]]:
    """(what differs, first set, second set), written below `root`."""
    from PIL import Image

    first, second = root / "first", root / "second"
    plain = {"PNG": (".png", {}), "JPEG 75": (".jpg", {"quality": 75}), "JPEG 95": (".jpg", {"quality": 95})}
    folders: dict[tuple[str, str], Path] = {}
    for role in ("first", "second"):
        for name, (suffix, options) in plain.items():
            folders[role, name] = root / f"{role} {name}"
            rewrite(root / role, folders[role, name], lambda image: image, suffix, **options)
    formats = (("PNG", "PNG"), ("JPEG 75", "JPEG 75"), ("PNG", "JPEG 75"), ("PNG", "JPEG 95"), ("JPEG 95", "JPEG 75"))
    rows = [(f"{a} - {b}", folders["first", a], folders["second", b]) for a, b in formats]
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    for name, resample in filters.items():
        small = root / f"half, {name}"

        def halve(image: Any, resample: Any = resample) -> Any:
            return image.resize((size // 2, size // 2), resample).resize((size, size), resample)

        rewrite(first, small, halve)
        rows.append((f"PNG by way of {size // 2} pixels, {name} - PNG", small, second))
    for part in (4, 2):
        pair = [root / f"{role}, one in {part}" for role in ("first", "second")]
        for source, target in zip((first, second), pair, strict=True):
            rewrite(source, target, lambda image: image, most=count // part)
        rows.append((f"PNG - PNG, {count // part} images", pair[0], pair[1]))
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 on success, 2 with one line on a user's mistake."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.size & (options.size - 1):
        parser.error(f"--size: expected a power of two, got {options.size}")
    from midms.evaluation.suite import Folders, Options, evaluate

    # "torch-fidelity" does not resize files: two folders differ only in the saved pixels
    measure = Options(protocol="torch-fidelity", seeds=options.seeds, inception=options.inception)
    metrics = ["swd", *(["fid", "kid"] if options.inception else [])]
    print(f"Two sets of {options.images} drawn {options.task} of {options.size} pixels.\n")
    head: list[str] = []
    with tempfile.TemporaryDirectory(prefix="midms-sensitivity-") as folder:
        root = Path(folder)
        draw_sets(root, options.task, options.size, options.images)
        for name, first, second in variants(root, options.size, options.images):
            values: dict[str, float] = {}
            for result in evaluate(Folders(first, second), measure, metrics):
                if result.status == "skipped":
                    warn(f"sensitivity: {result.metric}: {result.reason}")
                    return 2
                values |= {key: value for key, value in result.values.items() if "subset" not in key}
            if not head:
                head = list(values)
                print(f"| sets | {' | '.join(head)} |\n|{' --- |' * (len(head) + 1)}")
            print(
                f"| {name} | {' | '.join(f'{values[key]:.4g}' if key in values else '-' for key in head)} |", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
