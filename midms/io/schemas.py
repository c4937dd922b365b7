"""JSON from outside against the declaration of what may stand in it: a pydantic model, or any annotation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from midms.io.files import BrokenFileError, read_json

_SHOWN = 60  # characters of a wrong value in a message


def check_content(declared: Any, content: Any, file: str | Path, what: str) -> Any:
    """`content` as `declared` says.

    Args:
        declared: a pydantic model, or an annotation such as ``dict[str, str]``.
        content: what `read_json` gives.
        file: where `content` comes from, for messages.
        what: what the file should be, for messages: "an OpenPose file".
    Raises:
        BrokenFileError: something in it is missing, of another type or out of range; the first such place is named.
    """
    try:
        return TypeAdapter(declared).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        found = repr(first["input"])
        found = found if len(found) <= _SHOWN else f"{found[:_SHOWN]}..."
        message = f"not {what} ({f'{place}: ' if place else ''}{first['msg']}, got {found})"
        raise BrokenFileError(Path(file), message) from None


def read_checked(declared: Any, file: str | Path, what: str) -> Any:
    """What a JSON file holds, as `check_content` gives it.

    Raises:
        BrokenFileError: also where the file is missing or no JSON.
    """
    return check_content(declared, read_json(file), file, what)
