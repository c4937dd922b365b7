#!/usr/bin/env python
"""Write a trained pipeline in half precision, as it is shipped: python scripts/pack_weights.py SOURCE TARGET"""

from __future__ import annotations

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 on success, 2 with one line on a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="folder of weights")
    parser.add_argument("target", help="folder to write")
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"], default="float16")
    options = parser.parse_args(arguments)
    import torch  # noqa: PLC0415

    from midms.config import ConfigError  # noqa: PLC0415
    from midms.pipelines.midms import MIDMsPipeline  # noqa: PLC0415

    try:
        path = MIDMsPipeline.from_pretrained(options.source).save_pretrained(
            options.target, getattr(torch, options.dtype)
        )
    except (ConfigError, ValueError) as error:
        print(f"pack_weights.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    size = sum(file.stat().st_size for file in path.iterdir())
    print(f"{path}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
