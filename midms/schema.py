"""Declare type, range and unit of a foreign value once, as the annotation of a parameter or field.

The annotation is used to check configs (`check_keywords`), to write error messages and `--help` (`describe`, `rows`),
and to parse numbers on a command line (`argument`). pydantic checks without conversions: text is not accepted as a
number, nor true as 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Interval, Le, Len, Lt, Predicate

Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
#: A seed for numpy and torch.
Seed = Annotated[int, Interval(ge=0, le=2**32 - 1)]
NonNegative = Annotated[float, Interval(ge=0, lt=math.inf)]
Positive = Annotated[float, Interval(gt=0, lt=math.inf)]
Share = Annotated[float, Interval(ge=0, le=1)]
#: Channels of a layer. The bound prevents a typing mistake from exhausting the memory.
Channels = Annotated[int, Interval(ge=1, le=16384)]
#: A channel count or a factor for each of a few layers.
Widths = Annotated[Sequence[Channels], Len(1, 16)]
#: Pixels per side.
Pixels = Annotated[int, Interval(ge=1, le=65536)]
Text = Annotated[str, Len(1, 1000), Predicate(str.isprintable)]


class ConfigError(ValueError):
    """A config cannot be used. The message is one line."""


@dataclasses.dataclass(frozen=True)
class Doc:
    """Purpose and unit of a key, for `--help` and the documentation."""

    text: str


@dataclasses.dataclass(frozen=True)
class Keywords:
    """Marks a mapping that holds the keyword arguments of a class or function, or the keys of a TypedDict.

    Attributes:
        reader: dotted name of the class, function or TypedDict, so that the annotated module need not import it.
    """

    reader: str


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word most similar to `word`, or lists all known words."""
    known = sorted(known)
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {match[0]!r}?" if match else f"known: {', '.join(known)}"


def shown(value: Any, limit: int = 80) -> str:
    """A value for a message: its `repr`, shortened, without line breaks and control characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def check_argument_names(caller: str, known: type, options: Mapping[str, Any]) -> None:
    """Check the names of the keyword arguments that a function takes as `**options: Unpack[known]`.

    Args:
        caller: name of the function, for the message.
        known: a TypedDict.
    Raises:
        TypeError: a name is not a key of `known`. The message lists the keys.
    """
    names = sorted(known.__annotations__)
    for name in options:
        if name not in names:
            raise TypeError(f"{caller}: got an unknown argument {name!r}, expected some of {', '.join(names)}")


def parameters_of(reader: Any) -> dict[str, tuple[Any, bool]]:
    """Parameters of a class, function, dataclass or TypedDict: name -> (annotation, whether it is required).

    Keyword arguments that a constructor passes on to its base class are included.
    """
    if typing.is_typeddict(reader):
        hints = typing.get_type_hints(reader, include_extras=True)
        return {name: (hint, name in reader.__required_keys__) for name, hint in hints.items()}
    hints = {}
    for function in _constructors(reader):
        hints |= typing.get_type_hints(function, include_extras=True)
    found = inspect.signature(reader).parameters.values()
    return {p.name: (hints.get(p.name, Any), p.default is p.empty) for p in found if p.kind is not p.VAR_KEYWORD}


def _constructors(reader: Any) -> list[Any]:
    """The function itself, or the constructors of a class and its bases, the bases first."""
    if not inspect.isclass(reader):
        return [reader]
    return [vars(base)["__init__"] for base in reversed(reader.__mro__[:-1]) if "__init__" in vars(base)]


def check_keywords(reader: Any, values: Any, path: str, check: Callable[[Any, Any, str], None] | None = None) -> None:
    """Check a mapping against its reader's parameters: no unknown or missing key, and each value in its range.

    Args:
        reader: a class, function, dataclass or TypedDict.
        values: the mapping.
        path: of the mapping in its config, for messages.
        check: function that checks one value. None: `check_value`.
    Raises:
        ConfigError: a key or value does not fit. The message names the key, its value and the expected one.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: got {shown(values)}, expected a mapping")
    known = parameters_of(reader)
    for key in values:
        if key not in known:
            raise ConfigError(f"unknown key {path}.{key}; {nearest(str(key), known)}")
    missing = [name for name, (_, needed) in known.items() if needed and name not in values]
    if missing:
        raise ConfigError(f"{path}.{missing[0]}: is missing, expected {describe(known[missing[0]][0])}")
    for key, value in values.items():
        (check or check_value)(known[key][0], value, f"{path}.{key}")


def check_value(annotation: Any, value: Any, path: str) -> None:
    """Check one value against an annotation.

    Raises:
        ConfigError: the value has another type or is out of range.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - a tenth of a second to import

    marks = [mark for mark in _metadata(annotation) if isinstance(mark, Keywords)]
    if marks and value is not None:
        check_keywords(find(marks[0].reader), value, path)
        return
    try:
        _adapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        places = "".join(f"[{step}]" for step in _place(value, error.errors()[0]["loc"]))
        at = f" at {places}" if places else ""
        raise ConfigError(f"{path}: got {shown(value)}{at}, expected {describe(annotation)}") from None


def _place(value: Any, steps: Sequence[Any]) -> list[Any]:
    """The steps of a pydantic location that lead into the value itself, without the names of union members."""
    found = []
    for step in steps:
        if isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        elif isinstance(value, Mapping) and step in value:
            value = value[step]
        else:
            continue
        found.append(step)
    return found


@cache
def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter  # noqa: PLC0415 - see `check_value`

    plain = not (inspect.isclass(annotation) and hasattr(annotation, "__dataclass_fields__"))
    return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True) if plain else None)


def find(name: str) -> Any:
    """The object with a dotted name in this package."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _metadata(annotation: Any) -> list[Any]:
    """All metadata of an annotation, including that inside an optional one."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        return [*_metadata(inner), *marks]
    if get_origin(annotation) in (Union, types.UnionType):
        return [mark for part in get_args(annotation) for mark in _metadata(part)]
    return []


def accepted_classes(annotation: Any) -> tuple[type, ...]:
    """The classes in an annotation that only a node with a `target` can build: data sets, networks."""
    origin = get_origin(annotation)
    if origin in (Annotated, Union, types.UnionType):
        parts = get_args(annotation)[:1] if origin is Annotated else get_args(annotation)
        return tuple(found for part in parts for found in accepted_classes(part))
    plain = origin or annotation
    builtin = not inspect.isclass(plain) or plain.__module__ in ("builtins", "pathlib", "collections.abc", "typing")
    return () if builtin or plain is types.NoneType else (plain,)


def describe(annotation: Any) -> str:
    """An annotation in words: "a whole number >= 1, or null"."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = [limit for mark in parts[1:] for limit in _limits(mark)]
        said = " ".join([describe(parts[0]), " and ".join(limits)]).strip()
        return said.replace("text (1 to 1000 of them)", "printable text")
    if origin in (Union, types.UnionType):
        choices = dict.fromkeys(describe(part) for part in parts if part is not types.NoneType)
        return " or ".join(choices) + (", or null" if types.NoneType in parts else "")
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a mapping to {describe(parts[1])}" if parts[1] is not Any else "a mapping"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"a list, each item {describe(parts[0])}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Any: "anything"}
    name = getattr(annotation, "__name__", str(annotation))
    return words.get(annotation, "a path" if name == "Path" else f"a node with the target of a {name}")


def _limits(mark: Any) -> list[str]:
    """A range in words. An infinite bound is left out, because it only means that the number is finite."""
    if isinstance(mark, Len):
        return [] if mark.max_length is None else [f"({mark.min_length} to {mark.max_length} of them)"]
    if not isinstance(mark, Interval | Ge | Gt | Le | Lt):
        return []
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = {name: getattr(mark, name, None) for name in signs}
    return [f"{sign} {bounds[n]}" for n, sign in signs.items() if bounds.get(n) not in (None, math.inf)]


def rows(settings: type) -> list[tuple[str, str, str, str]]:
    """One row (key, allowed values, default, purpose) per field of a dataclass of settings."""
    hints = typing.get_type_hints(settings, include_extras=True)
    found = []
    for field in dataclasses.fields(settings):
        needed = field.default is dataclasses.MISSING
        text = next((mark.text for mark in _metadata(hints[field.name]) if isinstance(mark, Doc)), "")
        default = "" if needed else "null" if field.default is None else str(field.default).lower()
        found.append((field.name, describe(hints[field.name]), default, text))
    return found


def argument(annotation: Any) -> Callable[[str], Any]:
    """The `type=` of an argparse option for a number with this annotation."""
    return partial(_number, annotation)


def _number(annotation: Any, text: str) -> Any:
    value: Any = text
    if re.fullmatch(r"[+-]?\d+", text):
        value = int(text) if len(text) < 400 else text
    elif re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        value = float(text)
    try:
        check_value(annotation, value, "value")
    except ConfigError:
        raise argparse.ArgumentTypeError(f"got {shown(text)}, expected {describe(annotation)}") from None
    return value
