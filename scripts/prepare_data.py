#!/usr/bin/env python
"""Make conditions, pair lists and prepared items for your own photos or a data set, and check their files.

    midms get photos                                                      # networks for the next two
    python scripts/prepare_data.py edges photos                           # photos_parts/: face parts
    python scripts/prepare_data.py keypoints photos                       # photos_poses/: candidate, subset, JSON
    python scripts/prepare_data.py segment photos --weights upernet       # photos_labels/: ADE20K classes
    python scripts/prepare_data.py pairs photos --out pairs.txt           # pair list by likeness
    python scripts/prepare_data.py cache --data celeba --root CelebAMask-HQ --split train --out prepared
    python scripts/prepare_data.py verify --data celeba --root CelebAMask-HQ
    python scripts/prepare_data.py verify --data folder --root photos --lists lists     # also train.txt and val.txt

Every command can be stopped and started again: finished files are skipped, and no file is ever half written.
docs/data.md describes the files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from midms.options import add_overwrite_option
from midms.programs import handle_user_errors

DATA = ("celeba", "deepfashion", "churches")
PART_ORDERS = ("midms", "face-parsing.PyTorch", "CelebAMask-HQ")
FEATURES = ("colour", "vgg19", "dinov2")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if _count(text) < 1:
        raise argparse.ArgumentTypeError("expected 1 or more, got 0")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """The command line; imports nothing heavy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--workers", type=_count, metavar="N",
                        help="processes (default: one per core for `midms get photos`' networks, else 0)")  # fmt: skip
    common.add_argument("--quiet", action="store_true", help="no progress bar")
    photos = argparse.ArgumentParser(add_help=False, parents=[common])
    photos.add_argument("photos", type=Path, help="folder of photos, at any depth")
    photos.add_argument("--out", type=Path, metavar="DIR", help="default: the folder beside the photos")
    network = argparse.ArgumentParser(add_help=False, parents=[photos])
    network.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    network.add_argument("--batch-size", type=_positive, default=8, metavar="N", help="default: %(default)s")

    edges = commands.add_parser(
        "edges", parents=[network], help="face parts; without networks only Canny edges, as a preview"
    )
    edges.add_argument("--parser", metavar="PATH", help="SegFormer face parser, folder or hub id (default: the "
                       "networks of `midms get photos`)")  # fmt: skip
    keypoints = commands.add_parser("keypoints", parents=[network], help="body poses, as text and as JSON")
    keypoints.add_argument("--tool", choices=("mediapipe", "rtmlib", "controlnet-aux", "convert"),
                           help="mediapipe: the networks of `midms get photos`; convert: write the form that is "
                           "missing (default: mediapipe, with --det or --weights rtmlib)")  # fmt: skip
    keypoints.add_argument("--det", metavar="FILE", help="rtmlib: detector (ONNX)")
    keypoints.add_argument(
        "--weights", metavar="FILE", help="rtmlib: pose network (ONNX); controlnet-aux: body_pose.pth"
    )
    segment = commands.add_parser("segment", parents=[network], help="ADE20K class maps")
    segment.add_argument("--weights", default="openmmlab/upernet-swin-small", metavar="PATH",
                         help="UperNet, folder or hub id (default: %(default)s)")  # fmt: skip

    pairs = commands.add_parser("pairs", parents=[network], help="pair list by similarity of the photos")
    pairs.add_argument("--names", type=Path, metavar="FILE", help="photos of one split, one name per line, such as "
                       "train.txt (default: all)")  # fmt: skip
    pairs.add_argument("--key-names", type=Path, metavar="FILE", help="exemplars of one split (default: --names)")
    pairs.add_argument("--keys", type=Path, metavar="DIR", help="folder of the exemplars (default: the photos)")
    pairs.add_argument("--features", choices=FEATURES, default="colour", help="default: %(default)s, needs no weights")
    pairs.add_argument("--weights", type=Path, metavar="FILE", help="weights of the features' network")
    pairs.add_argument(
        "--count", type=_positive, metavar="K", help="exemplars per line (default: 20, or as many as there are)"
    )
    pairs.add_argument("--identities", metavar="FILE", help="never pair a person with themselves: lines "
                       "`photo identity`, or `folder` if each person has a folder")  # fmt: skip
    add_overwrite_option(pairs, "an existing list")
    _add_data_set_commands(commands, common)
    return parser


def _add_data_set_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """The commands that read a whole data set: cache and verify."""
    cache = commands.add_parser("cache", parents=[common], help="prepared items")
    verify = commands.add_parser("verify", parents=[common], help="list every faulty file")
    for command, kinds in ((cache, DATA), (verify, (*DATA, "folder"))):
        command.add_argument("--data", choices=kinds, required=True)
        command.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the data set")
    cache.add_argument("--split", choices=("train", "val"), default="train", help="default: %(default)s")
    cache.add_argument("--size", type=_positive, default=256, help="default: %(default)s")
    cache.add_argument("--out", type=Path, required=True, metavar="DIR", help="cache_folder of the data set")
    folder = verify.add_argument_group("--data folder")
    folder.add_argument("--condition", choices=("edges", "keypoints", "segmentation"), default="edges",
                        help="default: %(default)s")  # fmt: skip
    folder.add_argument("--pairs", type=Path, metavar="FILE", help="pair list")
    folder.add_argument("--annotations", type=Path, metavar="DIR", help="default: beside the photos")
    folder.add_argument("--classes", type=_positive, default=151, metavar="N", help="of --condition segmentation "
                        "(default: %(default)s)")  # fmt: skip
    folder.add_argument("--lists", type=Path, metavar="DIR", help="write the photos without a fault as train.txt "
                        "and, a tenth of them, val.txt")  # fmt: skip
    add_overwrite_option(folder, "existing lists")
    folder.add_argument("--part-order", choices=PART_ORDERS, default="midms", help="of the part ids "
                        "(default: %(default)s)")  # fmt: skip


@handle_user_errors("prepare_data.py", stopped="stopped; run the same command again to continue")
def main(arguments: Sequence[str] | None = None) -> int:
    """0: done; 1: `verify` found faults, or photos could not be read; 2: a mistake."""
    options = build_parser().parse_args(arguments)
    from midms.data import preparation

    return int(getattr(preparation, options.command)(options))


if __name__ == "__main__":
    sys.exit(main())
