"""Checkpoints of a run: written atomically, read without running code, and only the last few kept."""

from __future__ import annotations

import copy
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback

from midms.data.module import data_of
from midms.io.files import BrokenFileError, atomic_write, check_readable, remove_leftovers
from midms.programs import say
from midms.training.errors import Interrupted, TrainingError

#: Entries of a run's checkpoint besides the states of optimisers and data, and their types.
ENTRIES = {
    "state_dict": dict,
    "global_step": int,
    "epoch": int,
    "loops": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "pytorch-lightning_version": str,
}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints to a temporary file, flush and rename it, so that a file with the final name is whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` as `path`.

        Raises:
            TrainingError: the file cannot be written, for example on a full disk. An earlier file stays as it was.
        """
        path = Path(path)
        try:
            with atomic_write(path, sync=True) as aside, aside.open("wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch's writer hides an OSError behind a RuntimeError
            refusal = error if isinstance(error, OSError) else error.__context__
            if not isinstance(refusal, OSError):
                raise
            last = newest_checkpoint(path.parent)
            earlier = f"the last complete one is {last}" if last else "there is no earlier one"
            raise TrainingError(
                f"{path}: the checkpoint could not be written ({refusal.strerror or refusal}); {earlier}; "
                "free some disk space and continue with --resume"
            ) from error

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Read `path` on the CPU without running any code in the file."""
        return read_checkpoint(Path(path))


def read_checkpoint(file: Path, mapped: bool = False) -> dict[str, Any]:
    """The content of a run's checkpoint, on the CPU: only tensors, numbers, text and plain containers.

    torch's restricted unpickler reads it, with no class or function allowed beyond its own.

    Args:
        file: the checkpoint.
        mapped: map the tensors from the file instead of reading them.
    Raises:
        TrainingError: the file is damaged, is no checkpoint of a run, or would run code.
    """
    try:
        check_readable(file, "the checkpoint of a run", allow_empty=True)
    except BrokenFileError as error:
        raise TrainingError(str(error)) from None
    try:
        with zipfile.ZipFile(file) as archive:
            packed = [entry for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise TrainingError(f"{file}: it is compressed, but checkpoints of a run are not")
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise TrainingError(f"{file}: refused: it holds more than tensors and plain values{_wanted(error)}") from None
    except TrainingError:
        raise
    except zipfile.BadZipFile:
        what = "empty" if file.stat().st_size == 0 else "cut off, or no checkpoint"
        raise TrainingError(f"{file}: it is {what}") from None
    except Exception as error:  # a damaged file makes the reader fail in any way
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TrainingError(f"{file}: it is damaged ({reason[:200]})") from None
    _require_entries(file, content)
    return content


def _wanted(error: pickle.UnpicklingError) -> str:
    """The class or function that a file asked for, from torch's long message."""
    words = str(error).partition("GLOBAL ")[2].split(maxsplit=1)
    return f" ({words[0]})" if words else ""


def _require_entries(file: Path, content: Any) -> None:
    if not isinstance(content, dict):
        raise TrainingError(f"{file}: it holds a {type(content).__name__}, expected the checkpoint of a run")
    missing = [name for name, kind in ENTRIES.items() if not isinstance(content.get(name), kind)]
    if missing:
        weights = "weights alone, or " if "global_step" in missing else ""
        raise TrainingError(f"{file}: it has no {', '.join(missing)}: {weights}not the checkpoint of a run")
    for name, tensor in _tensors(content, ""):
        whole = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not whole or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise TrainingError(f"{file}: {name[:100]} is not a dense tensor with all of its values")


def _tensors(node: Any, path: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(node, torch.Tensor):
        yield path, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _tensors(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _tensors(value, f"{path}[{index}]")


class Checkpoints(Callback):
    """Save a checkpoint every `every` steps, at the end, and when the training is stopped. The last `keep` stay.

    A checkpoint always stores the state of Lightning's loops at the end of the last step. So a run that was stopped
    during its validation resumes like one that was stopped before.

    Args:
        folder: of files such as `step_00001000.ckpt`.
        every: steps between two checkpoints. 0: only the last one is saved.
        keep: number of checkpoints that stay. None: all.
    """

    def __init__(self, folder: Path, every: int, keep: int | None = 2) -> None:
        self.folder, self.every, self.keep = folder, every, keep
        self.saved = -1  # step of the last one written
        self.loops: dict[str, Any] | None = None  # after the last step

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove unfinished files of a killed run, and set aside checkpoints of later steps than this run's."""
        if (self.folder / f"{step_name(trainer.global_step)}.ckpt").is_file():
            self.saved = trainer.global_step
        if not trainer.is_global_zero:
            return
        if self.folder.is_dir():
            remove_leftovers(self.folder)
        ahead = [path for path in self.folder.glob("step_*.ckpt") if path.stem > step_name(trainer.global_step)]
        if ahead:
            aside = next(path for n in count(1) if not (path := self.folder.with_name(f"checkpoints_{n}")).exists())
            aside.mkdir()
            for path in ahead:
                path.rename(aside / path.name)
            print(f"checkpoints of an earlier run beyond step {trainer.global_step}: moved to {aside}")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Count the batch for the data order, then save if a checkpoint is due."""
        data_of(trainer).advance()
        self.loops = copy.deepcopy(trainer.fit_loop.state_dict())
        if self.every and trainer.global_step % self.every == 0:
            self.save(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the loops as they were at the end of the step."""
        if self.loops is not None:
            checkpoint["loops"]["fit_loop"] = self.loops

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last state."""
        self.save(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save the state when a signal stops the training."""
        if isinstance(exception, Interrupted):
            if self.loops is not None and not exception.hurried:
                self.save(trainer)
            exception.step = self.saved if self.saved > 0 else None

    def save(self, trainer: pl.Trainer) -> None:
        """Write a checkpoint of this step, unless there is one, and delete the oldest ones."""
        if self.saved == trainer.global_step:
            return
        trainer.save_checkpoint(self.folder / f"{step_name(trainer.global_step)}.ckpt")
        self.saved = trainer.global_step
        if trainer.is_global_zero and self.keep is not None:
            for old in sorted(self.folder.glob("step_*.ckpt"))[: -self.keep]:
                old.unlink()


def step_name(step: int) -> str:
    """Name of a step's checkpoint without its ending. Names sort like steps."""
    return f"step_{step:08d}"


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint in a folder."""
    return max(folder.glob("step_*.ckpt"), default=None)


def last_checkpoint(run: Path) -> Path:
    """The newest whole checkpoint of a run folder, or `run` itself where it is a file.

    Checkpoints that are left out are reported with the reason.

    Raises:
        TrainingError: the folder holds no whole checkpoint, or the file is no checkpoint.
    """
    if run.is_file():
        read_checkpoint(run, mapped=True)
        return run
    checkpoint = sorted((run / "checkpoints").glob("step_*.ckpt"), reverse=True)
    if not checkpoint:
        raise TrainingError(f"--resume: no checkpoint in {run / 'checkpoints'} (expected step_*.ckpt)")
    reasons: list[str] = []
    for file in checkpoint:
        try:
            _require_whole(file)
        except (TrainingError, OSError) as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            say(f"resume: skipped {reason}; continuing from {file.name}")
        return file
    raise TrainingError(f"--resume: no complete checkpoint: {'; '.join(reasons)}")


def _require_whole(file: Path) -> None:
    """Read all of a checkpoint: its values, and the checksums of its tensors."""
    content = read_checkpoint(file, mapped=True)
    with zipfile.ZipFile(file) as archive:
        torn = archive.testzip()
    if torn is not None:
        raise TrainingError(f"{file}: it is damaged (checksum of {torn})")
    if content["global_step"] < 0 or file.stem != step_name(content["global_step"]):
        raise TrainingError(f"{file}: it is of step {content['global_step']}")
