"""What the tests of damaged files share: random changes of bytes, and how a program has to end."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from midms.io.files import remove_leftovers_once


class Edit(NamedTuple):
    """A change of bytes: at a share of the length, some are cut and others put in."""

    place: float
    cut: int
    new: bytes

    def apply(self, content: bytes) -> bytes:
        start = int(self.place * len(content))
        return content[:start] + self.new + content[start + self.cut :]


NASTY = [
    b"",
    b"\0",
    b"\xff" * 8,
    b"\x1b[2J",
    b"NaN",
    b"1e999",
    b"-1",
    b"[" * 3000,
    b'"',
    b"}",
    b"9" * 30,
    b"cos\nsystem\n",
]
EDITS = st.lists(
    st.builds(
        Edit,
        st.floats(0, 1, allow_nan=False),
        st.sampled_from([0, 1, 2, 8, 10**9]),
        st.one_of(st.sampled_from(NASTY), st.binary(max_size=6)),
    ),
    min_size=1,
    max_size=3,
)
ODD = st.sampled_from([None, True, -1, 0, 0.5, 1e308, 10**12, "", "x\x1b[2J", [], [0], {}, {"a": 1}, [1] * 5000, "1"])


def damaged(content: bytes, edits: Sequence[Edit]) -> bytes:
    for edit in edits:
        content = edit.apply(content)
    return content


def listing(folder: Path, without: str = "*") -> list[str]:
    """All names in a folder, except those that hold a text."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    return [name for name in names if without not in name]


def ends_well(
    folder: Path,
    main: Callable[[list[str]], int],
    arguments: list[str],
    told: Sequence[int] = (0,),
    notes: str | None = None,
    kept: str = "*",
) -> int:
    """Run a program; assert that it ends as it should, and give its exit status.

    Args:
        told: statuses other than 2, a mistake. With 2 there is one line, and nothing is left behind.
        notes: how the last line begins where the program may write notes before it. None: it writes no notes.
        kept: part of the names of finished work, which may stay after a mistake.
    """
    before = listing(folder, kept)
    remove_leftovers_once.cache_clear()
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(arguments)
    assert status in (*told, 2), err.getvalue()[:2000]
    if status == 2:
        lines = err.getvalue().splitlines()
        assert len(lines) == 1 or (notes and lines[-1].startswith(notes)), err.getvalue()[:2000]
        assert all(line.isprintable() and len(line) < 4000 for line in lines), err.getvalue()[:2000]
        assert listing(folder, kept) == before
    assert not [name for name in listing(folder) if ".partial" in name or ".old" in name]
    text = set(out.getvalue()) - {"\n"}
    assert not text & {chr(code) for code in (*range(32), *range(127, 160))}
    return status


def picture(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"exif": b"Exif\0\0MM\0*\0\0\0\b"} if kind == "JPEG" else {}))
    return stream.getvalue()


def try_examples(
    count: int, run: Callable[..., None], strategies: Mapping[str, st.SearchStrategy[Any]], folder: Path
) -> None:
    """Call `run(place, **drawn)` for `count` examples, each in a new folder that is the working one."""

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def trial(data: st.DataObject) -> None:
        place = folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        here = os.getcwd()
        os.chdir(place)
        try:
            run(place, **{key: data.draw(strategy, key) for key, strategy in strategies.items()})
        finally:
            os.chdir(here)

    trial()
