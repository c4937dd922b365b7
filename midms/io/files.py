"""Safe reading and writing of files: only regular files of a bounded size are read, and files are written atomically.

Writers use a temporary name beside the target that ends in `.partial`, and rename at the end. Partial files of a killed
program are removed by the next program that writes there. Partial files that are being written are locked, and stay.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from midms.schema import ConfigError

try:
    import fcntl
except ImportError:  # Windows: no locks, and partial files of killed programs stay
    fcntl = None  # type: ignore[assignment]

#: Larger JSON files are refused.
MAX_JSON_BYTES = 50_000_000
#: Names of unfinished files and folders: `.NAME.TOKEN.partial`, for files followed by their ending.
_PARTIAL = re.compile(r"\.(?P<name>.+)\.[0-9a-f]+\.(?P<kind>partial|old)(\.[^.]+)?")


class BrokenFileError(ConfigError):
    """A file is missing or cannot be used. The attribute `file` is its path."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file, self.reason = file, reason

    def __reduce__(self) -> tuple[type[BrokenFileError], tuple[Path, str]]:
        return type(self), (self.file, self.reason)


def check_readable(
    file: str | Path, expected: str = "a file", max_bytes: int | None = None, allow_empty: bool = False
) -> Path:
    """The path of a regular file. Pipes and devices, which could block for ever, are never opened.

    Args:
        expected: description of the expected file, for messages.
        max_bytes: larger files are refused. None: no limit.
        allow_empty: accept a file of 0 bytes.
    Raises:
        BrokenFileError: the file is missing, empty and not `allow_empty`, too large, or no regular file.
    """
    path = Path(file)
    try:
        status = path.stat()
    except FileNotFoundError:
        reason = "a link to nothing" if path.is_symlink() else "no such file"
        raise BrokenFileError(path, reason) from None
    except (OSError, ValueError) as error:  # no permission, a cycle of links, a name with a zero byte
        raise BrokenFileError(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(status.st_mode):
        raise BrokenFileError(path, f"is {_kind(status.st_mode)}; expected {expected}")
    if status.st_size == 0 and not allow_empty:
        raise BrokenFileError(path, f"0 bytes; expected {expected}, copy it again")
    if max_bytes is not None and status.st_size > max_bytes:
        raise BrokenFileError(path, f"{status.st_size:,} bytes; {expected} of at most {max_bytes:,} bytes is read")
    return path


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISREG: "a file",
        stat.S_ISDIR: "a folder",
        stat.S_ISLNK: "a link",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
    }
    return next((words for test, words in kinds.items() if test(mode)), "a device")


def read_text(
    file: str | Path, expected: str = "a text file", max_bytes: int = MAX_JSON_BYTES, allow_empty: bool = False
) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        BrokenFileError: as `check_readable`, and for text that is not UTF-8.
    """
    path = check_readable(file, expected, max_bytes, allow_empty)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BrokenFileError(path, f"not {expected} (its bytes are not UTF-8)") from None
    except OSError as error:
        raise BrokenFileError(path, f"cannot be read ({error.strerror or error})") from None


def read_json(file: str | Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The content of a JSON file.

    Raises:
        BrokenFileError: as `check_readable` and `parse_json`.
    """
    path = Path(file)
    try:
        return parse_json(read_text(path, "JSON", max_bytes))
    except BrokenFileError:
        raise
    except ValueError as error:
        raise BrokenFileError(path, f"not readable as JSON ({error})") from None


def parse_json(text: str) -> Any:
    """The content of a JSON text.

    Raises:
        ValueError: the text is no JSON, holds NaN or Infinity, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_not_json)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def sha256_of(content: Path | bytes) -> str:
    """Hexadecimal SHA-256 of a file, or of bytes."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_unchanged(file: Path) -> str:
    """`sha256_of` a large file, computed once per process as long as its size and modification time do not change."""
    status = file.stat()
    return _remembered_sha256(file.absolute(), status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _remembered_sha256(file: Path, *_identity: int) -> str:
    return sha256_of(file)


def check_replaceable(file: Path) -> None:
    """Refuse an output name that belongs to anything but a regular file.

    Raises:
        BrokenFileError: a folder, link, pipe, socket or device has that name.
    """
    with suppress(FileNotFoundError):
        mode = file.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise BrokenFileError(file, f"is {_kind(mode)}, which is never replaced; choose another name")


@contextmanager
def atomic_write(file: Path, sync: bool = False) -> Iterator[Path]:
    """A temporary path beside `file` to write to. It replaces `file` at the end, and is removed after an error.

    So readers and restarted programs find the whole file or none. The file gets the mode of any new file (umask).

    Args:
        sync: flush the content to the disk before the file gets its name, so that the file survives a loss of power.
    Raises:
        BrokenFileError: a folder, link, pipe, socket or device has that name.
    """
    check_replaceable(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers_once(file.parent.absolute())
    temporary = file.with_name(f".{file.stem[:60]}.{secrets.token_hex(4)}.partial{file.suffix[:10]}")
    with _made_and_locked(temporary, lambda: temporary.touch(exist_ok=False)):
        mode = stat.S_IMODE(temporary.stat().st_mode)
        try:
            yield temporary
            temporary.chmod(mode)  # mode of a new file, whatever mode the writing library set
            if sync:
                with temporary.open("rb") as stream:
                    os.fsync(stream.fileno())
            check_replaceable(file)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


def write_atomically(file: Path, content: bytes | str) -> None:
    """Write a file by `atomic_write`, text in UTF-8."""
    with atomic_write(file) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_folder(folder: Path, ours: Callable[[Path], bool]) -> Iterator[Path]:
    """A temporary folder beside `folder`. It becomes `folder` when the block succeeds, and is removed otherwise.

    Args:
        ours: whether an existing folder holds only files of this program, and so may be replaced. An empty folder
            always may.
    Raises:
        BrokenFileError: a file, link, pipe, socket or device has that name, or a folder that is not `ours`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent, folder.name)
    _check_folder(folder, ours)
    token = secrets.token_hex(4)
    temporary, replaced = (folder.with_name(f".{folder.name}.{token}.{kind}") for kind in ("partial", "old"))
    with _made_and_locked(temporary, temporary.mkdir):
        try:
            yield temporary
            _check_folder(folder, ours)
            if folder.exists():
                folder.rename(replaced)  # if killed here, `remove_leftovers` restores the name
            temporary.rename(folder)
            shutil.rmtree(replaced, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _check_folder(folder: Path, ours: Callable[[Path], bool]) -> None:
    try:
        mode = folder.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        raise BrokenFileError(folder, f"exists and is {_kind(mode)}; choose another name")
    if any(folder.iterdir()) and not ours(folder):
        raise BrokenFileError(folder, "exists and holds files that are not ours; choose another name")


@contextmanager
def _made_and_locked(path: Path, make: Callable[[], None]) -> Iterator[None]:
    """Make a partial file or folder and lock it while the block runs. The lock ends with its process."""
    handle = None
    while True:
        make()
        with suppress(OSError):  # on a file system without locks nothing is removed either
            handle = _lock(path, wait=True)
        if path.exists():
            break
        _unlock(handle)  # another process removed the path before it was locked
    try:
        yield
    finally:
        _unlock(handle)


def _lock(path: Path, wait: bool) -> int | None:
    """A handle that holds the lock of a file or folder. None: the system has no locks.

    Raises:
        OSError: another process holds the lock (without `wait`), or the file system has no locks.
    """
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(handle)
        raise
    return handle


def _unlock(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


@lru_cache(maxsize=256)
def remove_leftovers_once(folder: Path) -> None:
    """`remove_leftovers` of files, once per process and folder, so that large folders are not searched repeatedly."""
    remove_leftovers(folder)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove unfinished files of killed programs from a folder. Files that are being written are locked, and stay.

    Args:
        name: of an unfinished folder. None: files of any name.
    """
    for path in folder.iterdir():
        match = _PARTIAL.fullmatch(path.name)
        if match is None or path.is_symlink() or path.is_dir() != (name is not None):
            continue
        if name is not None and name != match["name"]:
            continue
        with suppress(OSError):  # locked, or already removed by another process
            handle = _lock(path, wait=False)
            if handle is not None:
                _remove(path, folder / match["name"], match["kind"])
                _unlock(handle)


def _remove(leftover: Path, target: Path, kind: str) -> None:
    if not leftover.is_dir():
        leftover.unlink(missing_ok=True)
    elif kind == "old" and not target.exists():
        leftover.rename(target)  # killed between the two renames of `atomic_folder`
    else:
        shutil.rmtree(leftover, ignore_errors=True)
