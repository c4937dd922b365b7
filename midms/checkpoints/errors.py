"""The error of this package, `CheckpointError`, and helpers for its messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class CheckpointError(ValueError):
    """A weights file or folder cannot be used. The message is one line that names the file and, if any, the key."""

    def __init__(self, source: object, problem: str) -> None:
        super().__init__(" ".join(f"{source}: {problem}".split()))


def summarise_keys(keys: Iterable[str], limit: int = 3) -> str:
    """The first few keys and the number of further ones, for a message."""
    names = [key if len(key) <= 200 else f"{key[:200]} ..." for key in sorted(keys)]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


@contextmanager
def as_checkpoint_error(source: object, what: str) -> Iterator[None]:
    """Turn errors of a block that reads sizes or settings from a foreign file into `CheckpointError`."""
    try:
        yield
    except CheckpointError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        problem = f"entry {error.args[0]!r} missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(source, f"{what} cannot be understood ({problem or type(error).__name__})") from error
