"""Values from outside: types and ranges, and the words for them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict

import pytest

from midms.schema import (
    ConfigError,
    Count,
    Doc,
    Keywords,
    NonNegative,
    Seed,
    Share,
    Text,
    Widths,
    argument,
    check_keywords,
    check_value,
    describe,
    parameters_of,
    rows,
)
from midms.settings import RunSettings, TrainerSettings


class Form(TypedDict, total=False):
    """Keys of a mapping."""

    kind: Literal["vq", "kl"]
    channels: Count


class Base:
    """Takes keyword arguments, which its subclass hands on."""

    def __init__(self, *, share: Share = 0.5) -> None:
        self.share = share


class Reader(Base):
    """Takes a count and a form."""

    def __init__(
        self, count: Count, form: Annotated[Mapping[str, Any], Keywords("test_schema.Form")] | None = None
    ) -> None:
        super().__init__()
        self.count, self.form = count, form


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (Count, [1, 7], [0, -1, True, 2.0, "2", None, [1], float("nan")]),
        (Count | None, [None, 1], [0, "off", False]),
        (Seed, [0, 2**32 - 1], [-1, 2**32, None, "x", 10**400]),
        (NonNegative, [0, 0.5, 3], [-1e-9, float("inf"), float("nan"), True, "1e-4", 10**400]),
        (Share, [0, 1.0], [1.5, -0.1]),
        (Widths, [[1, 2]], [[], ["x"], [0], 3, "12", [1] * 17, [10**9], {"0": 1}]),
        (Text, ["runs"], ["", "a\x1b[2J", "a\nb", 3, True, "x" * 1001]),
        (Literal["a", "b"], ["a"], ["c", None, 1]),
        (Mapping[str, NonNegative], [{}, {"a": 1}], [{"a": -1}, {"a": "x"}, {1: 1}, 3, []]),
    ],
)
def test_values(annotation, good, bad):
    for value in good:
        check_value(annotation, value, "key")
    for value in bad:
        with pytest.raises(ConfigError, match=r"^key: got .*, expected .*$") as caught:
            check_value(annotation, value, "key")
        assert "\n" not in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_words():
    assert describe(Count | None) == "a whole number >= 1, or null"
    assert describe(NonNegative) == "a number >= 0"
    assert describe(Literal["a", "b"]) == "one of a, b"
    assert describe(Text) == "printable text"
    assert describe(Widths) == "a list, each item a whole number >= 1 and <= 16384 (1 to 16 of them)"


def test_keywords_of_a_reader():
    check_keywords(Reader, {"count": 1, "form": {"kind": "vq"}}, "model")
    for values, message in [
        ({"count": 1, "form": {"knid": "vq"}}, r"unknown key model.form.knid; did you mean 'kind'"),
        ({"count": 1, "form": {"channels": -3}}, r"model.form.channels: got -3, expected a whole number >= 1"),
        ({}, r"model.count: is missing, expected a whole number >= 1"),
        ([], r"model: got \[\], expected a mapping"),
        ({"count": 1, "form": 3}, r"model.form: got 3, expected a mapping"),
        ({"count": 1, "share": 0.1}, r"unknown key model.share"),
    ]:
        with pytest.raises(ConfigError, match=message):
            check_keywords(Reader, values, "model")
    assert parameters_of(Base)["share"] == (Share, False)


def test_settings_are_documented_and_their_defaults_allowed():
    for settings in (RunSettings, TrainerSettings):
        for key, kind, _, purpose in rows(settings):
            assert kind and purpose, key
        given = {f.name: f.default for f in dataclasses.fields(settings) if f.default is not dataclasses.MISSING}
        needed = {"max_steps": 1} if settings is TrainerSettings else {}
        check_keywords(settings, given | needed, "block")
    assert ("keep", "a whole number >= 1, or null", "2") == next(r for r in rows(RunSettings) if r[0] == "keep")[:3]
    assert describe(Annotated[Count, Doc("steps")]) == "a whole number >= 1"


def test_numbers_of_a_command_line():
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--size", type=argument(Count))
    assert parser.parse_args(["--size", "3"]).size == 3
    for text in ("0", "-3", "x", "2.5", "nan", "1e3", "9" * 5000):
        with pytest.raises(argparse.ArgumentError, match="expected a whole number >= 1"):
            parser.parse_args([f"--size={text}"])
