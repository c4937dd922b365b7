"""The folder of a run: one training uses it at a time, and a training that fails at its start leaves no folder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from midms.io.files import remove_leftovers
from midms.training.errors import TrainingError

LOCK, CONFIG, TABLE = "run.lock", "config.yaml", "metrics.csv"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make a run's folder and lock it against other trainings inside the block.

    The lock ends with this process, however the process ends. A folder that this call made is removed again after an
    error, unless it holds a checkpoint or picture.

    Raises:
        TrainingError: another training uses the folder, or its files are not those of a training.
    """
    fresh = not folder.exists()
    _check_is_run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    handle = _lock(folder / LOCK)
    try:
        yield
    except BaseException:
        if fresh:
            _clear(folder)
        raise
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)
        handle.close()
        if fresh:
            with suppress(OSError):  # not empty: the run stays
                folder.rmdir()


def _check_is_run(folder: Path) -> None:
    """Refuse a folder whose config.yaml or metrics.csv, which would be replaced, were not written by a training."""
    taken = [folder / name for name in (CONFIG, TABLE) if (folder / name).exists()]
    if taken and not any((folder / name).exists() for name in (LOCK, "tensorboard", "checkpoints")):
        raise TrainingError(f"{taken[0]}: exists, and the folder is not that of a training; choose another --run")


def _lock(file: Path) -> IO[str]:
    """Lock a file. Record locks belong to this process alone, not to its loader processes."""
    while True:
        handle = file.open("a+")
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            holder = handle.read(200).strip() or "another process"
            handle.close()
            raise TrainingError(
                f"{file.parent}: another training is running in this folder ({holder}); choose another one with --run"
            ) from None
        with suppress(FileNotFoundError):
            if os.fstat(handle.fileno()).st_ino == file.stat().st_ino:  # else the last holder has removed the file
                break
        handle.close()
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    handle.flush()
    return handle


def _clear(folder: Path) -> None:
    """Remove the files that a training writes before its first checkpoint or picture. Anything else stays."""
    if any(folder.glob("checkpoints/step_*")) or any(folder.glob("pictures/*")):
        return
    remove_leftovers(folder)
    for file in (folder / CONFIG, folder / TABLE):
        file.unlink(missing_ok=True)
    logs = folder / "tensorboard"
    for file in (*logs.glob("events.out.tfevents.*"), logs / "hparams.yaml"):
        file.unlink(missing_ok=True)
    for name in ("tensorboard", "checkpoints", "pictures"):
        with suppress(OSError):
            (folder / name).rmdir()
