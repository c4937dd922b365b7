"""Files are read within bounds, and written whole, over nothing that is not ours, with nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from midms.io import files
from midms.io.files import (
    BrokenFileError,
    atomic_folder,
    atomic_write,
    check_readable,
    check_replaceable,
    parse_json,
    read_json,
    read_text,
    sha256_of,
    write_atomically,
)


def always(folder: Path) -> bool:
    return True


def link(path: Path) -> None:
    path.with_name("target").write_text("kept")
    path.symlink_to("target")


def link_to_folder(path: Path) -> None:
    path.with_name("target").mkdir()
    path.symlink_to("target")


def dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def unix_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def device_node(path: Path) -> None:
    """A node of its own kind in the test's own folder: the null device's numbers, which hold no data."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except OSError as error:
        pytest.skip(f"no device node can be made here ({error})")


TAKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "link to a file": (link, "is a link"),
    "link to a folder": (link_to_folder, "is a link"),
    "link to nothing": (dangling_link, "is a link"),
    "pipe": (os.mkfifo, "is a pipe"),
    "socket": (unix_socket, "is a socket"),
    "device": (device_node, "is a device"),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_nothing_but_files_and_our_folders_is_replaced(tmp_path: Path, kind: str) -> None:
    make, words = TAKEN[kind]
    target = tmp_path / "w.bin"
    make(target)
    before = sorted(path.name for path in tmp_path.iterdir()), target.lstat().st_ino, target.lstat().st_mode
    with pytest.raises(BrokenFileError, match=words):
        write_atomically(target, b"new")
    with pytest.raises(BrokenFileError, match=words), atomic_folder(target, always):
        pass
    with pytest.raises(BrokenFileError, match=words):
        check_replaceable(target)
    after = sorted(path.name for path in tmp_path.iterdir()), target.lstat().st_ino, target.lstat().st_mode
    assert after == before


def test_a_name_that_is_taken_while_the_content_is_made_is_kept(tmp_path: Path) -> None:
    with pytest.raises(BrokenFileError, match="is a link"), atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("new")
        link(tmp_path / "a")
    assert (tmp_path / "target").read_text() == "kept" and sorted(os.listdir(tmp_path)) == ["a", "target"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_modes_are_those_of_any_new_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        (tmp_path / "plain").touch()
        with atomic_write(tmp_path / "ours") as temporary:
            temporary.unlink()
            temporary.touch(0o600)  # as libraries do that write aside themselves
        write_atomically(tmp_path / "ours", "replaced")
        with atomic_folder(tmp_path / "folder", always) as folder:
            write_atomically(folder / "inner", "text")
        (tmp_path / "new").mkdir()
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours", "folder/inner")}
    assert set(modes.values()) == {0o666 & ~umask}
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "old")
    with pytest.raises(OSError, match="disk full"), atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    with atomic_folder(tmp_path / "w", always) as folder:
        write_atomically(folder / "inner", "old")
    with pytest.raises(OSError, match="disk full"), atomic_folder(tmp_path / "w", always) as folder:
        raise OSError("disk full")
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "w" / "inner").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "w"]


def test_a_folder_that_is_not_ours_is_kept(tmp_path: Path) -> None:
    write_atomically(tmp_path / "w" / "mine", "content")
    with pytest.raises(BrokenFileError, match="not ours"), atomic_folder(tmp_path / "w", lambda folder: False):
        pass
    write_atomically(tmp_path / "file", "content")
    with pytest.raises(BrokenFileError, match="is a file"), atomic_folder(tmp_path / "file", always):
        pass
    assert (tmp_path / "w" / "mine").read_text() == (tmp_path / "file").read_text() == "content"


WRITER = """
import sys, pathlib
from midms.io.files import atomic_folder, atomic_write
target = pathlib.Path(sys.argv[2])
with atomic_write(target) if sys.argv[1] == "file" else atomic_folder(target, lambda folder: True) as temporary:
    (temporary if sys.argv[1] == "file" else temporary / "weights").write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_leftovers_of_killed_programs_go_and_those_of_running_ones_stay(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "w"

    def again() -> list[str]:
        files.remove_leftovers_once.cache_clear()
        if kind == "file":
            write_atomically(target, "whole")
        else:
            with atomic_folder(target, always):
                pass
        return sorted(path.name for path in tmp_path.iterdir() if path != target)

    with subprocess.Popen(
        [sys.executable, "-c", WRITER, kind, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        (partial,) = again()
        assert partial.startswith(".w.") and partial.endswith(".partial")
        process.send_signal(signal.SIGKILL)
    assert again() == []


def test_a_folder_whose_replacement_was_cut_short_gets_its_name_back(tmp_path: Path) -> None:
    (tmp_path / ".w.123.old").mkdir()
    (tmp_path / ".w.123.old" / "weights").write_text("whole")
    (tmp_path / ".w.123.partial").mkdir()
    (tmp_path / ".other.123.partial").mkdir()  # of another folder, which may be written later
    with pytest.raises(BrokenFileError, match="not ours"), atomic_folder(tmp_path / "w", lambda folder: False):
        pass
    assert (tmp_path / "w" / "weights").read_text() == "whole"
    assert sorted(os.listdir(tmp_path)) == [".other.123.partial", "w"]


def test_links_and_other_names_are_no_leftovers(tmp_path: Path) -> None:
    kept = [".hidden", "a.partial", ".notes.partial", ".link.123.partial"]
    for name in kept[:3]:
        (tmp_path / name).touch()
    (tmp_path / kept[3]).symlink_to(".hidden")
    write_atomically(tmp_path / "b", "content")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "b"])


def test_long_names_can_be_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("\N{SNOWMAN}" * 80 + ".png"), b"content")
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such file"),
        (dangling_link, "a link to nothing"),
        (Path.mkdir, "is a folder; expected JSON"),
        (os.mkfifo, "is a pipe; expected JSON"),
        (unix_socket, "is a socket; expected JSON"),
        (device_node, "is a device; expected JSON"),
        (Path.touch, "0 bytes; expected JSON"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: path.write_bytes(b"{}" + b" " * 99), "101 bytes; JSON of at most 100 bytes"),
        (lambda path: path.write_bytes(b"\xff\xfe{}"), "not JSON"),
        (lambda path: path.write_bytes(b"{"), "not readable as JSON"),
        (lambda path: path.write_bytes(b'{"a": NaN}'), "NaN is not a JSON number"),
        (lambda path: path.write_bytes(b"[-Infinity]"), "-Infinity is not a JSON number"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    make(tmp_path / "a.json")
    with pytest.raises(BrokenFileError, match=words) as caught:
        read_json(tmp_path / "a.json", max_bytes=100)
    assert str(tmp_path / "a.json") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000])
def test_json_that_python_cannot_hold_is_told(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"a": [1]}), encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"a": [1]} and read_text(tmp_path / "a.json")[0] == "{"


def test_a_file_behind_a_link_is_read(tmp_path: Path) -> None:
    link(tmp_path / "a")
    assert check_readable(tmp_path / "a").read_text() == "kept"


def test_one_hash_for_files_and_bytes(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert sha256_of(tmp_path / "a") == sha256_of(b"abc") == expected
