"""All metrics of the field's tables on folders of images, each with a record of its measurement.

    from midms.evaluation.suite import Folders, Options, evaluate
    results = evaluate(Folders("out", reference="photos", exemplars="exemplars"), Options(protocol="paper"))

A metric whose network is missing, or whose folders do not fit, returns `status` "skipped" with a reason instead of
numbers. The other metrics are still computed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from midms.evaluation.folders import NotApplicableError
from midms.evaluation.metrics import EDIT_METRICS
from midms.evaluation.metrics import METRICS as IMAGE_METRICS
from midms.evaluation.records import Evaluation, Folders, Options, Result, library_versions
from midms.evaluation.rows import rank_and_world

__all__ = ["GROUPS", "METRICS", "NAMES", "Folders", "Options", "Result", "evaluate", "expand", "library_versions"]

METRICS = IMAGE_METRICS | EDIT_METRICS
# a name for several metrics
GROUPS = {"truth": ("psnr", "lpips_truth")}
NAMES = (*METRICS, *GROUPS)


def expand(names: Sequence[str] | None) -> list[str]:
    """Metric names with groups replaced by their members, without duplicates; None: all but those of edits.

    Raises:
        ValueError: an unknown name.
    """
    names = list(IMAGE_METRICS) if names is None else names
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValueError(f"unknown metric {unknown[0]!r}, expected some of {', '.join(NAMES)}")
    return list(dict.fromkeys(member for name in names for member in GROUPS.get(name, (name,))))


@contextmanager
def cache_folder(cache: Path | None) -> Iterator[Path]:
    """The folder for rows: the argument, or a temporary folder shared by all ranks."""
    if cache is not None:
        yield cache
        return
    rank, world = rank_and_world()
    holder = tempfile.TemporaryDirectory(prefix="midms-evaluation-") if rank == 0 else None
    name = [holder.name if holder else ""]
    if world > 1:
        torch.distributed.broadcast_object_list(name, src=0)
    try:
        yield Path(name[0])
    finally:
        if world > 1:
            torch.distributed.barrier()
        if holder:
            holder.cleanup()


def evaluate(folders: Folders, options: Options | None = None, metrics: Sequence[str] | None = None) -> list[Result]:
    """Measure a folder of outputs.

    Args:
        folders: see `Folders`.
        options: see `Options`.
        metrics: names of `METRICS` or `GROUPS`; None: all but those of edits.
    Returns:
        One result per metric, in order. A metric that lacks a network file, a library or a folder that fits is
        "skipped" with its reason.
    Raises:
        ValueError: a folder or a file in it is bad, or a metric is unknown.
    """
    options = options or Options()
    with cache_folder(options.cache) as cache:
        return measure(Evaluation(folders, options, cache), expand(metrics))


def measure(evaluation: Evaluation, metrics: Sequence[str]) -> list[Result]:
    """One result per metric of an opened evaluation; see `evaluate`."""
    results = []
    for name in metrics:
        try:
            results.append(METRICS[name](evaluation))
        except (FileNotFoundError, ImportError, NotApplicableError) as error:
            results.append(Result(name, status="skipped", reason=" ".join(str(error).split())))
    return results
