#!/usr/bin/env python
"""Make docs/gallery.md and its pictures again, from the shipped weights of all three tasks.

    python scripts/gallery.py                  # docs/gallery.md and docs/images/gallery/
    python scripts/gallery.py --out FOLDER     # elsewhere: FOLDER/gallery.md and FOLDER/images/gallery/

Run it when the shipped weights change. Nothing is downloaded: the pictures are samples of the package, and one photo
that scikit-image ships (NASA's portrait of Eileen Collins, public domain). A photo as condition is shown where the
networks of `midms get photos` are there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from midms.config import ConfigError
from midms.options import add_overwrite_option, between
from midms.programs import handle_user_errors
from tables.tasks import TASKS

if TYPE_CHECKING:
    from midms.pipelines.midms import MIDMsPipeline
    from midms.visualize import Pixels

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURES = "gallery.md", Path("images") / "gallery"
HEADING = "# Gallery"
#: Bytes of all pictures together.
MAX_BYTES = 1_500_000


class Section(NamedTuple):
    """One picture of the page with its words."""

    name: str  # of the picture's file
    heading: str
    text: str
    commands: list[str]
    pixels: Pixels


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of the page (default: docs)")
    parser.add_argument("--rows", type=between(1, 24), default=4, help="samples of each task (default: %(default)s)")
    parser.add_argument("--weights", nargs="+", default=[task.weights for task in TASKS.values()], metavar="NAME",
                        help="shipped names or folders (default: all shipped ones)")  # fmt: skip
    add_overwrite_option(parser)
    return parser.parse_args(arguments)


def is_gallery(file: Path) -> bool:
    """Whether a file is a page of this program."""
    from midms.io.files import read_text

    return read_text(file).startswith(HEADING)


def samples_section(pipe: MIDMsPipeline, weights: str, rows: int) -> Section:
    """The first samples of the weights' task, each translated into its own exemplar's style."""
    from torch import Tensor

    from midms.data.procedural.dataset import to_image
    from midms.data.samples import SHOWN, picture_of_maps, true_translation
    from midms.metrics.truth import psnr
    from midms.visualize import panels

    table: list[list[Any]] = []
    gained = []
    for number in range(1, rows + 1):
        name, sample = f"sample:{number}", pipe.sample(number)
        output = pipe(name, name, output_type="pt", return_intermediates=["warps"])
        assert isinstance(output.images, Tensor) and output.warps is not None
        truth = to_image(true_translation(str(pipe.task), pipe.condition_spec().side, number))
        tiles = [to_image(picture_of_maps(sample.condition)), to_image(sample.exemplar)]
        tiles += [output.warps[0], output.images[0], truth]
        captions = ("condition", "exemplar", "first warp", "result", "truth") if number == 1 else ("",) * 5
        table.append(list(zip(captions, tiles, strict=True)))
        gained.append(float(psnr(output.images, truth[None]).mean()))
    side = pipe.condition_spec().side
    return Section(
        str(pipe.task),
        f"{SHOWN[str(pipe.task)].capitalize()}: `{weights}`",
        f"Samples 1 to {rows} at {side} pixels; their results lie {sum(gained) / rows:.1f} dB (PSNR) from the truth.",
        [f"midms translate --condition sample:1 --exemplar sample:1 --weights {weights} --out out.png"],
        panels(table, 112),
    )


def exemplar_section(pipe: MIDMsPipeline, weights: str, photo: Path, rows: int) -> Section:
    """A real photo as exemplar of several samples."""
    from midms.data.procedural.dataset import to_image
    from midms.data.samples import picture_of_maps
    from midms.pipelines.reading import read_exemplar
    from midms.visualize import panels

    numbers = range(1, rows + 1)
    conditions = [to_image(picture_of_maps(pipe.sample(number).condition)) for number in numbers]
    results = [pipe(f"sample:{number}", photo, output_type="pt").images[0] for number in numbers]
    first: list[Any] = [("your photo", read_exemplar(pipe, photo)), *(("condition", tile) for tile in conditions)]
    second: list[Any] = [None, *(("result", tile) for tile in results)]
    return Section(
        "your_exemplar",
        "Your photo as exemplar",
        "The conditions of samples in the style of a photo. These weights have seen no photo; a note says so.",
        [f"midms translate --condition sample:1 --exemplar photo.jpg --weights {weights} --out out.png"],
        panels([first, second], 112),
    )


def condition_section(pipe: MIDMsPipeline, weights: str, photo: Path, rows: int) -> Section:
    """A real portrait as condition, in the style of several samples."""
    from midms.data.procedural.dataset import to_image
    from midms.pipelines.reading import read_condition
    from midms.visualize import condition_image, panels

    built = read_condition(pipe, photo)
    assert built.photo is not None
    numbers = range(1, rows + 1)
    exemplars = [to_image(pipe.sample(number).exemplar) for number in numbers]
    results = [pipe(built.maps, f"sample:{number}", output_type="pt").images[0] for number in numbers]
    shown = pipe.condition_spec().side * 2
    portrait = to_image(_pixels(built.photo.resize((shown, round(shown * built.photo.height / built.photo.width)))))
    first: list[Any] = [("your photo", portrait), *(("exemplar", tile) for tile in exemplars)]
    second: list[Any] = [("its condition", condition_image(built.maps[None])[0])]
    second += [("result", tile) for tile in results]
    return Section(
        "your_condition",
        "Your photo as condition",
        "The parts of the face are found in the photo, and drawn in the style of samples ([photos.md](photos.md)).",
        [
            "midms get photos",
            f"midms translate --condition photo.jpg --exemplar sample:1 --weights {weights} --out out.png",
        ],
        panels([first, second], 112),
    )


def steps_section(weights: str) -> Section:
    """The iterations of sample 1, as the paper's Figure 3."""
    from PIL import Image

    from midms.cli import main as midms

    with tempfile.TemporaryDirectory() as folder:
        out, steps = Path(folder) / "out.png", Path(folder) / "steps.png"
        words = ["--condition", "sample:1", "--exemplar", "sample:1", "--weights", weights, "--out", str(out)]
        if midms(["translate", *words, "--steps-picture", str(steps)]) != 0:
            raise ConfigError(f"{weights}: sample:1 could not be translated")
        pixels = _pixels(Image.open(steps))
    return Section(
        "steps",
        "Inside the loop",
        "Each step predicts the clean picture, matches it with the exemplar again, and keeps the warp where the match "
        "is trusted.",
        [
            f"midms translate --condition sample:1 --exemplar sample:1 --weights {weights} --out out.png "
            "--steps-picture steps.png"
        ],
        pixels,
    )


def sections(options: argparse.Namespace) -> Iterator[Section]:
    """All pictures of the page, in its order."""
    from PIL import Image
    from skimage.data import astronaut

    from midms.conditions.edges import EDGE_CHANNELS
    from midms.conditions.photos.models import have_models
    from midms.pipelines.making import load_pipeline

    pipes = {weights: load_pipeline(weights) for weights in options.weights}
    for weights, pipe in pipes.items():
        yield samples_section(pipe, weights, options.rows)
    weights, pipe = next(iter(pipes.items()))
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.png"
        Image.fromarray(astronaut()).save(photo)
        yield exemplar_section(pipe, weights, photo, options.rows)
        if pipe.condition_spec().channels == EDGE_CHANNELS and have_models():
            yield condition_section(pipe, weights, photo, options.rows)
    yield steps_section(weights)


def page(options: argparse.Namespace, made: list[Section]) -> str:
    """The text of the page; the digests in it show whether the weights have changed since."""
    first = (
        "Made from the shipped weights by one command, at their own settings and seed 0. Sample 1 was chosen for its "
        "good result, the others are the first of the test list. The photo is NASA's portrait of Eileen Collins, which "
        "scikit-image ships."
    )
    lines = [HEADING, "", first, "", "    python scripts/gallery.py", ""]
    for section in made:
        lines += [f"## {section.heading}", "", section.text, ""]
        lines += [f"![{section.heading}]({(PICTURES / section.name).as_posix()}.png)", ""]
        lines += [*(f"    {command}" for command in section.commands), ""]
    lines += ["## What it was made from", "", "| weights | SHA-256 of the denoiser |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| `{name}` | {digest} |" for name, digest in digests(options.weights).items()), ""])


def digests(names: list[str]) -> dict[str, str]:
    """Name of weights -> digest of their denoiser."""
    from midms.checkpoints.loading import open_weights
    from midms.io.provenance import weight_digests

    return {name: weight_digests(open_weights(name).path)["denoiser.safetensors"] for name in names}


def _pixels(picture: Any) -> Pixels:
    import numpy as np

    return np.asarray(picture.convert("RGB"))


@handle_user_errors("gallery.py")
def main(arguments: list[str] | None = None) -> int:
    """Write the page and its pictures; 2 with one line on a user's mistake."""
    from midms.io.files import write_atomically
    from midms.io.outputs import check_output_files, is_ours
    from midms.io.provenance import png_bytes

    options = parse(arguments)
    check_output_files([options.out / PAGE], overwrite=options.overwrite, ours=is_gallery)
    made = list(sections(options))
    files = {options.out / PICTURES / f"{section.name}.png": png_bytes(section.pixels) for section in made}
    size = sum(map(len, files.values()))
    if size > MAX_BYTES:
        raise ConfigError(f"{size:,} bytes of pictures, at most {MAX_BYTES:,}: give fewer --rows")
    of_page = (options.out / PAGE).exists()
    check_output_files(files, overwrite=options.overwrite, ours=lambda file: of_page or is_ours(file))
    for file, content in files.items():
        write_atomically(file, content)
    write_atomically(options.out / PAGE, page(options, made).encode())
    print(f"{options.out / PAGE}: {len(files)} pictures, {size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
