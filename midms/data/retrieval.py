"""Exemplar retrieval: features of photos, and nearest neighbours by cosine similarity.

The published lists were made from VGG features and cosine similarity. `colour_and_gradient_features` needs no weights;
any torch module that gives one vector per image works, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CELLS, _ORIENTATIONS, _HUES = 4, 8, 4
#: Weight of gradients relative to colours. Exemplars are chosen for style, so colours weigh more.
_GRADIENT_WEIGHT = 0.5


def colour_and_gradient_features(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """One vector for a photo, RGB (H, W, 3): colours of the photo and of its cells, and gradient directions.

    Colours are a joint Lab histogram (4 x 4 x 4 bins) under a square root, and mean Lab values of 4 x 4 cells;
    gradients a histogram of 8 unsigned directions in each cell (HOG). Each of the three has unit length.
    """
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    bins = np.minimum(lab // (256 // _HUES), _HUES - 1).astype(np.int64) @ np.array([_HUES**2, _HUES, 1])
    histogram = np.sqrt(np.bincount(bins.ravel(), minlength=_HUES**3).astype(np.float64))
    means = cv2.resize(lab, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).ravel() - 128
    across, down = (cv2.Sobel(lab[..., 0], cv2.CV_32F, *axes, ksize=3) for axes in ((1, 0), (0, 1)))
    angle = (np.arctan2(down, across) % np.pi) * (_ORIENTATIONS / np.pi)
    rows, columns = (np.arange(side) * _CELLS // side for side in angle.shape)
    cells = rows[:, None] * _CELLS + columns
    slots = cells * _ORIENTATIONS + np.minimum(angle.astype(np.int64), _ORIENTATIONS - 1)
    gradients = np.bincount(
        slots.ravel(), weights=np.hypot(across, down).ravel(), minlength=_CELLS**2 * _ORIENTATIONS
    ).astype(np.float32)
    return np.concatenate([_unit(histogram), _unit(means), _GRADIENT_WEIGHT * _unit(gradients)])


def module_features(
    module: Callable[[Tensor], Tensor], images: Iterable[Tensor], device: str | torch.device = "cpu"
) -> Tensor:
    """Features of batches (B, 3, H, W) by any module, (N, D); maps (B, C, h, w) are averaged over positions."""
    rows = []
    with torch.inference_mode():
        for batch in images:
            features = module(batch.to(device))
            rows.append((features if features.dim() == 2 else features.flatten(2).mean(2)).float().cpu())
    return torch.cat(rows)


def nearest(
    queries: Tensor,
    keys: Tensor,
    count: int,
    query_groups: Tensor | None = None,
    key_groups: Tensor | None = None,
    chunk: int = 1024,
    device: str | torch.device = "cpu",
) -> tuple[Tensor, Tensor]:
    """Indices and cosines of the `count` nearest keys of each query, best first, (Q, count) each.

    Args:
        queries, keys: features, (Q, D) and (K, D).
        query_groups, key_groups: integers, (Q,) and (K,): keys of the query's own group are excluded. One group per
            photo excludes the photo itself, one group per person all photos of that person.
        chunk: queries per block; memory is chunk x K numbers.
    Raises:
        ValueError: a query has fewer than `count` keys outside its group, or only one side has groups.
    """
    if (query_groups is None) != (key_groups is None):
        raise ValueError("groups of one side only: expected both query_groups and key_groups, or neither")
    if not 1 <= count <= len(keys):
        raise ValueError(f"{count} nearest of {len(keys)} photos: expected 1 ... {len(keys)}")
    unit_keys = torch.nn.functional.normalize(keys.float(), dim=1).to(device)
    groups = None if key_groups is None else key_groups.to(device)
    neighbours, cosines = [], []
    for start in range(0, len(queries), chunk):
        rows = torch.nn.functional.normalize(queries[start : start + chunk].float(), dim=1).to(device)
        similarity = rows @ unit_keys.T  # (chunk, K)
        if groups is not None and query_groups is not None:
            own = query_groups[start : start + chunk].to(device)
            similarity.masked_fill_(own[:, None] == groups, float("-inf"))
        best = similarity.topk(count, dim=1)
        neighbours.append(best.indices.cpu())
        cosines.append(best.values.cpu())
    indices, values = torch.cat(neighbours), torch.cat(cosines)
    if bool(torch.isinf(values).any()):
        raise ValueError(f"some photo has fewer than {count} others outside its own group")
    return indices, values


def group_numbers(labels: Sequence[str], more: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
    """Integer ids for two lists of names, equal for equal names."""
    numbers = {word: number for number, word in enumerate(dict.fromkeys((*labels, *more)))}
    return torch.tensor([numbers[word] for word in labels]), torch.tensor([numbers[word] for word in more])


def fewest_candidates(query_groups: Tensor, key_groups: Tensor) -> int:
    """Fewest keys of other groups that any query has; groups (Q,) and (K,) as for `nearest`."""
    own = (query_groups.unique()[:, None] == key_groups).sum(1)  # (groups of the queries,)
    return len(key_groups) - int(own.max())


def _unit(vector: NDArray[Any]) -> NDArray[np.float32]:
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
