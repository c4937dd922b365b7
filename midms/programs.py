"""What all programs share: safe output on a terminal, mistakes as one line, a quick start and end.

Programs import this module before torch, which reads the setting of its threads when it is loaded.
"""

from __future__ import annotations

import atexit
import gc
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import NoReturn, ParamSpec, TextIO

# Threads of OpenMP spin while they wait for one another, by default so long that a second busy process makes a program
# many times slower: the spinning thread takes the time of the thread that it waits for. So many turns are as fast where
# the cores are idle. OMP_WAIT_POLICY=PASSIVE never spins, which is better still beside other work, and slower without.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

_exit_codes: list[int] = []  # one, once a program ends by `end_quickly`


def _last_handler() -> None:
    """The exit handler that runs last, because it is registered first.

    At its end Python searches all objects for garbage, which takes half a second with torch and more than one with
    Lightning, and a training that was told to stop ends so much later. Frozen objects are not searched.
    """
    gc.freeze()
    if not _exit_codes:
        return
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed before the program started
            stream.flush()
    except (OSError, ValueError):
        return  # Python's own end tries again and turns the failure into exit code 120
    os._exit(_exit_codes[-1])


atexit.register(_last_handler)

P = ParamSpec("P")
#: Longer lines are shortened to this number of characters.
LINE_LIMIT = 1000


def end_quickly(code: int) -> NoReturn:
    """End the program with an exit code, after all threads and exit handlers, but without unloading libraries.

    Unloading torch adds 120 MB to the peak memory of `midms translate`. Only for the end of a whole process: files must
    be closed by then, and nothing after the exit handlers runs.
    """
    _exit_codes.append(code)
    sys.exit(code)


def printable(text: object, limit: int | None = LINE_LIMIT) -> str:
    r"""A text as one line that is safe to print on a terminal.

    File names, keys of checkpoints and messages of libraries can hold escape sequences. A line break or tab becomes a
    space. Other characters without a glyph of their own become escapes such as ``\x1b``: those that move the cursor,
    change colours or reorder text, and spaces that look like the common one (``\xa0``).

    Args:
        limit: number of characters to keep, from the start and the end. None: all.
    """
    line = str(text)
    if limit is not None and len(line) > limit:
        line = f"{line[: limit * 2 // 3]} ... {line[-limit // 4 :]}"
    line = re.sub(r"\s*[\t\n\r\v\f]\s*", " ", line).rstrip()
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)


def say(text: object, file: TextIO | None = None) -> None:
    """Print one `printable` line to stdout, or to `file`. Characters outside the terminal's encoding are escaped."""
    stream = sys.stdout if file is None else file
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(printable(text).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def warn(text: object) -> None:
    """Print one `printable` line to stderr."""
    say(text, sys.stderr)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Import slow libraries inside the block. Their hundreds of thousands of objects live until the end of the program,
    so that they are not searched for garbage, neither inside the block nor later.
    """
    enabled, modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > modules:
            gc.freeze()
        if enabled:
            gc.enable()


def how_to_install(extra: str) -> str:
    """The command that installs an extra of this package. It names the sources, since no package index has them."""
    return f"pip install '.[{extra}]' in the folder of the project"


def handle_user_errors(program: str, stopped: str = "stopped") -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Decorate a program's `main` to print a user's mistake as `PROGRAM: message` and return 2.

    After Ctrl-C the program prints `stopped` and returns 130. A user's mistake is a ValueError (`ConfigError`,
    `CheckpointError`, ...) or an OSError. Any other error is a fault of the program and is not caught.
    """

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @wraps(main)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
            try:
                return main(*args, **kwargs)
            except (ValueError, OSError) as error:
                warn(f"{program}: {' '.join(str(error).split())}")
                return 2
            except KeyboardInterrupt:
                warn(f"{program}: {stopped}")
                return 130

        return guarded

    return decorate
