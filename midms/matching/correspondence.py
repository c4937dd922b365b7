"""Cross-domain correspondence and warping (paper Eq. 5, 6, 13).

Shape letters: B batch, C feature channels, V value channels, (Hq, Wq) query grid (condition or current prediction),
(Hk, Wk) key grid (exemplar), K exemplars. Grids may differ in size and need not be square. Coordinates are (x, y) in
[-1, 1] with the end points on the outermost cells (`align_corners=True` of `grid_sample`).

`match` is the entry point. It has two backends with the same result. "dense" is the readable reference and stores the
whole correlation. "streaming" (`midms.matching.streaming`) never stores Hq*Wq*Hk*Wk elements, forward or backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypedDict, Unpack

import torch
from torch import Tensor

from midms.matching.streaming import Correspondence, Problem, full_precision, masked_logit, stream_correspondence
from midms.schema import check_argument_names

Backend = Literal["auto", "dense", "streaming"]

# "auto" uses the dense form up to this many query-key pairs (10x10 tokens), where it is faster
DENSE_LIMIT = 100 * 100


class MatchOptions(TypedDict, total=False):
    """Keyword arguments of `match`: which results to compute besides the warp, and how.

    Attributes:
        cycle: also warp the warp back onto the key grid (Eq. 13). Default: False.
        cycle_channels: number of leading value channels to warp back. Default None: all.
        backward: also return the expected query coordinates of each key. Default: False.
        clamp: set negative cosines to 0, as the released code does. Only in the dense form. Default: False.
        backend: "streaming" needs memory linear in the number of tokens, "dense" stores the matrix. The default "auto"
            uses the dense form only for very small grids.
    """

    cycle: bool
    cycle_channels: int | None
    backward: bool
    clamp: bool
    backend: Backend


class Match(NamedTuple):
    """Result of matching one query with its K exemplars.

    The tuples have one entry per exemplar, computed as if it were the only one. `backward_maps` and `cycles` are empty
    unless requested. Only `warp` mixes the exemplars, by one softmax over the keys of all of them.
    """

    warp: Tensor  # (B, V, Hq, Wq) values moved onto the query grid (Eq. 6)
    share: Tensor  # (B, K, Hq, Wq) softmax mass on each exemplar, sums to 1 over K
    forward_maps: tuple[Tensor, ...]  # (B, 2, Hq, Wq) expected key coordinates of each query
    backward_maps: tuple[Tensor, ...] = ()  # (B, 2, Hk, Wk) expected query coordinates of each key
    cycles: tuple[Tensor, ...] = ()  # (B, V, Hk, Wk) the warp warped back, softmax over queries (Eq. 13)


def normalize_features(features: Tensor, eps: float = 0.0) -> Tensor:
    """Centre over channels and scale to unit L2 norm over channels (the normalisation of Eq. 5 as released).

    Args:
        features: (B, C, H, W), raw encoder output.
        eps: added to the norm. With 0 a constant feature vector becomes the zero vector.
    Returns:
        (B, C, H, W), zero mean and unit norm over C.
    """
    centred = features - features.mean(dim=1, keepdim=True)  # (B, C, H, W)
    return _unit(centred, eps)  # (B, C, H, W)


def _unit(features: Tensor, eps: float) -> Tensor:
    norm = (features * features).sum(dim=1, keepdim=True).clamp_min(1e-24).sqrt()  # (B, 1, H, W)
    return features / (norm + eps)


def correlation(query: Tensor, key: Tensor, clamp: bool = False, eps: float = 0.0) -> Tensor:
    """Cosine of every query feature with every key feature (Eq. 5), as one tensor: the dense reference.

    The features are not centred here: pass `normalize_features(...)` of raw features. `clamp=True, eps=1e-5` gives the
    released form.

    Args:
        query: (B, C, Hq, Wq).
        key: (B, C, Hk, Wk).
        clamp: replace negative cosines by 0.
        eps: added to both norms.
    Returns:
        (B, Hq, Wq, Hk, Wk).
    """
    cosine = torch.einsum("bcij,bckl->bijkl", _unit(query, eps), _unit(key, eps))
    return cosine.clamp_min(0.0) if clamp else cosine


def soft_warp(values: Tensor, correlation: Tensor, temperature: float) -> Tensor:
    """Move `values` onto the query grid by softmax-weighted correlation (Eq. 6).

    For the cycle warp of Eq. 13 pass `correlation.permute(0, 3, 4, 1, 2)`. Its softmax runs over queries, so its
    weights are not the transposed weights of the forward warp.

    Args:
        values: (B, V, Hk, Wk), on the key grid.
        correlation: cosines, (B, Hq, Wq, Hk, Wk).
        temperature: tau of the softmax.
    Returns:
        (B, V, Hq, Wq).
    """
    weights = torch.softmax((correlation / temperature).flatten(3), dim=-1)  # (B, Hq, Wq, Hk*Wk)
    return torch.einsum("bijn,bvn->bvij", weights, values.flatten(2))


def coordinate_grid(
    height: int, width: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Cell coordinates (2, height, width): x then y, from -1 to 1, end points included (a single cell is at -1)."""
    x = torch.linspace(-1.0, 1.0, width, device=device, dtype=dtype)
    y = torch.linspace(-1.0, 1.0, height, device=device, dtype=dtype)
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])


def match(
    query: Tensor,
    key: Tensor | Sequence[Tensor],
    values: Tensor | Sequence[Tensor],
    temperature: float = 0.005,
    *,
    key_mask: Tensor | Sequence[Tensor | None] | None = None,
    **options: Unpack[MatchOptions],
) -> Match:
    """Match raw features and warp `values` onto the query grid (Eq. 5, 6, 13), all directions in one pass.

    Features are centred and normalised here. Logits are float32 (float64 for float64 features), independent of autocast
    and `set_float32_matmul_precision`, because at tau = 0.005 a bfloat16 logit is wrong by several units. Both backends
    are differentiable with respect to query, key and values.

    Args:
        query: raw features (B, C, Hq, Wq).
        key: raw features (B, C, Hk, Wk) of one exemplar, or a sequence of them, one per exemplar (grids may differ).
        values: (B, V, Hk, Wk) on the key grid (latents, labels, ...), or a sequence, one per exemplar.
        temperature: tau > 0.
        key_mask: (B, Hk, Wk) or (B, 1, Hk, Wk), true (or > 0.5) where a key may be used; or a sequence, with None for
            "all". A masked key has no weight in the warp; its own backward map and cycle value are still computed.
        options: `cycle`, `cycle_channels`, `backward`, `clamp` and `backend`, see `MatchOptions`.
    Returns:
        `Match`, in float32 (float64 for float64 features).
    Raises:
        ValueError: incompatible shapes, an unknown backend, a clamp in the streaming form, or a sample all of whose
            keys are masked.
        TypeError: an unknown option.
    """
    check_argument_names("match", MatchOptions, options)
    clamp, backend = options.get("clamp", False), options.get("backend", "auto")
    if clamp and backend == "streaming":
        raise ValueError("match: clamp=True needs the dense form, got backend='streaming'; leave it at 'auto'")
    keys, all_values, masks = _as_lists(key, values, key_mask)
    _check(query, keys, all_values, masks, temperature, backend)
    dtype = torch.float64 if torch.float64 in (query.dtype, keys[0].dtype) else torch.float32
    height, width = query.shape[-2:]
    with full_precision(query.device):
        unit_query = normalize_features(query.to(dtype))  # (B, C, Hq, Wq)
        query_grid = coordinate_grid(height, width, query.device, dtype)  # (2, Hq, Wq)
        parts = []
        for one_key, one_values, mask in zip(keys, all_values, masks, strict=True):
            unit_key = normalize_features(one_key.to(dtype))  # (B, C, Hk, Wk)
            key_grid = coordinate_grid(one_key.shape[2], one_key.shape[3], query.device, dtype)
            back = _cycle_channels(options, one_values)
            grids, backward = (query_grid, key_grid), options.get("backward", False)
            problem = Problem(unit_query, unit_key, one_values.to(dtype), *grids, temperature, back, backward, mask)
            small = backend == "auto" and height * width * key_grid[0].numel() <= DENSE_LIMIT
            if clamp or small or backend == "dense":
                parts.append(_dense_correspondence(problem, clamp))
            else:
                parts.append(stream_correspondence(problem))
        return _join(parts)


def argmax_correspondence(query: Tensor, key: Tensor, key_mask: Tensor | None = None, rows: int = 512) -> Tensor:
    """Coordinates of the best matching key of each query, without gradient; for drawings.

    Args:
        query: raw features (B, C, Hq, Wq).
        key: raw features (B, C, Hk, Wk).
        key_mask: as in `match`.
        rows: queries per chunk; memory is rows * Hk * Wk per sample.
    Returns:
        (x, y) in [-1, 1], (B, 2, Hq, Wq).
    """
    _check(query, [key], [key], [key_mask], 1.0, "dense")
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    batch, _, height, width = query.shape
    with torch.no_grad(), full_precision(query.device):
        unit_query = normalize_features(query.to(dtype)).flatten(2)  # (B, C, Nq)
        unit_key = normalize_features(key.to(dtype)).flatten(2)  # (B, C, Nk)
        grid = coordinate_grid(key.shape[2], key.shape[3], query.device, dtype).flatten(1)  # (2, Nk)
        best = torch.empty(batch, height * width, dtype=torch.long, device=query.device)
        for start in range(0, height * width, rows):
            cosine = unit_query[:, :, start : start + rows].mT @ unit_key  # (B, rows, Nk)
            if key_mask is not None:
                cosine.masked_fill_(~_flat_mask(key_mask)[:, None], -2.0)
            best[:, start : start + rows] = cosine.argmax(dim=-1)
        return grid[:, best].transpose(0, 1).reshape(batch, 2, height, width)  # (B, 2, Hq, Wq)


def _dense_correspondence(problem: Problem, clamp: bool) -> Correspondence:
    """The reference: the result of `stream_correspondence` for one exemplar, computed from the full matrix."""
    query, key, values, query_grid, key_grid, temperature, cycle_channels, backward, key_mask = problem
    batch, channels = values.shape[:2]
    cosine = correlation(query, key, clamp)  # (B, Hq, Wq, Hk, Wk)
    row_logits = (cosine / temperature).flatten(3)  # (B, Hq, Wq, Hk*Wk)
    if key_mask is not None:
        row_logits = row_logits.masked_fill(~_flat_mask(key_mask)[:, None, None], masked_logit(temperature))
    row_values = torch.cat([values, key_grid.expand(batch, -1, -1, -1)], dim=1)  # (B, V+2, Hk, Wk)
    row = soft_warp(row_values, row_logits.unflatten(3, key.shape[-2:]), 1.0)  # (B, V+2, Hq, Wq)
    column_values = torch.cat(
        [row[:, :cycle_channels], query_grid.expand(batch, -1, -1, -1)], dim=1
    )  # (B, Vc+2, Hq, Wq)
    column = (
        soft_warp(column_values, cosine.permute(0, 3, 4, 1, 2), temperature) if cycle_channels or backward else None
    )
    return Correspondence(
        warp=row[:, :channels],
        forward_map=row[:, channels:],
        log_mass=row_logits.logsumexp(dim=-1),
        backward_map=column[:, cycle_channels:] if column is not None and backward else None,
        cycle=column[:, :cycle_channels] if column is not None and cycle_channels else None,
    )


def _join(parts: list[Correspondence]) -> Match:
    """One softmax over the keys of all exemplars is a mixture of the single ones, weighted by their softmax masses."""
    if len(parts) == 1:
        warp, share = parts[0].warp, torch.ones_like(parts[0].log_mass)[:, None]  # (B, V, Hq, Wq), (B, 1, Hq, Wq)
    else:
        share = torch.softmax(torch.stack([part.log_mass for part in parts], dim=1), dim=1)  # (B, K, Hq, Wq)
        warps = torch.stack([part.warp for part in parts], dim=1)  # (B, K, V, Hq, Wq)
        warp = (share[:, :, None] * warps).sum(dim=1)  # (B, V, Hq, Wq)
    return Match(
        warp,
        share,
        forward_maps=tuple(part.forward_map for part in parts),
        backward_maps=tuple(part.backward_map for part in parts if part.backward_map is not None),
        cycles=tuple(part.cycle for part in parts if part.cycle is not None),
    )


def _cycle_channels(options: MatchOptions, values: Tensor) -> int:
    """How many leading channels of the values (B, V, Hk, Wk) are warped back."""
    if not options.get("cycle", False):
        return 0
    channels = options.get("cycle_channels")
    return int(values.shape[1]) if channels is None else channels


def _flat_mask(key_mask: Tensor) -> Tensor:
    """(B, Hk, Wk) or (B, 1, Hk, Wk), boolean or real, to boolean (B, Hk*Wk)."""
    return (key_mask if key_mask.dtype == torch.bool else key_mask > 0.5).flatten(1)


def _as_lists(
    key: Tensor | Sequence[Tensor], values: Tensor | Sequence[Tensor], key_mask: Tensor | Sequence[Tensor | None] | None
) -> tuple[list[Tensor], list[Tensor], list[Tensor | None]]:
    keys = [key] if isinstance(key, Tensor) else list(key)
    all_values = [values] if isinstance(values, Tensor) else list(values)
    if isinstance(key_mask, Tensor):
        masks: list[Tensor | None] = [key_mask]
    else:
        masks = [None] * len(keys) if key_mask is None else list(key_mask)
    if not keys or not len(keys) == len(all_values) == len(masks):
        raise ValueError(
            f"match: got {len(keys)} key, {len(all_values)} values and {len(masks)} mask tensors; "
            "expected one of each per exemplar, and at least one exemplar"
        )
    return keys, all_values, masks


def _check(
    query: Tensor,
    keys: list[Tensor],
    all_values: list[Tensor],
    masks: list[Tensor | None],
    temperature: float,
    backend: str,
) -> None:
    if backend not in ("auto", "dense", "streaming"):
        raise ValueError(f"match: backend is {backend!r}, expected 'auto', 'dense' or 'streaming'")
    if not temperature > 0.0:
        raise ValueError(f"match: temperature is {temperature}, expected a number > 0 (the release uses 0.005)")
    if query.ndim != 4:
        raise ValueError(f"match: query has shape {tuple(query.shape)}, expected (B, C, H, W)")
    for index, (key, values, mask) in enumerate(zip(keys, all_values, masks, strict=True)):
        if key.ndim != 4 or key.shape[:2] != query.shape[:2]:
            raise ValueError(
                f"match: key {index} has shape {tuple(key.shape)}, expected (B, C, H, W) with "
                f"B, C = {tuple(query.shape[:2])} as the query"
            )
        if values.ndim != 4 or values.shape[0] != key.shape[0] or values.shape[2:] != key.shape[2:]:
            raise ValueError(
                f"match: values {index} have shape {tuple(values.shape)}, expected batch {key.shape[0]} and grid "
                f"{tuple(key.shape[2:])} as the key; resize them to the key's grid"
            )
        if values.shape[1] != all_values[0].shape[1]:
            raise ValueError(
                f"match: values {index} have {values.shape[1]} channels, "
                f"expected {all_values[0].shape[1]} as exemplar 0"
            )
        if mask is not None and mask.numel() != key.shape[0] * key.shape[2] * key.shape[3]:
            raise ValueError(
                f"match: key_mask {index} has shape {tuple(mask.shape)}, expected {(key.shape[0], *key.shape[2:])}"
                " (one entry per key)"
            )
    if all(mask is not None for mask in masks):
        allowed = torch.stack([_flat_mask(mask).any(dim=1) for mask in masks if mask is not None]).any(dim=0)  # (B,)
        if not bool(allowed.all()):
            sample = int((~allowed).nonzero()[0])
            raise ValueError(f"match: sample {sample} has all its keys masked; leave at least one key in one exemplar")
