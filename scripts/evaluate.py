#!/usr/bin/env python
"""Measure folders of generated images, of MIDMs or of any other method.

    python scripts/evaluate.py --generated out --reference photos --exemplars exemplars
    python scripts/evaluate.py --generated ours=out a=out_a b=out_b --reference photos --latex t.tex --report page.html
    python scripts/evaluate.py --generated out --reference photos --metrics fid,swd --protocol clean --json
    torchrun --nproc-per-node 4 scripts/evaluate.py --generated out --reference photos --cache features

Images that belong together have the same name up to the extension. Several methods (NAME=DIR) are compared pair by
pair. docs/protocols.md explains each number.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midms.options import add_overwrite_option
from midms.programs import handle_user_errors, warn

if TYPE_CHECKING:
    from midms.evaluation.comparison import MethodComparison
    from midms.evaluation.suite import Folders, Options, Result

METRICS: tuple[str, ...] = ("fid", "kid", "swd", "lpips", "psnr", "lpips_truth", "style", "semantic", "truth")
METRICS += ("clip", "structure", "background")
FOLDERS = ("generated", "reference", "exemplars", "truth", "labels", "masks", "prompts")
PROTOCOLS = ("paper", "torch-fidelity", "clean")
TESTS = ("t", "wilcoxon")
FILES = ("report", "latex", "csv")
COSINES = ("channel-mean", "channel-variance", "position", "flat", "gram")


def _metric_list(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        wrong = f"unknown metric {unknown[0]!r}" if unknown else "no metric named"
        raise argparse.ArgumentTypeError(f"{wrong}; expected some of {', '.join(METRICS)}")
    return names


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """The command line; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    folders = parser.add_argument_group("folders")
    folders.add_argument("--generated", nargs="+", required=True, metavar="[NAME=]DIR", help="outputs of a method, or "
                         "of several methods with their names")  # fmt: skip
    folders.add_argument("--reference", type=Path, metavar="DIR", help="photographs of the conditions, or any real set")
    folders.add_argument("--exemplars", type=Path, metavar="DIR", help="exemplars, by the outputs' names")
    folders.add_argument("--truth", type=Path, metavar="DIR", help="true translations, where they are known")
    folders.add_argument("--labels", type=Path, metavar="DIR", help="label maps of the conditions, for `semantic`")
    folders.add_argument("--masks", type=Path, metavar="DIR", help="objects (non-zero), for `background`")
    folders.add_argument("--prompts", type=Path, metavar="FILE", help="JSON, name -> target prompt, for `clip`")
    how = parser.add_argument_group("how to measure")
    how.add_argument(
        "--metrics",
        type=_metric_list,
        metavar="A,B",
        help=f"of {','.join(METRICS)} (default: all that the given folders allow)",
    )
    how.add_argument("--protocol", choices=PROTOCOLS, default="paper", help="of FID and KID (default: %(default)s)")
    how.add_argument("--size", type=_positive, metavar="N", help="resize all images to N x N first")
    how.add_argument("--batch-size", type=_positive, default=16, metavar="N", help="default: %(default)s")
    how.add_argument("--seed", type=_natural, default=0, metavar="N", help="of SWD and KID (default: %(default)s)")
    how.add_argument("--seeds", type=_positive, default=1, metavar="N", help="average SWD over N seeds")
    how.add_argument("--fid-infinity", action="store_true", help="also extrapolate FID to infinitely many outputs")
    how.add_argument("--style-cosine", choices=COSINES, default="channel-mean", help="default: %(default)s")
    how.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    how.add_argument("--cache", type=Path, metavar="DIR", help="keep features in this folder; a second run reuses them")
    several = parser.add_argument_group("several methods")
    several.add_argument("--common", action="store_true", help="compare the pairs that all methods have, where some "
                         "lack outputs")  # fmt: skip
    several.add_argument("--paired-test", choices=TESTS, default="t", help="default: %(default)s")
    nets = parser.add_argument_group("network files (default: torch's cache; a missing file is named)")
    nets.add_argument("--inception", type=Path, metavar="FILE", help="weights-inception-2015-12-05-6726825d.pth")
    nets.add_argument("--vgg19", type=Path, metavar="FILE", help="vgg19_conv.pth, or torchvision's")
    nets.add_argument("--vgg19-weights", choices=("caffe", "torchvision"), default="caffe", help="default: %(default)s")
    nets.add_argument("--lpips", type=Path, metavar="FILE", help="torchvision's AlexNet or VGG-16")
    nets.add_argument("--lpips-backbone", choices=("alex", "vgg"), default="alex", help="default: %(default)s")
    nets.add_argument("--clip", metavar="DIR", help="CLIP as a folder or hub name (default: ViT-L/14 of OpenAI)")
    nets.add_argument("--dino", metavar="DIR", help="DINO ViT as a folder or hub name (default: ViT-B/8)")
    out = parser.add_argument_group("output")
    out.add_argument("--json", action="store_true", help="print JSON instead of a table")
    out.add_argument("--per-image", action="store_true", help="with --json: also the numbers of each image")
    out.add_argument("--report", type=Path, metavar="FILE", help="also write one self-contained HTML page")
    out.add_argument("--latex", type=Path, metavar="FILE", help="also write the table as LaTeX, with its footnotes")
    out.add_argument("--csv", type=Path, metavar="FILE", help="also write the table as comma-separated values")
    add_overwrite_option(out)
    out.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _methods(parser: argparse.ArgumentParser, values: list[str]) -> dict[str, Path]:
    """Name -> folder of outputs; a single folder needs no name and gets its own path."""
    if len(values) == 1 and ("=" not in values[0] or Path(values[0]).is_dir()):
        return {values[0]: Path(values[0])}
    methods: dict[str, Path] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not (name and equals and path):
            parser.error(f"--generated: several methods need names, NAME=DIR, got {value!r}")
        if name in methods:
            parser.error(f"--generated: two methods are called {name!r}; give each its own name")
        methods[name] = Path(path)
    return methods


def _table(results: list[Result]) -> str:
    lines = []
    for result in results:
        if result.status == "skipped":
            lines.append(f"{result.metric:24} skipped: {result.reason}")
        for name, value in result.values.items():
            error = result.standard_errors.get(name)
            spread = f" +- {error:.4g}" if error is not None and math.isfinite(error) else ""
            lines.append(f"{name:24} {value:.6g}{spread}")
        if result.status == "ok":
            counts = ", ".join(f"{count} {role}" for role, count in result.images.items())
            lines.append(f"    {result.protocol}; {counts}")
            lines += [f"    left out of {role}, no images: {what}" for role, what in result.left_out.items()]
    return "\n".join(lines)


def _as_json(args: argparse.Namespace, comparison: MethodComparison, versions: dict[str, str]) -> str:
    """The record of one method ("results"), or of several ("methods", "comparisons", "table")."""
    record: dict[str, Any] = {role: str(path) for role in FOLDERS if (path := getattr(args, role)) is not None}
    methods = {
        name: [result.as_dict(args.per_image) for result in results] for name, results in comparison.results.items()
    }
    if len(methods) == 1:
        record |= {"generated": str(next(iter(args.methods.values()))), "results": next(iter(methods.values()))}
    else:
        record["generated"] = {name: str(path) for name, path in args.methods.items()}
        record |= {"pairs": len(comparison.names), "missing": comparison.missing, "methods": methods}
        record["comparisons"] = [row._asdict() for row in comparison.comparisons]
        record["table"] = comparison.table.as_dict()
    record["versions"] = versions
    return json.dumps(_finite(record), indent=2)


def _finite(value: Any) -> Any:
    """The same data with infinite and undefined numbers as text, because JSON lacks them."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Before measuring, stop at errors and warn of unusual input."""
    import torch

    from midms.io.outputs import check_output_files

    for name in FILES:
        path = getattr(args, name)
        if path and not path.resolve().parent.is_dir():
            parser.error(f"--{name}: no folder {path.resolve().parent}")
        if path and path.is_dir():
            parser.error(f"--{name}: {path} is a folder, give a file in it")
    named = [getattr(args, name) for name in (*FOLDERS[1:], "inception", "vgg19", "lpips")]
    outputs = [path for name in FILES if (path := getattr(args, name))]
    check_output_files(outputs, [*args.methods.values(), *filter(None, named)], args.overwrite)
    if args.cache and args.cache.is_file():
        parser.error(f"--cache: {args.cache} is a file, give a folder")
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f"--device {args.device}: not usable here ({str(error).splitlines()[0]}); use --device cpu")
    for role in ("reference", "exemplars", "truth"):
        others = [path.resolve() for path in args.methods.values()]
        if (path := getattr(args, role)) is not None and path.resolve() in others:
            print(f"evaluate.py: --{role} is the folder of --generated: it compares with itself", file=sys.stderr)


def _write(args: argparse.Namespace, folders: Folders, comparison: MethodComparison, versions: dict[str, str]) -> None:
    """Write the requested files."""
    from midms.evaluation.comparison import comparison_csv
    from midms.evaluation.comparison_report import write_comparison_report
    from midms.evaluation.report import write_report
    from midms.evaluation.tables import latex
    from midms.io.files import write_atomically

    if args.latex:
        tables = [comparison.table, *([comparison.differences] if comparison.comparisons else [])]
        write_atomically(args.latex, "\n".join(latex(table) for table in tables))
    if args.csv:
        write_atomically(args.csv, comparison_csv(comparison))
    if args.report and len(args.methods) > 1:
        write_comparison_report(args.report, args.methods, folders, comparison, versions)
    elif args.report:
        write_report(args.report, folders, next(iter(comparison.results.values())), versions)


def _answer(args: argparse.Namespace, folders: Folders, comparison: MethodComparison) -> int:
    """Print, write the files, and name requested metrics that are missing."""
    from midms.evaluation.suite import expand, library_versions
    from midms.evaluation.tables import markdown

    versions, several = library_versions(), len(args.methods) > 1
    everything = [result for results in comparison.results.values() for result in results]
    if args.json:
        print(_as_json(args, comparison, versions))
    else:
        print(markdown(comparison.table) if several else _table(everything))
    _write(args, folders, comparison, versions)
    requested = set(expand(args.metrics)) if args.metrics else set()
    skipped = {
        f"{result.metric} was skipped: {result.reason}": None
        for result in everything
        if result.status == "skipped" and result.metric in requested
    }
    for line in skipped:
        warn(f"evaluate.py: {line}")
    if not skipped and not any(result.status == "ok" for result in everything):
        warn("evaluate.py: no metric could be computed")
        return 2
    return 2 if skipped else 0


def _options(args: argparse.Namespace) -> Options:
    """The options of the measurement."""
    from midms.evaluation.suite import Options

    fields = (
        *("protocol", "size", "batch_size", "seed", "seeds", "fid_infinity", "device", "inception", "vgg19"),
        *("vgg19_weights", "lpips", "lpips_backbone", "style_cosine", "cache"),
    )
    named = {name: value for name in ("clip", "dino") if (value := getattr(args, name)) is not None}
    return Options(**{name: getattr(args, name) for name in fields}, **named, progress=not args.quiet)


@handle_user_errors("evaluate.py", "stopped; with --cache DIR the same command continues from the features kept there")
def main(argv: list[str] | None = None) -> int:
    """Parse, measure, print. 0: every named metric has its numbers; 2: a mistake, or a named metric was skipped."""
    parser = build_parser()
    args = parser.parse_args(argv)
    args.methods = _methods(parser, args.generated)
    _check(parser, args)
    import torch

    from midms.evaluation.comparison import compare_methods
    from midms.evaluation.rows import rank_and_world
    from midms.evaluation.suite import Folders
    from midms.progress import one_progress

    distributed = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if distributed:
        torch.distributed.init_process_group("gloo")
    others = {role: getattr(args, role) for role in FOLDERS if role != "generated"}
    folders = Folders(next(iter(args.methods.values())), **others)
    with one_progress("evaluation", hidden=args.quiet or rank_and_world()[0] > 0):
        comparison = compare_methods(args.methods, folders, _options(args), args.metrics, args.common, args.paired_test)
    if distributed:
        rank = torch.distributed.get_rank()
        torch.distributed.destroy_process_group()
        if rank > 0:
            return 0
    return _answer(args, folders, comparison)


if __name__ == "__main__":
    sys.exit(main())
