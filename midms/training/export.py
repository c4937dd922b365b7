"""Export of the trained networks at the end of a stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import nn

from midms.checkpoints.folder import save_folder
from midms.data.module import data_of


class TrainedComponents(NamedTuple):
    """Networks by component name, the configs they are built from, and facts about the whole for `config.json`."""

    modules: dict[str, nn.Module]
    configs: dict[str, dict[str, Any]]
    facts: dict[str, Any]


class ExportWeights(Callback):
    """Save the trained weights at the end of the run, as a folder that `MIDMsPipeline.from_pretrained` reads."""

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self.folder, self.info = folder, info

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the components of the Lightning module."""
        if trainer.is_global_zero:
            stage: Any = pl_module  # a `Stage`, which has components
            modules, configs, facts = stage.components()
            data = data_of(trainer).train
            data_facts = {key: getattr(data, key) for key in ("task", "size") if hasattr(data, key)}
            info = self.info | data_facts | facts | {"steps": trainer.global_step}
            save_folder(self.folder, modules, configs, info)
