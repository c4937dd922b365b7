"""Reading and writing files: regular files of a bounded size are read, and only whole ones of our own are written.

Writers write beside the target under a name that ends in `.partial` and rename at the end. What a killed program left
behind is removed by the next one that writes there; a partial file that is still being written is locked, and stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from midms.config import ConfigError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and nothing that was left behind is removed
    fcntl = None  # type: ignore[assignment]

#: A JSON file of more bytes is refused.
MAX_JSON_BYTES = 50_000_000
#: Names of unfinished files and folders: `.NAME.TOKEN.partial`, files with their ending after it.
_PARTIAL = re.compile(r"\.(?P<name>.+)\.[0-9a-f]+\.(?P<kind>partial|old)(\.[^.]+)?")


class BrokenFileError(ConfigError):
    """A file is missing or cannot be used; `file` is its path."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file, self.reason = file, reason

    def __reduce__(self) -> tuple[type[BrokenFileError], tuple[Path, str]]:
        return type(self), (self.file, self.reason)


def check_readable(file: str | Path, expected: str = "a file", max_bytes: int | None = None) -> Path:
    """The path of a regular file that is not empty; a pipe or device, which could block for ever, is never opened.

    Args:
        expected: what the file should be, for messages.
        max_bytes: a larger file is refused; None: no limit.
    Raises:
        BrokenFileError: no such file, a folder, a pipe, socket or device, 0 bytes, or too large.
    """
    path = Path(file)
    try:
        status = path.stat()
    except FileNotFoundError:
        reason = "a link to nothing" if path.is_symlink() else "no such file"
        raise BrokenFileError(path, reason) from None
    except (OSError, ValueError) as error:  # no permission, a circle of links, a name with a zero byte
        raise BrokenFileError(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(status.st_mode):
        raise BrokenFileError(path, f"is {_kind(status.st_mode)}; expected {expected}")
    if status.st_size == 0:
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


def read_text(file: str | Path, expected: str = "a text file", max_bytes: int = MAX_JSON_BYTES) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        BrokenFileError: see `check_readable`; or not UTF-8.
    """
    path = check_readable(file, expected, max_bytes)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BrokenFileError(path, f"not {expected} (its bytes are not UTF-8)") from None
    except OSError as error:
        raise BrokenFileError(path, f"cannot be read ({error.strerror or error})") from None


def read_json(file: str | Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """What a JSON file holds.

    Raises:
        BrokenFileError: see `check_readable`; or no JSON, or NaN or Infinity in it, or nested too deeply.
    """
    path = Path(file)
    try:
        return parse_json(read_text(path, "JSON", max_bytes))
    except BrokenFileError:
        raise
    except ValueError as error:
        raise BrokenFileError(path, f"not readable as JSON ({error})") from None


def parse_json(text: str) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: no JSON, or NaN or Infinity in it, or nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_not_json)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def sha256_of(content: Path | bytes) -> str:
    """Hexadecimal SHA-256 of a file, or of bytes."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_unchanged(file: Path) -> str:
    """`sha256_of` a large file, computed once a process as long as neither its size nor its time changes."""
    status = file.stat()
    return _remembered_sha256(file.absolute(), status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _remembered_sha256(file: Path, *_identity: int) -> str:
    return sha256_of(file)


def check_output_files(outputs: Iterable[Path], inputs: Iterable[Path] = ()) -> None:
    """Refuse names of files to write before anything is computed.

    Raises:
        ConfigError: an output is an input (under whatever name), occurs twice, or is no file that may be replaced.
    """
    seen: dict[Path, Path] = {}
    kept = [path for path in inputs if path.exists()]
    for output in outputs:
        check_replaceable(output)
        first = seen.setdefault(output.resolve(), output)
        if first is not output:
            raise ConfigError(f"{output}: is to be written twice; give each output a name of its own")
        for path in kept:
            if output.exists() and output.samefile(path):
                raise ConfigError(f"{output}: is also read ({path}), and would be lost; choose another name")


def check_replaceable(file: Path) -> None:
    """Refuse a name to write to that is taken by anything but a regular file.

    Raises:
        BrokenFileError: a folder, link, pipe, socket or device has that name.
    """
    with suppress(FileNotFoundError):
        mode = file.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise BrokenFileError(file, f"is {_kind(mode)}, which is never replaced; choose another name")


@contextmanager
def atomic_write(file: Path, sync: bool = False) -> Iterator[Path]:
    """A path beside `file` to write to, moved onto `file` at the end and removed after an error.

    Readers, and a program that was stopped and started again, find all of the file or nothing. Its mode is that of
    any new file (the umask decides).

    Args:
        sync: have the content on the disk before the file gets its name, for what must survive a loss of power.
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
            temporary.chmod(mode)  # of a new file, whatever the library that wrote it thinks
            if sync:
                with temporary.open("rb") as stream:
                    os.fsync(stream.fileno())
            check_replaceable(file)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


def write_atomically(file: Path, content: bytes | str) -> None:
    """Write all of a file or nothing (`atomic_write`); text in UTF-8."""
    with atomic_write(file) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_folder(folder: Path, ours: Callable[[Path], bool]) -> Iterator[Path]:
    """A temporary folder beside `folder` that becomes `folder` when the block ends well and vanishes otherwise.

    Args:
        ours: whether an existing folder holds nothing but what this program writes, and so may be replaced. A new
            name and an empty folder always may.
    Raises:
        BrokenFileError: a file, link, pipe, socket or device has that name, or a folder that is not ours.
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
                folder.rename(replaced)  # a program killed here leaves both; `remove_leftovers` gives the name back
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
    """Make a partial file or folder and hold its lock while the block runs; the lock dies with its process."""
    handle = None
    while True:
        make()
        with suppress(OSError):  # a file system without locks: nothing is removed there either
            handle = _lock(path, wait=True)
        if path.exists():
            break
        _unlock(handle)  # `remove_leftovers` of another process came between the two
    try:
        yield
    finally:
        _unlock(handle)


def _lock(path: Path, wait: bool) -> int | None:
    """A handle that holds the lock of a file or folder; None where the system has none.

    Raises:
        OSError: another process holds it (without `wait`), or the file system has no locks.
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
    """`remove_leftovers` of files, once a process and folder: a folder of 100,000 pictures is not searched for each."""
    remove_leftovers(folder)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what killed programs left half written in a folder; what a running one still writes is locked and stays.

    Args:
        name: of the folder that was being written; None: of any file.
    """
    for path in folder.iterdir():
        match = _PARTIAL.fullmatch(path.name)
        if match is None or path.is_symlink() or path.is_dir() != (name is not None):
            continue
        if name is not None and name != match["name"]:
            continue
        with suppress(OSError):  # locked, or another process was quicker
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
