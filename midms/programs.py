"""Error handling of all programs: a mistake of the user gives one line and an exit status, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

P = ParamSpec("P")


def handle_user_errors(program: str, stopped: str = "stopped") -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Decorate a program's `main`: it returns 2 after `PROGRAM: what is wrong`, 130 after Ctrl-C and `stopped`.

    A mistake of the user is a ValueError (`ConfigError`, `CheckpointError`, ...) or an OSError; any other error is the
    program's own and passes.
    """

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @wraps(main)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
            try:
                return main(*args, **kwargs)
            except (ValueError, OSError) as error:
                print(f"{program}: {' '.join(str(error).split())}", file=sys.stderr)
                return 2
            except KeyboardInterrupt:
                print(f"{program}: {stopped}", file=sys.stderr)
                return 130

        return guarded

    return decorate
