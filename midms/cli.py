"""The program `midms`: translate two pictures, say how a picture was made, get networks, start the app.

midms translate --condition sketch.png --exemplar photo.jpg --out out.png
midms show out.png                    # the command that made it
midms info demo                       # what weights take
midms samples --out samples.png       # pictures to try: --condition sample:1 --exemplar sample:5
midms get photos                      # the networks that read photos of people
midms app                             # in the browser
midms completion bash                 # completion of these words, for `source <(midms completion bash)`
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from midms.options import add_computing_options, add_loop_options, add_overwrite_option, between
from midms.programs import end_quickly, handle_user_errors, no_garbage_collection, say, warn


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line, built without importing torch."""
    from midms import __version__

    parser = argparse.ArgumentParser(
        prog="midms", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"midms {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_translate(commands.add_parser("translate", help="translate a condition into the style of an exemplar"))
    show = commands.add_parser("show", help="print the command that made a picture")
    show.add_argument("picture", type=Path, help="PNG made by `midms translate` or the app")
    show.add_argument("files", type=Path, nargs="*", help="check whether the picture was made from these files")
    show.add_argument("--json", action="store_true", help="print the whole record as JSON")
    info = commands.add_parser("info", help="describe weights: method, task, size, condition and settings")
    info.add_argument("weights", nargs="?", default="demo", help="folder, shipped name or hub id (default: demo)")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    samples = commands.add_parser("samples", help="list or draw the conditions and exemplars of the package")
    samples.add_argument("weights", nargs="?", default="demo", help="folder, shipped name or hub id (default: demo)")
    samples.add_argument("--out", type=Path, metavar="FILE", help="PNG of all samples with their names")
    add_overwrite_option(samples)
    get = commands.add_parser("get", help="download the networks that make conditions from photos of people")
    get.add_argument("what", choices=("photos",), help="four networks of MediaPipe (Apache-2.0), 8 MB of a 36 MB wheel")
    get.add_argument(
        "--from", dest="wheel", type=Path, metavar="FILE", help="the wheel on this disk, for machines without internet"
    )
    completion = commands.add_parser("completion", help="print a script that completes these commands in a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    app = commands.add_parser(
        "app", help="start the app in the browser; `midms app --help` lists its options", add_help=False
    )
    app.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _add_translate(parser: argparse.ArgumentParser) -> None:
    from midms.conditions.kinds import KINDS

    parser.description = "Make the picture that has the condition's content and the exemplar's style."
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument("--condition", type=Path, required=True, metavar="FILE",
                       help="drawing, photo, joints, map of classes, condition maps (.npy, .npz), or a sample of "
                       "the package: sample:1 ... sample:24")  # fmt: skip
    inputs.add_argument("--condition-kind", choices=KINDS, help="default: by the file's ending and the weights")
    inputs.add_argument("--condition-weights", nargs="+", default=[], metavar="PATH", help="of a network that "
                       "annotates a photo instead of those of `midms get photos`: SegFormer face parser, pose network, "
                       "UperNet")  # fmt: skip
    inputs.add_argument("--no-align", dest="align", action="store_false", help="use a portrait photo as it is "
                       "(default: rotate and crop the face as in CelebA-HQ)")  # fmt: skip
    inputs.add_argument(
        "--condition-size", type=_size, metavar="WxH", help="size of the photo that the joints belong to"
    )
    inputs.add_argument("--exemplar", type=Path, nargs="+", required=True, metavar="FILE",
                       help="photo or sample whose style to take; of several, each position uses the best "
                       "match")  # fmt: skip
    inputs.add_argument("--exemplar-mask", type=Path, nargs="+", default=[], metavar="FILE",
                       help="one mask per exemplar, white where the exemplar may be used")  # fmt: skip
    inputs.add_argument("--exemplar-condition", type=Path, nargs="+", default=[], metavar="FILE",
                       help="one per exemplar: its condition maps, for weights of the released form")  # fmt: skip
    inputs.add_argument("--weights", default="demo", help="folder, shipped name or hub id (default: demo)")
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="PNG of the result; it also records the settings"
    )
    outputs.add_argument(
        "--steps-picture", type=Path, metavar="FILE", help="PNG: the iterations (the paper's Figure 3)"
    )
    outputs.add_argument("--predictions-picture", type=Path, metavar="FILE",
                      help="PNG: the x0 prediction of every step (Figure 11)")  # fmt: skip
    outputs.add_argument(
        "--correspondence-picture", type=Path, metavar="FILE", help="PNG: which positions were matched"
    )
    outputs.add_argument(
        "--animation", type=Path, nargs="+", default=[], metavar="FILE", help=".gif or .webp: animation of the loop"
    )
    add_overwrite_option(outputs)
    how = parser.add_argument_group("settings (default: those saved with the weights)")
    add_loop_options(how)
    how.add_argument("--size", type=between(16, 2048), metavar="PIXELS", help="side to work on pictures "
                     "at, in their own aspect ratio (default: the size the weights were trained with)")  # fmt: skip
    add_computing_options(how)
    how.add_argument("--threads", type=between(1, 1024), metavar="N", help="CPU threads")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, such as 750x1101, got {text!r}")
    return int(match[1]), int(match[2])


def show(options: argparse.Namespace) -> None:
    """Print the command that made a picture, and to stderr its notes and the differences since then."""
    from midms.io.provenance import changed_files, read_settings, recorded_command, recorded_notes

    settings = read_settings(options.picture)
    command = recorded_command(settings)
    if options.json or command is None:
        if not options.json and "command" in settings:
            warn("midms show: the recorded command is not a `midms translate` command; the whole record:")
        print(json.dumps(settings, indent=2, sort_keys=True).replace("\x7f", "\\u007f"))
    else:
        print(command)
    for note in recorded_notes(settings):
        warn(f"midms show: note: {note}")
    for change in changed_files(settings, options.files):
        warn(f"midms show: {change}")


def get_photos(options: argparse.Namespace) -> None:
    """Install the networks that read photos into the cache, and print their folder."""
    from midms.conditions.photos.models import LICENCE, PACKAGE, get_models

    folder = get_models(options.wheel)
    say(f"{folder}: networks of {PACKAGE.replace('==', ' ')}, Apache-2.0 ({folder / LICENCE})")


def completion_script(shell: str) -> str:
    """The script that completes the commands and options of this program, and the names of files, in a shell."""
    import shtab

    parser = build_parser()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for command in commands.choices.values():
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks
    return shtab.complete(parser, shell)


def start_app(arguments: Sequence[str]) -> int:
    """Start `midms.app` with the remaining arguments."""
    from midms.app.__main__ import main as app

    return app(list(arguments))


def run(options: argparse.Namespace) -> int:
    """Run any command except `app`."""
    if options.command == "show":
        show(options)
    elif options.command == "get":
        get_photos(options)
    elif options.command == "info":
        with no_garbage_collection():
            from midms.translate import describe_weights

        print(describe_weights(options.weights, options.json))
    elif options.command == "samples":
        with no_garbage_collection():
            from midms.translate import show_samples

        say(show_samples(options.weights, options.out, options.overwrite))
    elif options.command == "completion":
        print(completion_script(options.shell))
    else:
        with no_garbage_collection():
            from midms.translate import translate

        for line in translate(options):
            warn(line)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 0, or 2 after one line on a user's mistake."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["app"]:  # `midms.app` parses its own options
        return start_app(words[1:])
    options = build_parser().parse_args(words)
    return handle_user_errors(f"midms {options.command}")(run)(options)


def program() -> NoReturn:
    """Run the command line of this process, and end the process."""
    end_quickly(main())


if __name__ == "__main__":
    program()
