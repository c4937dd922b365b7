"""Both directions of the matching in one pass that never stores the correlation matrix.

Row direction: `softmax_v(C(u, v) / tau)` over the keys v, applied to values and key coordinates (Eq. 6).
Column direction: `softmax_u(C(u, v) / tau)` over the queries u, applied to query coordinates (Eq. 10) and to the result
of the row direction (the cycle warp of Eq. 13).

A tile is a few query rows against all keys. The softmax of a row is therefore complete within its tile, and its warp
can be used at once as a value of the column direction. Both directions share one exponential per pair: with logit L, a
row's 2**(L - top[u]) times a factor of its query is the column's 2**(L - peak).

The range of float32 does not cover all cosines at tau = 0.005. Columns (keys) whose best match is far below the overall
best (by about 0.5 in cosine) underflow. They are detected by their sum and recomputed exactly, with the roles of query
and key exchanged. The backward pass recomputes each tile from the saved inputs and logarithmic normalisers, and shares
its exponential in the same way.

The token layout is (B, C, N). Logits are in units of log 2, so that exp2 can be used.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LOG2_E = math.log2(math.e)
CPU_TILE = 2**21  # logits per tile: 8 MB of float32 stay in the last cache
GPU_TILE = 2**26
MIN_ROWS = 64
#: The weights are applied to a multiple of so many channels, for which MKL sums alike with any number of threads.
ROWS = 4


class Problem(NamedTuple):
    """Input of both backends: one query grid, one exemplar, and the requested results."""

    query: Tensor  # unit features (B, C, Hq, Wq), float32 or float64
    key: Tensor  # unit features (B, C, Hk, Wk)
    values: Tensor  # (B, V, Hk, Wk)
    query_grid: Tensor  # coordinates (2, Hq, Wq)
    key_grid: Tensor  # coordinates (2, Hk, Wk)
    temperature: float  # tau
    cycle_channels: int  # number of value channels to warp back; 0: none
    backward: bool  # whether to compute the expected query coordinates of the keys
    key_mask: Tensor | None  # true where a key may be used, (B, Hk, Wk) or (B, 1, Hk, Wk); None: everywhere


class Correspondence(NamedTuple):
    """One query grid matched with one exemplar: its part of a `Match`, and `log_mass`."""

    warp: Tensor  # (B, V, Hq, Wq)
    forward_map: Tensor  # (B, 2, Hq, Wq)
    log_mass: Tensor  # (B, Hq, Wq): log sum_v exp(C(u, v) / tau), the weight of this exemplar among several
    backward_map: Tensor | None  # (B, 2, Hk, Wk)
    cycle: Tensor | None  # (B, Vc, Hk, Wk)


def masked_logit(temperature: float) -> float:
    """Logit of a masked key: finite, and so far below any cosine over tau that its weight is negligible."""
    return -1.0 / temperature - 1000.0


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Run float32 products as float32: autocast off, no TF32 on CUDA and no bfloat16 in CPU matrix products."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def stream_correspondence(problem: Problem) -> Correspondence:
    """Match one query grid with one exemplar in memory linear in the number of tokens."""
    query, key, values, query_grid, key_grid, temperature, cycle_channels, backward, key_mask = problem
    batch, channels = values.shape[:2]
    query_size, key_size = query.shape[-2:], key.shape[-2:]
    forbidden = None
    if key_mask is not None:
        forbidden = ~(key_mask if key_mask.dtype == torch.bool else key_mask > 0.5).flatten(1)  # (B, Nk)
    row, log_mass, column = _Stream.apply(
        query.flatten(2) * (LOG2_E / temperature),  # products with unit keys are logits in units of log 2
        key.flatten(2).contiguous(),
        torch.cat([values, key_grid.expand(batch, -1, -1, -1)], dim=1).flatten(2),  # (B, V+2, Nk)
        query_grid.flatten(1) if backward else query_grid.new_empty(0, query_grid[0].numel()),  # (2 or 0, Nq)
        forbidden,
        masked_logit(temperature) * LOG2_E,
        cycle_channels,
    )
    row = row.unflatten(2, query_size)  # (B, V+2, Hq, Wq)
    column = column.unflatten(2, key_size)  # (B, Vc + 2 or 0, Hk, Wk)
    return Correspondence(
        warp=row[:, :channels],
        forward_map=row[:, channels:],
        log_mass=log_mass.unflatten(1, query_size),
        backward_map=column[:, cycle_channels:] if backward else None,
        cycle=column[:, :cycle_channels] if cycle_channels else None,
    )


class _Stream(torch.autograd.Function):
    """row (B, V, Nq), log_mass (B, Nq), column (B, Vc + G, Nk) of tokens query, key and values; G query coordinates."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,  # (B, C, Nq), scaled so that query . key is the logit in units of log 2
        key: Tensor,  # (B, C, Nk)
        values: Tensor,  # (B, V, Nk)
        query_values: Tensor,  # (G, Nq)
        forbidden: Tensor | None,  # (B, Nk)
        masked: float,
        cycle_channels: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        plan = _Plan(masked, cycle_channels, query_values)
        parts = _samples_at_once(query)
        results = []
        for part in parts:
            results.append(_forward(plan, query[part], key[part], values[part], _at(forbidden, part)))
        row, row_log, column, column_log = (torch.cat(whole) for whole in zip(*(r[:4] for r in results), strict=True))
        ctx.save_for_backward(query, key, values, forbidden, row, row_log, column, column_log)
        ctx.plan, ctx.parts, ctx.redone = plan, parts, [result.redone for result in results]
        ctx.set_materialize_grads(False)
        return row, row_log / LOG2_E, column

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, row_gradient: Tensor | None, mass_gradient: Tensor | None, column_gradient: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        query, key, values, forbidden, row, row_log, column, column_log = ctx.saved_tensors
        row_gradient = torch.zeros_like(row) if row_gradient is None else row_gradient
        mass_gradient = torch.zeros_like(row_log) if mass_gradient is None else mass_gradient
        gradients = []
        with full_precision(query.device):
            for part, redone in zip(ctx.parts, ctx.redone, strict=True):
                inputs = query[part], key[part], values[part], _at(forbidden, part)
                saved = _Result(row[part], row_log[part], column[part], column_log[part], redone)
                upstream = _Upstream(row_gradient[part], mass_gradient[part], _at(column_gradient, part))
                gradients.append(_backward(ctx.plan, *inputs, saved, upstream))
        whole = [torch.cat(parts) for parts in zip(*gradients, strict=True)]
        return *whole, None, None, None, None


class _Plan(NamedTuple):
    """Settings of a pass: the logit of masked keys and the values of its column direction."""

    masked: float  # logit of a masked key
    cycle_channels: int  # number of channels of the row result that are warped back
    query_values: Tensor  # (G, Nq), further values

    def logits(self, query: Tensor, key: Tensor, tile: slice, forbidden: Tensor | None, room: Tensor) -> Tensor:
        """Logits of the tile's queries with all keys, (b, r, Nk), in `room`."""
        logits = torch.bmm(query[:, :, tile].mT, key, out=room[:, : tile.stop - tile.start])
        return logits if forbidden is None else logits.masked_fill_(forbidden[:, None], self.masked)

    def column_values(self, row: Tensor, tile: slice = slice(None)) -> Tensor:
        """Values of the column direction at some queries, from the row result (b, V, Nq): (b, Vc+G, r)."""
        coordinates = self.query_values[:, tile].expand(len(row), -1, -1)
        return torch.cat([row[:, : self.cycle_channels, tile], coordinates], dim=1)

    def rows_only(self) -> _Plan:
        return _Plan(self.masked, 0, self.query_values[:0])


class _Result(NamedTuple):
    row: Tensor  # (b, V, Nq)
    row_log: Tensor  # (b, Nq): log2 of the rows' softmax denominators
    column: Tensor  # (b, Vc+G, Nk)
    column_log: Tensor  # (b, Nk)
    redone: Tensor  # indices of the keys whose column underflowed and was recomputed


class _Upstream(NamedTuple):
    """Upstream gradients: those of the results."""

    row: Tensor  # (b, V, Nq)
    mass: Tensor  # (b, Nq)
    column: Tensor | None  # (b, Vc+G, Nk)


class _Range(NamedTuple):
    """Range of binary exponents of a number type, and the part of it that the shared exponential uses."""

    lowest: float  # exponents are clamped here, just above the subnormal numbers, which are slow
    shift: float  # exponent of the largest weight of a row, and of the largest factor of a query
    margin: float  # bits by which a column's sum must exceed its clamped part

    @classmethod
    def of(cls, dtype: torch.dtype) -> _Range:
        return cls(-1020.0, 400.0, 45.0) if dtype == torch.float64 else cls(-125.0, 50.0, 24.0)


def _forward(plan: _Plan, query: Tensor, key: Tensor, values: Tensor, forbidden: Tensor | None) -> _Result:
    """One pass over query (b, C, Nq), key (b, C, Nk), values (b, V, Nk), forbidden (b, Nk)."""
    (batch, _, n_query), n_key = query.shape, key.shape[2]
    lowest, shift, margin = _Range.of(query.dtype)
    tiles, room = _tiles(query, key)
    row, row_log = query.new_empty(batch, values.shape[1], n_query), query.new_empty(batch, n_query)
    row_values = _with_ones(values, ROWS)  # (b, V+1 or more, Nk): the last channels sum the weights
    column_channels = plan.cycle_channels + len(plan.query_values)
    column_sum = query.new_zeros(batch, column_channels + _ones(column_channels, ROWS), n_key)
    peak = query.new_full((batch, 1, 1), -math.inf)  # largest logit so far
    for tile in tiles:
        logits = plan.logits(query, key, tile, forbidden, room)  # (b, r, Nk)
        top = logits.amax(dim=2, keepdim=True)  # (b, r, 1)
        weights = logits.sub_(top - shift).clamp_(min=lowest).exp2_()  # (b, r, Nk)
        total = row_values @ weights.mT  # (b, V+1 or more, r): the narrow operand on the left
        row[:, :, tile] = total[:, : values.shape[1]] / total[:, -1:]
        row_log[:, tile] = total[:, -1].log2() + (top[:, :, 0] - shift)
        if column_channels:
            new_peak = torch.maximum(peak, top.amax(dim=1, keepdim=True))
            column_sum *= torch.exp2(peak - new_peak)
            peak = new_peak
            factor = torch.exp2(top - peak + shift).mT  # (b, 1, r)
            column_sum.baddbmm_(_with_ones(plan.column_values(row, tile), ROWS) * factor, weights)
    mass = column_sum[:, -1]  # (b, Nk)
    column, column_log = column_sum[:, :column_channels] / mass[:, None], mass.log2() + peak[:, 0] - 2.0 * shift
    lost = (mass < n_query * 2.0 ** (lowest + shift + margin)).any(dim=0) if column_channels else mass.new_zeros(0)
    redone = lost.nonzero()[:, 0]
    if len(redone):
        again = _forward(plan.rows_only(), key[:, :, redone], query, plan.column_values(row), None)
        column[:, :, redone], column_log[:, redone] = again.row, again.row_log
    return _Result(row, row_log, column, column_log, redone)


def _backward(
    plan: _Plan,
    query: Tensor,
    key: Tensor,
    values: Tensor,
    forbidden: Tensor | None,
    result: _Result,
    upstream: _Upstream,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and values.

    With row weights P, column weights D, results R and Z, and their upstream gradients g and h, the logits receive
        P * (g^T values - g.R + g_mass)  +  D * (Y^T h - h.Z),   where Y holds the values of the column direction,
    and Y's first channels, being rows of R, pass dY = h D^T on to g. D is P times a factor of the query and one of the
    key, so both terms are one narrow product times P.
    """
    lowest, shift, _ = _Range.of(query.dtype)
    tiles, room = _tiles(query, key)
    slope_room = torch.empty_like(room)
    query_gradient, key_gradient, values_gradient = (torch.zeros_like(tensor) for tensor in (query, key, values))
    row_gradient, mass_gradient, column_gradient = upstream.row.clone(), upstream.mass, upstream.column
    right = _with_ones(values)  # (b, V+1, Nk)
    if column_gradient is not None:
        if len(result.redone):
            parts = _backward_redone(plan, query, key, result, column_gradient)
            query_gradient += parts[0]
            key_gradient[:, :, result.redone] = parts[1]
            row_gradient[:, : plan.cycle_channels] += parts[2]
        peak = result.row_log.amax(dim=1)[:, None, None]  # (b, 1, 1)
        part = 0.4 * shift  # the rest of the exponents goes to the keys, whose upstream gradients may be small
        query_factor = torch.exp2(result.row_log[:, None] - peak + part)  # (b, 1, Nq)
        key_factor = torch.exp2(peak - result.column_log[:, None] - part - shift)  # (b, 1, Nk)
        key_factor[:, :, result.redone] = 0.0
        offset = -(column_gradient * result.column).sum(dim=1, keepdim=True)  # (b, 1, Nk)
        returning = column_gradient[:, : plan.cycle_channels] * key_factor  # (b, Vc, Nk)
        right = torch.cat([right, torch.cat([column_gradient, offset], dim=1) * key_factor], dim=1)
    right = right * math.log(2.0)  # from natural logits to logits in units of log 2
    for tile in tiles:
        logits = plan.logits(query, key, tile, forbidden, room)  # (b, r, Nk)
        weights = logits.sub_((result.row_log[:, tile] - shift)[:, :, None]).clamp_(min=lowest).exp2_()  # 2**shift P
        gradient = row_gradient[:, :, tile]  # (b, V, r)
        if column_gradient is not None:
            gradient[:, : plan.cycle_channels] += (returning @ weights.mT) * query_factor[:, :, tile]
        values_gradient.baddbmm_(gradient, weights)
        row_offset = mass_gradient[:, tile] - (gradient * result.row[:, :, tile]).sum(dim=1)  # (b, r)
        left = torch.cat([gradient, row_offset[:, None]], dim=1) * 2.0**-shift  # (b, V+1, r)
        if column_gradient is not None:
            left = torch.cat([left, _with_ones(plan.column_values(result.row, tile)) * query_factor[:, :, tile]], dim=1)
        slope = torch.bmm(left.mT, right, out=slope_room[:, : weights.shape[1]])
        slope *= weights  # (b, r, Nk): gradient of the logits
        query_gradient[:, :, tile] += key @ slope.mT  # (b, C, r)
        key_gradient.baddbmm_(query[:, :, tile], slope)
    return query_gradient, key_gradient, values_gradient * 2.0**-shift


def _backward_redone(
    plan: _Plan, query: Tensor, key: Tensor, result: _Result, column_gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query (b, C, Nq), the redone keys (b, C, m) and the returning rows (b, Vc, Nq): roles exchanged."""
    redone = result.redone
    columns = _Result(result.column[:, :, redone], result.column_log[:, redone], redone, redone, redone[:0])
    keys, gradient = key[:, :, redone], column_gradient[:, :, redone]
    upstream = _Upstream(gradient, torch.zeros_like(columns.row_log), None)
    parts = _backward(plan.rows_only(), keys, query, plan.column_values(result.row), None, columns, upstream)
    return parts[1], parts[0], parts[2][:, : plan.cycle_channels]


def _tiles(query: Tensor, key: Tensor) -> tuple[list[slice], Tensor]:
    """Ranges of query rows, one per tile, and the buffer of a tile of logits."""
    (batch, _, n_query), n_key = query.shape, key.shape[2]
    fit = (CPU_TILE if query.device.type == "cpu" else GPU_TILE) // (batch * n_key)
    rows = min(max(fit, MIN_ROWS), n_query)
    tiles = [slice(start, min(start + rows, n_query)) for start in range(0, n_query, rows)]
    return tiles, query.new_empty(batch, rows, n_key)


def _samples_at_once(query: Tensor) -> list[slice]:
    """CPU: one sample at a time; other devices: the whole batch."""
    step = 1 if query.device.type == "cpu" else len(query)
    return [slice(start, start + step) for start in range(0, len(query), step)]


def _ones(channels: int, multiple: int) -> int:
    """How many channels make a multiple of it, at least one."""
    return multiple - channels % multiple


def _with_ones(values: Tensor, multiple: int = 1) -> Tensor:
    """(b, V, n) -> (b, V+1, n), or with more channels of ones, so many that all are a multiple of `multiple`."""
    shape = (len(values), _ones(values.shape[1], multiple), values.shape[2])
    return torch.cat([values, values.new_ones(shape)], dim=1)


def _at(tensor: Tensor | None, part: slice) -> Tensor | None:
    return None if tensor is None else tensor[part]
