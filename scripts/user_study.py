#!/usr/bin/env python
"""Make the page of a blind ranking study, and turn its answers into a figure (Fig. 7 of the paper).

    python scripts/user_study.py make --methods ours=out/midms cocosnet=out/cocosnet \\
        --conditions conditions --exemplars exemplars --out study
    python scripts/user_study.py summarise study/key.json answers/*.json --out figure.png

`make` writes study/study.html (send it) and study/key.json (keep it). Participants send back the file that the page
saves.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

from midms.io.files import read_json, write_atomically
from midms.options import add_overwrite_option
from midms.programs import handle_user_errors


def _method(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"expected NAME=DIR, got {text!r}")
    return name, Path(folder)


def build_parser() -> argparse.ArgumentParser:
    """The command line; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write the page and its key")
    make.add_argument("--methods", type=_method, nargs="+", required=True, metavar="NAME=DIR", help="results, 2 to 10")
    make.add_argument("--conditions", type=Path, required=True, metavar="DIR", help="images of the conditions")
    make.add_argument("--exemplars", type=Path, required=True, metavar="DIR", help="exemplars, by the results' names")
    make.add_argument("--count", type=int, default=20, metavar="N", help="pairs to show (default: %(default)s)")
    make.add_argument("--seed", type=int, default=0, metavar="N", help="of pairs and orders (default: %(default)s)")
    make.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for study.html and key.json")
    add_overwrite_option(make, "an existing study, whose key the answers need")
    summarise = commands.add_parser("summarise", help="answers to numbers and a figure")
    summarise.add_argument("key", type=Path, help="key.json of the study")
    summarise.add_argument("answers", type=Path, nargs="+", help="files that participants sent")
    summarise.add_argument("--out", type=Path, metavar="FILE", help="figure (.png, .pdf, .svg)")
    add_overwrite_option(summarise, "an existing figure that midms did not write")
    summarise.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _make(args: argparse.Namespace) -> None:
    from midms.io.outputs import check_output_files
    from tables.user_study import make_study

    page_file, key_file = args.out / "study.html", args.out / "key.json"
    check_output_files([page_file, key_file], overwrite=args.overwrite, ours=lambda file: False)
    methods = dict(args.methods)
    if len(methods) != len(args.methods):
        raise ValueError("--methods: a name is given twice")
    page, key = make_study(methods, args.conditions, args.exemplars, args.count, args.seed)
    write_atomically(page_file, page)
    write_atomically(key_file, json.dumps(key, indent=2))
    print(f"{len(key['trials'])} pairs: send {page_file}, keep {key_file}")


def _summarise(args: argparse.Namespace) -> None:
    from midms.io.outputs import check_output_files
    from tables.user_study import check_key, draw_figure, preferences, read_answers

    if args.out:
        check_output_files([args.out], [args.key, *args.answers], args.overwrite)
    key = check_key(read_json(args.key), str(args.key))
    people = [read_answers(key, read_json(path), str(path)) for path in args.answers]
    results = preferences(key, people)
    if args.json:
        rows = [r._asdict() | ({"low": None, "high": None} if math.isnan(r.low) else {}) for r in results]
        print(json.dumps({"participants": len(people), "results": rows}, indent=2))
    else:
        print(f"{len(people)} participants, {len(key['trials'])} pairs; share ranked first (95 % interval), mean rank")
        for r in results:
            interval = (
                f"({r.low:.1%} to {r.high:.1%})" if math.isfinite(r.low) else "(no interval from one participant)"
            )
            print(f"{r.question:10}{r.method:20}{r.share:7.1%} {interval}{r.mean_rank:8.2f}")
    if args.out:
        draw_figure(results, len(people), args.out)


@handle_user_errors("user_study.py")
def main(argv: list[str] | None = None) -> int:
    """Parse and run one command. 0: done; 2: a mistake, named in one line."""
    args = build_parser().parse_args(argv)
    (_make if args.command == "make" else _summarise)(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
