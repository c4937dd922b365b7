"""Check foreign JSON against the declaration of its content: a pydantic model, or any annotation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from midms.io.files import BrokenFileError, read_json

_SHOWN = 60  # characters of a wrong value in a message


def check_content(declared: Any, content: Any, file: str | Path, what: str) -> Any:
    """Check `content` and return it as an instance of `declared`.

    Args:
        declared: a pydantic model, or an annotation such as ``dict[str, str]``.
        content: result of `read_json`.
        file: the source of `content`, for messages.
        what: description of the expected file, for messages, such as "an OpenPose file".
    Raises:
        BrokenFileError: a value is missing, of another type or out of range. The message names the first such value.
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
    """The content of a JSON file, checked by `check_content`.

    Raises:
        BrokenFileError: as `check_content`, and if the file is missing or no JSON.
    """
    return check_content(declared, read_json(file), file, what)
