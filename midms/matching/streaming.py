"""Both directions of the matching in one pass that never holds the correlation matrix.

Row direction: `softmax_v(C(u, v) / tau)` over the keys v, applied to values and key coordinates (Eq. 6).
Column direction: `softmax_u(C(u, v) / tau)` over the queries u, applied to query coordinates (Eq. 10) and to the rows'
own result (the cycle warp of Eq. 13).

A tile is a few query rows against all keys, so a row's softmax is finished inside its tile, and its warp can at once be
used as a value of the column direction; columns keep a running maximum and rescale what they have summed so far. The
backward pass makes each tile again from the saved inputs and logarithmic normalisers.

Token layout is (B, C, N) throughout. Logits are held in units of log 2, so that exp2 serves.
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
CPU_TILE = 2**20  # logits per tile, 4 MB of float32: stays in the cache
GPU_TILE = 2**26


class Correspondence(NamedTuple):
    """One query grid matched with one exemplar; the fields are those of `Match`, and `log_mass`."""

    warp: Tensor  # (B, V, Hq, Wq)
    forward_map: Tensor  # (B, 2, Hq, Wq)
    log_mass: Tensor  # (B, Hq, Wq): log sum_v exp(C(u, v) / tau), the weight of this exemplar among several
    backward_map: Tensor | None  # (B, 2, Hk, Wk)
    cycle: Tensor | None  # (B, Vc, Hk, Wk)


def masked_logit(temperature: float) -> float:
    """Logit of a masked key: finite, and so far below any cosine over tau that its weight counts for nothing."""
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


def stream_correspondence(
    query: Tensor,
    key: Tensor,
    values: Tensor,
    query_grid: Tensor,
    key_grid: Tensor,
    temperature: float,
    cycle_channels: int,
    backward: bool,
    key_mask: Tensor | None,
) -> Correspondence:
    """Match one query grid with one exemplar in memory linear in the number of tokens.

    Args:
        query: unit features (B, C, Hq, Wq), float32 or float64.
        key: unit features (B, C, Hk, Wk).
        values: (B, V, Hk, Wk).
        query_grid: coordinates (2, Hq, Wq).
        key_grid: coordinates (2, Hk, Wk).
        temperature: tau.
        cycle_channels: how many of the value channels are warped back; 0 for none.
        backward: whether the expected query coordinates of the keys are wanted.
        key_mask: true where a key may be used, (B, Hk, Wk) or (B, 1, Hk, Wk), or None.
    """
    batch, channels = values.shape[:2]
    query_size, key_size = query.shape[-2:], key.shape[-2:]
    forbidden = None
    if key_mask is not None:
        forbidden = ~(key_mask if key_mask.dtype == torch.bool else key_mask > 0.5).flatten(1)  # (B, Nk)
    row, log_mass, column = _Stream.apply(
        query.flatten(2).contiguous(),
        key.flatten(2).contiguous(),
        torch.cat([values, key_grid.expand(batch, -1, -1, -1)], dim=1).flatten(2),  # (B, V+2, Nk)
        query_grid.flatten(1) if backward else query_grid.new_empty(0, query_grid[0].numel()),  # (2 or 0, Nq)
        forbidden,
        temperature,
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
        query: Tensor,  # (B, C, Nq)
        key: Tensor,  # (B, C, Nk)
        values: Tensor,  # (B, V, Nk)
        query_values: Tensor,  # (G, Nq)
        forbidden: Tensor | None,  # (B, Nk)
        temperature: float,
        cycle_channels: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        plan = _Plan.of(query, key, temperature, cycle_channels)
        batch, n_query, n_key = len(query), query.shape[-1], key.shape[-1]
        row = values.new_empty(batch, values.shape[1], n_query)
        row_log = values.new_empty(batch, n_query)
        column = values.new_empty(batch, cycle_channels + len(query_values), n_key)
        column_log = values.new_empty(batch, n_key)
        for part in plan.parts:
            results = row[part], row_log[part], column[part], column_log[part]
            _forward(plan, query[part], key[part], values[part], query_values, _at(forbidden, part), *results)
        ctx.save_for_backward(query, key, values, query_values, forbidden, row, row_log, column, column_log)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        return row, row_log / LOG2_E, column

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, row_gradient: Tensor | None, mass_gradient: Tensor | None, column_gradient: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        query, key, values, query_values, forbidden, row, row_log, column, column_log = ctx.saved_tensors
        row_gradient = torch.zeros_like(row) if row_gradient is None else row_gradient
        mass_gradient = torch.zeros_like(row_log) if mass_gradient is None else mass_gradient
        gradients = torch.empty_like(query), torch.empty_like(key), torch.empty_like(values)
        with full_precision(query.device):
            for part in plan.parts:
                inputs = query[part], key[part], values[part], query_values, _at(forbidden, part)
                saved = row[part], row_log[part], column[part], column_log[part]
                given = row_gradient[part], mass_gradient[part], _at(column_gradient, part)
                _backward(plan, inputs, saved, given, tuple(gradient[part] for gradient in gradients))
        return *gradients, None, None, None, None


class _Plan(NamedTuple):
    """How the pass is cut: a few samples at a time, a few query rows of them at a time."""

    temperature: float
    cycle_channels: int
    parts: list[slice]  # of the batch
    tiles: list[slice]  # of the queries

    @classmethod
    def of(cls, query: Tensor, key: Tensor, temperature: float, cycle_channels: int) -> _Plan:
        batch, _, n_query = query.shape
        n_key = key.shape[-1]
        if query.device.type == "cpu":
            samples, rows = 1, min(max(CPU_TILE // n_key, 64), 256)
        else:
            samples, rows = batch, min(max(GPU_TILE // (batch * n_key), 64), 4096)
        return cls(temperature, cycle_channels, _slices(batch, samples), _slices(n_query, rows))

    def buffer(self, key: Tensor) -> Tensor:
        """Room for one tile, (b, rows, Nk)."""
        return key.new_empty(len(key), self.tiles[0].stop, key.shape[-1])

    def logits(self, query: Tensor, key: Tensor, tile: slice, out: Tensor) -> Tensor:
        """log2(e) / tau * cosine of the tile's queries with all keys, (b, rows, Nk)."""
        out = out[:, : tile.stop - tile.start]
        return torch.baddbmm(out, query[:, :, tile].mT, key, beta=0.0, alpha=LOG2_E / self.temperature, out=out)

    @property
    def masked(self) -> float:
        return masked_logit(self.temperature) * LOG2_E


def _forward(
    plan: _Plan,
    query: Tensor,  # (b, C, Nq)
    key: Tensor,  # (b, C, Nk)
    values: Tensor,  # (b, V, Nk)
    query_values: Tensor,  # (G, Nq)
    forbidden: Tensor | None,  # (b, Nk)
    row: Tensor,  # result, (b, V, Nq)
    row_log: Tensor,  # result, (b, Nq): log2 of the softmax denominators
    column: Tensor,  # result, (b, Vc + G, Nk)
    column_log: Tensor,  # result, (b, Nk)
) -> None:
    logits_room, weights_room = plan.buffer(key), plan.buffer(key)
    row_values = _with_ones(values)  # (b, V+1, Nk): the last channel sums the weights
    column_top = torch.full_like(column_log, -math.inf)[:, None]  # (b, 1, Nk)
    column_sum = column.new_zeros(len(key), column.shape[1] + 1, key.shape[-1])
    for tile in plan.tiles:
        logits = plan.logits(query, key, tile, logits_room)  # (b, r, Nk)
        weights = weights_room[:, : logits.shape[1]]
        if forbidden is None:
            top = logits.amax(dim=2, keepdim=True)  # (b, r, 1)
            torch.sub(logits, top, out=weights)
        else:
            weights.copy_(logits).masked_fill_(forbidden[:, None], plan.masked)
            top = weights.amax(dim=2, keepdim=True)
            weights.sub_(top)
        total = row_values @ _exp2_(weights).mT  # (b, V+1, r): the narrow operand on the left
        row[:, :, tile] = total[:, :-1] / total[:, -1:]
        row_log[:, tile] = total[:, -1].log2() + top[:, :, 0]
        if column.shape[1]:
            new_top = torch.maximum(column_top, logits.amax(dim=1, keepdim=True))  # (b, 1, Nk)
            column_sum *= torch.exp2(column_top - new_top)
            column_top = new_top
            column_sum.baddbmm_(_column_values(plan, row, query_values, tile), _exp2_(logits.sub_(column_top)))
    if column.shape[1]:
        torch.div(column_sum[:, :-1], column_sum[:, -1:], out=column)
        torch.add(column_sum[:, -1].log2(), column_top[:, 0], out=column_log)


def _backward(
    plan: _Plan,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None],
    saved: tuple[Tensor, Tensor, Tensor, Tensor],
    given: tuple[Tensor, Tensor, Tensor | None],
    results: tuple[Tensor, ...],
) -> None:
    """Gradients of query, key and values, written to `results`.

    With row weights P and column weights D, and upstream gradients g, h of the results R (row) and Z (column):
        dP-logits = P * (g^T [values] - g.R + g_mass),   dD-logits = D * (Y^T h - h.Z),   dY = h D^T,
    where Y holds the column direction's values: the first rows of R, whose gradient dY joins g, and the coordinates.
    """
    query, key, values, query_values, forbidden = inputs
    row, row_log, column, column_log = saved
    row_gradient, mass_gradient, column_gradient = given
    query_gradient, key_gradient, values_gradient = results
    key_gradient.zero_()
    values_gradient.zero_()
    logits_room, slope_room, column_room, column_slope_room = (plan.buffer(key) for _ in range(4))
    row_values = _with_ones(values)  # (b, V+1, Nk)
    if column_gradient is not None:
        column_offset = -(column_gradient * column).sum(dim=1, keepdim=True)  # (b, 1, Nk)
        column_factor = torch.cat([column_gradient, column_offset], dim=1)  # (b, Vc+G+1, Nk)
    for tile in plan.tiles:
        logits = plan.logits(query, key, tile, logits_room)  # (b, r, Nk)
        slope, count = slope_room[:, : logits.shape[1]], logits.shape[1]
        gradient = row_gradient[:, :, tile].clone()  # (b, V, r)
        if column_gradient is not None:
            weights = _exp2_(torch.sub(logits, column_log[:, None], out=column_room[:, :count]))  # (b, r, Nk)
            returned = column_gradient[:, : plan.cycle_channels] @ weights.mT  # (b, Vc, r)
            gradient[:, : plan.cycle_channels] += returned
            column_slope = column_slope_room[:, :count]
            torch.bmm(_column_values(plan, row, query_values, tile).mT, column_factor, out=column_slope)
            weights *= column_slope
        if forbidden is not None:
            logits.masked_fill_(forbidden[:, None], plan.masked)
        row_weights = _exp2_(logits.sub_(row_log[:, tile, None]))  # (b, r, Nk)
        values_gradient.baddbmm_(gradient, row_weights)
        row_offset = mass_gradient[:, tile] - (gradient * row[:, :, tile]).sum(dim=1)  # (b, r)
        torch.bmm(torch.cat([gradient, row_offset[:, None]], dim=1).mT, row_values, out=slope)
        slope *= row_weights  # (b, r, Nk): gradient of the row direction's logits
        if column_gradient is not None:
            slope += weights
        query_gradient[:, :, tile] = key @ slope.mT  # (b, C, r)
        key_gradient.baddbmm_(query[:, :, tile], slope)
    query_gradient /= plan.temperature
    key_gradient /= plan.temperature


def _exp2_(exponents: Tensor) -> Tensor:
    """2**x in place for x <= 0; clamped just above the subnormal numbers, which are slow and count for nothing."""
    return exponents.clamp_(min=-125.0).exp2_()


def _column_values(plan: _Plan, row: Tensor, query_values: Tensor, tile: slice) -> Tensor:
    """What the column direction carries for a tile: warp to go back, query coordinates, ones; (b, Vc+G+1, r)."""
    coordinates = query_values[:, tile].expand(len(row), -1, -1)
    return _with_ones(torch.cat([row[:, : plan.cycle_channels, tile], coordinates], dim=1))


def _with_ones(values: Tensor) -> Tensor:
    return torch.cat([values, values.new_ones(len(values), 1, values.shape[2])], dim=1)


def _at(tensor: Tensor | None, part: slice) -> Tensor | None:
    return None if tensor is None else tensor[part]


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
