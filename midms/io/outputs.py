"""Outputs go only to new files and to those that these programs wrote before, unless the user says `--overwrite`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from midms.io.files import BrokenFileError, check_replaceable
from midms.io.images import IMAGE_SUFFIXES, read_info
from midms.io.provenance import HTML_MARK, LATEX_MARK, SOFTWARE, TEXT_KEY, software_exif
from midms.schema import ConfigError

_HEAD = 400  # bytes of a text that are searched for its mark


def check_output_files(
    outputs: Iterable[Path],
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    ours: Callable[[Path], bool] | None = None,
) -> None:
    """Refuse unusable names of output files before anything is computed.

    Args:
        inputs: files, and folders of which every file is an input.
        overwrite: whether the user allows other programs' files to be replaced. Inputs are never replaced.
        ours: whether an existing file was written by these programs. None: `is_ours`.
    Raises:
        ConfigError: an output is also an input (under any name), occurs twice, or may not be replaced.
    """
    seen: dict[Path, Path] = {}
    kept = [path for path in inputs if path.exists()]
    files, places = {_identity(path): path for path in kept}, {path.resolve(): path for path in kept}
    for output in outputs:
        check_replaceable(output)
        first = seen.setdefault(output.resolve(), output)
        if first is not output:
            raise ConfigError(f"{output}: is the name of two outputs; give each output its own name")
        if not output.exists():
            continue
        folder = next((places[above] for above in output.resolve().parents if above in places), None)
        path = files.get(_identity(output), folder)
        if path is not None:
            raise ConfigError(f"{output}: is also read ({path}), and would be overwritten; choose another name")
        if not overwrite and not (ours or is_ours)(output):
            raise ConfigError(f"{output}: exists, and holds no mark of midms; choose another name, or add --overwrite")


def check_output_folder(folder: Path, mark: str) -> None:
    """Refuse a folder that holds files, but not the file that marks the folders of a program.

    Raises:
        ConfigError: the name belongs to something else than a folder, or the folder holds other files.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder; choose another name")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / mark).is_file():
        raise ConfigError(f"{folder}: holds files, but no {mark} of an earlier run; choose a new folder")


def is_ours(file: Path) -> bool:
    """Whether a picture, HTML page or LaTeX table carries the mark of these programs."""
    if file.suffix.lower() not in IMAGE_SUFFIXES:
        with file.open("rb") as stream:
            head = stream.read(_HEAD).decode("utf-8", "replace")
        return HTML_MARK in head or head.startswith(LATEX_MARK)
    try:
        info = read_info(file)
    except BrokenFileError:
        return False
    named = (info.get("Software"), info.get("comment", b""), info.get("exif", b""))
    return TEXT_KEY in info or any(mark in (SOFTWARE, SOFTWARE.encode(), software_exif()) for mark in named)


def _identity(path: Path) -> tuple[int, int]:
    """What all names of one file share."""
    status = path.stat()
    return status.st_dev, status.st_ino
