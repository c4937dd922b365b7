"""Old import paths of modules that have moved: they work for one more version, with a DeprecationWarning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

#: Old module -> the module that now holds what it held.
MOVED = {
    "midms.condition_maps": "midms.io.maps",
    "midms.data.annotators": "midms.conditions.annotators",
    "midms.data.conditions": "midms.conditions",
    "midms.data.conditions.edges": "midms.conditions.edges",
    "midms.data.conditions.keypoints": "midms.conditions.keypoints",
    "midms.data.conditions.segmentation": "midms.conditions.segmentation",
    "midms.data.files": "midms.io.files",
    "midms.data.poses": "midms.conditions.poses",
    "midms.evaluation.diversity": "midms.metrics.diversity",
    "midms.evaluation.edit_metrics": "midms.evaluation.metrics",
    "midms.evaluation.edits": "midms.metrics.edits",
    "midms.evaluation.fidelity": "midms.metrics.fidelity",
    "midms.evaluation.style": "midms.metrics.style",
    "midms.evaluation.swd": "midms.metrics.swd",
    "midms.evaluation.truth": "midms.metrics.truth",
    "midms.images": "midms.io.images",
    "midms.models.loading": "midms.checkpoints.loading",
    "midms.models.padding": "midms.models.first_stage",
    "midms.provenance": "midms.io.provenance",
    "midms.training.passes": "midms.training.objectives",
    "midms.training.watching": "midms.training.callbacks",
}
#: Old module -> what to use in a checkout: what only the programs in scripts/ use is no longer part of the package.
LEFT = {
    "midms.benchmarks": "scripts/benchmark.py and scripts/benchmarks/",
    "midms.evaluation.ablations": "scripts/tables/ablations.py",
    "midms.evaluation.bands": "scripts/tables/bands.py",
    "midms.evaluation.encoder_metrics": "scripts/tables/encoder_metrics.py",
    "midms.evaluation.published": "scripts/tables/published.py",
    "midms.evaluation.reproduce": "scripts/tables/measure.py",
    "midms.evaluation.sampling": "scripts/tables/sampling.py",
    "midms.evaluation.sensitivity": "python scripts/sensitivity.py",
    "midms.evaluation.table_rows": "scripts/tables/rows.py",
    "midms.evaluation.tables_report": "scripts/tables/report.py",
    "midms.evaluation.user_study": "scripts/tables/user_study.py",
    "midms.parity": "scripts/verify_parity.py and scripts/parity/",
}


class MovedFinder(MetaPathFinder, Loader):
    """Gives the new module under its old name, as the same object."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The new module for a name of `MOVED`.

        Raises:
            ModuleNotFoundError: a name of `LEFT`; the message says what to use.
        """
        if fullname in LEFT:
            message = f"{fullname} has left the package: use {LEFT[fullname]} of a checkout"
            raise ModuleNotFoundError(message, name=fullname)
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the new module in place of the empty one; the import system takes it from `sys.modules`."""
        old = module.__name__
        new = MOVED[old]
        warnings.warn(f"{old} is now {new}; the old name works for one more version", DeprecationWarning, stacklevel=2)
        sys.modules[old] = import_module(new)


def install() -> None:
    """Let the import system know the old names; a second call changes nothing."""
    if not any(isinstance(finder, MovedFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MovedFinder())  # before the path's finder, which would load a moved folder twice
