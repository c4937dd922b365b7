#!/usr/bin/env python
"""Turn a published weights file into our format, or one of our folders into a file the released code reads.

    python scripts/convert_checkpoint.py model.ckpt --to weights/celebahq-ldm --config config.yaml
    python scripts/convert_checkpoint.py midms_celebA_finetuned.pth --to weights/midms-celeba
    python scripts/convert_checkpoint.py vgg19_conv.pth --to weights/vgg19
    python scripts/convert_checkpoint.py ldm-celebahq-256/ --to weights/celebahq-ldm
    python scripts/convert_checkpoint.py weights/midms-celeba --to-released midms.pth

The layout is recognised by its keys. Pickled files are read without running anything they contain.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from midms.programs import handle_user_errors, say


def report(ignored: dict[str, list[str]]) -> None:
    """Print what was left out, and why."""
    for reason, keys in ignored.items():
        say(f"  left out {len(keys)} key(s), e.g. {keys[0]}: {reason}")


@handle_user_errors("convert_checkpoint.py")
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="weights file, diffusers folder, or (--to-released) our folder")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--to", type=Path, metavar="DIR", help="folder to write in our format")
    target.add_argument("--to-released", type=Path, metavar="FILE", help="file to write in the released layout")
    parser.add_argument("--config", type=Path, metavar="YAML", help="config published with the file, read as data")
    parser.add_argument(
        "--ema", action="store_true", help="LDM: averaged U-Net weights; MIDMs: add them as the refining model"
    )
    options = parser.parse_args(arguments)
    if options.to_released and (options.config or options.ema):
        parser.error("--config and --ema go with --to only")

    from midms.checkpoints.convert import convert_to_folder, convert_to_released

    if options.to_released:
        keys = convert_to_released(options.source, options.to_released)
        say(f"{options.to_released}: {len(keys)} tensors in the released layout")
    else:
        result = convert_to_folder(options.source, options.to, options.config, options.ema)
        parts = ", ".join(f"{name} ({len(state)} tensors)" for name, state in result.states.items())
        say(f"{options.to}: {result.info['converted_from']['kind']}: {parts}")
        report(result.ignored)
    return 0


if __name__ == "__main__":
    sys.exit(main())
