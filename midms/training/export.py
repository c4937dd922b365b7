"""Export of the trained networks as a folder of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from midms.checkpoints.errors import CheckpointError
from midms.checkpoints.folder import save_folder
from midms.training.errors import TrainingError


class TrainedComponents(NamedTuple):
    """Networks by component name, the configs they are built from, and facts about the whole for `config.json`."""

    modules: dict[str, nn.Module]
    configs: dict[str, dict[str, Any]]
    facts: dict[str, Any]


def export(folder: Path, exported: TrainedComponents, info: dict[str, Any]) -> None:
    """Write weights as a folder of safetensors that `MIDMsPipeline.from_pretrained` reads.

    Args:
        folder: of the weights. An existing one is replaced.
        exported: the stage's components.
        info: more facts for `config.json`.
    Raises:
        TrainingError: the folder cannot be written, for example on a full disk.
    """
    modules, configs, facts = exported
    try:
        save_folder(folder, modules, configs, info | facts)
    except (CheckpointError, OSError) as error:  # the former for what safetensors says of a full disk
        told = f"{folder}: cannot be written ({error.strerror or error})" if isinstance(error, OSError) else error
        raise TrainingError(
            f"{told}; the last checkpoint is intact: free some disk space and continue with --resume"
        ) from error
