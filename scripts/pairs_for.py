#!/usr/bin/env python
"""Compare with other methods: write our pairs in their layout, and read their outputs back by pair.

    python scripts/pairs_for.py write ctrl-x --photos photos --pairs pairs.txt --condition edges --out pairs_ctrl_x
    python scripts/pairs_for.py read results --of pairs_ctrl_x --by order --out out/ctrl-x
    python scripts/pairs_for.py diffusers pairs --base SD --controlnet CANNY --adapter h94/IP-Adapter --out out/ip
    python scripts/evaluate.py --generated ours=out/midms ctrl-x=out/ctrl-x --reference pairs_ctrl_x/evaluation/photos

docs/compare.md says what each method needs and where its layout is documented.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from midms.options import add_overwrite_option, between
from midms.programs import handle_user_errors, say, warn

if TYPE_CHECKING:
    from others.outputs import Panel

LAYOUTS = ("cocosnet", "diffusers", "ctrl-x")
WAYS = ("number", "name", "order")
_NAMED = 10  # missing outputs that a message names


def _panel(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"expected K/N with 1 <= K <= N, got {text!r}")
    return int(match[1]), int(match[2])


def build_parser() -> argparse.ArgumentParser:
    """The command line; imports nothing heavy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--quiet", action="store_true", help="no progress bar")
    add_overwrite_option(common)
    write = commands.add_parser("write", parents=[common], help="pairs in the layout of a method")
    write.add_argument("layout", choices=LAYOUTS)
    write.add_argument("--photos", type=Path, required=True, metavar="DIR", help="with annotations beside it")
    write.add_argument("--pairs", type=Path, required=True, metavar="FILE", help="list of condition,exemplar")
    write.add_argument("--condition", choices=("edges", "keypoints", "segmentation"), default="edges",
                       help="default: %(default)s")  # fmt: skip
    write.add_argument("--size", type=between(1, 10**6), default=256, metavar="N", help="default: %(default)s")
    write.add_argument("--count", type=between(1, 10**6), metavar="N", help="pairs from the first (default: all)")
    write.add_argument("--prompt", default="a photo", help="for methods with a text (default: %(default)s)")
    write.add_argument("--out", type=Path, required=True, metavar="DIR")
    read = commands.add_parser("read", parents=[common], help="outputs of a method, by pair")
    read.add_argument("outputs", type=Path, help="folder of the method's outputs")
    read.add_argument("--of", type=Path, required=True, metavar="DIR", help="pairs that `write` made")
    read.add_argument("--by", choices=WAYS, default="number", help="what tells the pair of a file: the last number "
                      "in its name, its whole name, or its place among the names (default: %(default)s)")  # fmt: skip
    read.add_argument("--glob", default="*", metavar="PATTERN", help="outputs only, such as '*_fake.jpg'")
    read.add_argument("--panel", type=_panel, metavar="K/N", help="the K-th of N pictures side by side in each file")
    read.add_argument("--out", type=Path, required=True, metavar="DIR")
    diffusers = commands.add_parser("diffusers", parents=[common], help="run IP-Adapter with ControlNet on the pairs")
    diffusers.add_argument("folder", type=Path, help="pairs that `write diffusers` made")
    diffusers.add_argument("--base", required=True, metavar="MODEL", help="Stable Diffusion 1.5, folder or hub name")
    diffusers.add_argument("--controlnet", required=True, metavar="MODEL", help="for the kind of condition")
    diffusers.add_argument("--adapter", required=True, metavar="MODEL", help="such as h94/IP-Adapter")
    diffusers.add_argument("--weight-name", default="ip-adapter_sd15.safetensors", help="default: %(default)s")
    diffusers.add_argument("--scale", type=float, default=1.0, help="of the exemplar (default: %(default)s)")
    diffusers.add_argument("--steps", type=between(1, 10**6), default=50, help="default: %(default)s")
    diffusers.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    diffusers.add_argument("--device", default="cpu", help="default: %(default)s")
    diffusers.add_argument("--local", action="store_true", help="download nothing")
    diffusers.add_argument("--out", type=Path, metavar="DIR", help="default: outputs/ in the folder")
    return parser


def write(options: argparse.Namespace) -> int:
    """Write a layout and print the command that makes the outputs."""
    from midms.io.outputs import check_output_folder
    from others.layouts import write_layout
    from others.pairs import MANIFEST, PairSource

    if not options.overwrite:
        check_output_folder(options.out, MANIFEST)
    source = PairSource(options.photos, options.pairs, options.condition, options.size, options.count)
    command = write_layout(options.layout, source, options.out, options.prompt)
    say(f"{len(source.pairs)} pairs in {options.out}; make the outputs with")
    say(command)
    return 0


def read(options: argparse.Namespace) -> int:
    """Copy outputs under the names of their pairs; 1 if pairs have none, which are named."""
    from others.outputs import Panel, collect_outputs, match_outputs, write_outputs
    from others.pairs import read_manifest

    pairs = read_manifest(options.of).pairs
    panel: Panel | None = None if options.panel is None else Panel(*options.panel)
    outputs, missing = match_outputs(pairs, collect_outputs(options.outputs, options.glob), options.by)
    if not outputs:
        raise ValueError(f"{options.outputs}: no output of any of {len(pairs)} pairs; give another --by or --glob")
    write_outputs(outputs, options.out, panel, options.overwrite)
    say(f"{len(outputs)} of {len(pairs)} outputs in {options.out}")
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        warn(f"pairs_for.py: no output of {len(missing)} pairs: {', '.join(missing[:_NAMED])}{more}")
    return 1 if missing else 0


def diffusers(options: argparse.Namespace) -> int:
    """Run IP-Adapter with ControlNet."""
    from midms.io.files import read_json
    from others.ip_adapter import load_pipeline, translate_pairs
    from others.pairs import read_manifest

    manifest = read_manifest(options.folder)
    if manifest.layout != "diffusers":
        raise ValueError(
            f"{options.folder}: pairs in the layout of {manifest.layout}; make them with `write diffusers`"
        )
    prompts = read_json(options.folder / "prompts.json")
    names = (options.base, options.controlnet, options.adapter, options.weight_name)
    pipe = load_pipeline(*names, options.scale, options.device, options.local)
    out = options.out or options.folder / "outputs"
    translate_pairs(pipe, options.folder, manifest.pairs, prompts, out, options.steps, options.seed, not options.quiet)
    say(f"{len(manifest.pairs)} outputs in {out}")
    return 0


@handle_user_errors("pairs_for.py", "stopped; run the same command again to continue")
def main(arguments: list[str] | None = None) -> int:
    """0: done; 1: pairs without an output; 2: a mistake."""
    options = build_parser().parse_args(arguments)
    return {"write": write, "read": read, "diffusers": diffusers}[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
