"""Results of several methods on one list of pairs, as folders of images; existing images are not made again.

A row of a table is a folder named after everything on which its images depend (networks, data, settings, method, seed).
Results of different runs are therefore never mixed, and a stopped run can be resumed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from midms.data.module import length_of
from midms.evaluation.benchmark import Method, encode_batch
from midms.evaluation.rows import barrier, rank_and_world
from midms.models.matcher import Matcher
from midms.pipelines.settings import Settings
from midms.progress import Progress
from midms.visualize import condition_image, save_png, to_pixels

#: Folder of a pair's own pictures -> key of the item.
PARTNERS = {"sources": "source", "exemplars": "exemplar", "truth": "truth", "conditions": "condition"}


@dataclass(frozen=True)
class Plan:
    """Everything that determines the images of one row."""

    name: str
    method: Method
    settings: Settings


class CrossedPairs(Dataset[dict[str, Any]]):
    """Each of the first conditions of a dataset with several exemplars: its own and those of the following pairs.

    All outputs of one condition use the same noise, so that only the exemplar differs.

    Args:
        dataset: pairs. conditions: their number. exemplars: number per condition (at most the dataset's length).
    """

    def __init__(self, dataset: Dataset[Any], conditions: int, exemplars: int) -> None:
        self.dataset, count = dataset, length_of(dataset)
        self.places = [
            (c, (c + k) % count) for c in range(min(conditions, count)) for k in range(min(exemplars, count))
        ]

    @property
    def names(self) -> list[str]:
        return [f"{condition:05d}__{exemplar:05d}" for condition, exemplar in self.places]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        condition, exemplar = self.places[index]
        own, other = self.dataset[condition], self.dataset[exemplar]
        keys = ("exemplar", "exemplar_condition")
        return {"condition": own["condition"], "source": own["source"], "pair": condition} | {k: other[k] for k in keys}


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state dict."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def row_folder(root: Path, name: str, recipe: Mapping[str, Any]) -> Path:
    """root/name-digest, with a digest of the recipe."""
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return root / f"{re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_')}-{digest}"


def recipe_of(plan: Plan, weights: str, data: str, seed: int) -> dict[str, Any]:
    """Everything on which the images of a row depend."""
    method = getattr(plan.method, "__name__", plan.name)
    return {"method": method, "settings": asdict(plan.settings), "weights": weights, "data": data, "seed": seed}


def _missing(folder: Path, names: Sequence[str]) -> bool:
    return any(not (folder / f"{name}.png").is_file() for name in names)


def _save(folder: Path, names: Sequence[str], images: Tensor) -> None:
    for name, pixels in zip(names, to_pixels(images), strict=True):
        save_png(folder / f"{name}.png", pixels)


def _sample_batch(
    model: Matcher,
    dataset: Dataset[Any],
    indices: range,
    names: Sequence[str],
    rows: Mapping[Path, tuple[Plan, int]],
    partners: Path | None,
) -> None:
    """Make the missing images of a batch of pairs."""
    todo = {folder: plan for folder, plan in rows.items() if _missing(folder, names)}
    lacking = partners is not None and _missing(partners / "exemplars", names)  # written last
    if not todo and not lacking:
        return
    pair = encode_batch(model, dataset, indices)
    if lacking and partners is not None:
        pictures = {**pair.batch, "condition": condition_image(pair.batch["condition"])}
        for kind in ("conditions", "sources", "truth", "exemplars"):
            if PARTNERS[kind] in pictures:
                _save(partners / kind, names, pictures[PARTNERS[kind]])
    for folder, (plan, seed) in todo.items():
        _save(folder, names, plan.method(model, pair._replace(seed=seed), plan.settings).float())


@torch.no_grad()
def sample(
    model: Matcher,
    dataset: Dataset[Any],
    names: Sequence[str],
    rows: Mapping[Path, tuple[Plan, int]],
    batch_size: int = 16,
    partners: Path | None = None,
    progress: bool = False,
) -> None:
    """Make the missing images of some rows, all ranks together.

    Args:
        model: the networks.
        dataset: items with "condition", "source", "exemplar", "exemplar_condition" and, for bounds, "truth".
        names: a file name for each item.
        rows: folder -> (its plan, the seed of its noise).
        partners: folder in which the pairs' own pictures are written, too (see `PARTNERS`).
    """
    rank, world = rank_and_world()
    batches = [range(start, min(start + batch_size, len(names))) for start in range(0, len(names), batch_size)]
    mine = batches[rank::world]
    with Progress("sampling", sum(map(len, mine)), not progress or rank > 0) as bar:
        for batch in mine:
            _sample_batch(model, dataset, batch, [names[index] for index in batch], rows, partners)
            bar.update(len(batch))
    barrier()
