"""The forms of the matching block that `scripts/benchmark.py matching` compares.

The block is what one re-warp of the interleaved loop needs: correlation, warp of 3 latent and 15 label channels, cycle
warp of the latents, the flows of both directions and the confidence mask. "released" is the arithmetic of the released
code: one matrix, whose softmax is computed again for every use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from midms.matching.confidence import cycle_consistency_mask, match_confidence
from midms.matching.correspondence import Backend, match
from parity.dense_matching import DenseMatching

TEMPERATURE = 0.005
THRESHOLD = 0.3
CHANNELS = 256
LATENT_CHANNELS, LABEL_CHANNELS = 3, 15
CEILING_SIZE = 2048  # of the square product that measures the rate of the device


class Inputs(NamedTuple):
    """Inputs of every variant of the block; S x S tokens."""

    query: Tensor  # (B, 256, S, S)
    key: Tensor  # (B, 256, S, S)
    latent: Tensor  # (B, 3, S, S)
    labels: Tensor  # (B, 15, S, S)
    weight: Tensor  # (B, 21, S, S), weights of the outputs in the loss of the backward pass


def make_inputs(size: int, batch: int, device: str, dtype: torch.dtype) -> Inputs:
    """Random features: every query has a noisy match at another position of the exemplar."""
    generator = torch.Generator().manual_seed(size)
    key = torch.randn(batch, CHANNELS, size, size, generator=generator)
    query = key.roll((size // 4, size // 3), (2, 3)) + torch.randn(key.shape, generator=generator)
    rest = [torch.randn(batch, n, size, size, generator=generator) for n in (LATENT_CHANNELS, LABEL_CHANNELS, 21)]
    query, key, latent, labels, weight = (tensor.to(device, dtype) for tensor in (query, key, *rest))
    return Inputs(query, key, latent, labels, weight)


def build(name: str, size: int, batch: int, device: str, dtype: torch.dtype, backward: bool) -> Callable[[], object]:
    """The named variant as a function without arguments."""
    if name == "sgemm_ceiling":
        return ceiling(device, dtype)
    inputs = make_inputs(size, batch, device, dtype)
    if name == "qk_product":
        return lambda: _products(inputs, 4 if backward else 1)
    if name == "qk_matrix":
        query, key = inputs.query.flatten(2), inputs.key.flatten(2)
        return lambda: _matrices(query, key, 4 if backward else 1)
    block = {"released_dense": released_block, "dense": _dense_block, "streaming": _streaming_block}[name]
    return lambda: _run(block, inputs, backward)


def ceiling_scale(size: int, batch: int, backward: bool) -> float:
    """FLOP of the block's products with the N x N matrix over FLOP of one ceiling product."""
    products = 4 if backward else 1
    return products * batch * size**4 * CHANNELS / CEILING_SIZE**3


def released_block(inputs: Inputs) -> tuple[Tensor, ...]:
    """The dense arithmetic of the release; returns warp, warped labels, cycle, both maps and the mask."""
    matching = DenseMatching.of(inputs.query, inputs.key, TEMPERATURE)
    warp = matching.warp(inputs.latent)
    labels = matching.warp(inputs.labels)
    cycle = matching.warp_back(warp)
    with torch.no_grad():
        maps = matching.maps()
        masks = [cycle_consistency_mask(one, None, THRESHOLD, "released") for one in maps]
    return warp, labels, cycle, *maps, masks[0]


def _dense_block(inputs: Inputs) -> tuple[Tensor, ...]:
    return _block(inputs, "dense")


def _streaming_block(inputs: Inputs) -> tuple[Tensor, ...]:
    return _block(inputs, "streaming")


def _block(inputs: Inputs, backend: Backend) -> tuple[Tensor, ...]:
    values = torch.cat([inputs.latent, inputs.labels], dim=1)  # (B, 18, S, S)
    matched = match(
        inputs.query,
        inputs.key,
        values,
        TEMPERATURE,
        cycle=True,
        backward=True,
        cycle_channels=LATENT_CHANNELS,
        backend=backend,
    )
    mask = match_confidence(matched, THRESHOLD)
    maps = matched.forward_maps[0], matched.backward_maps[0]
    return matched.warp[:, :3], matched.warp[:, 3:], matched.cycles[0], *maps, mask


def _run(block: Callable[[Inputs], tuple[Tensor, ...]], inputs: Inputs, backward: bool) -> None:
    if not backward:
        with torch.no_grad():
            block(inputs)
        return
    leaves = Inputs(*(tensor.detach().requires_grad_() for tensor in inputs))
    warp, labels, cycle, *_ = block(leaves)
    (torch.cat([warp, labels, cycle], dim=1) * inputs.weight).sum().backward()


def _products(inputs: Inputs, count: int) -> None:
    """The product of queries and keys alone, `count` times, through one small tile."""
    query, key = inputs.query.flatten(2), inputs.key.flatten(2)
    rows = 256
    tile = query.new_empty(len(query), rows, key.shape[2])
    for _ in range(count):
        for start in range(0, query.shape[2], rows):
            torch.bmm(query[:, :, start : start + rows].mT, key, out=tile[:, : query.shape[2] - start])


def _matrices(query: Tensor, key: Tensor, count: int) -> None:
    """Products of queries and keys, each as a full matrix."""
    for _ in range(count):
        torch.bmm(query.mT, key)


def ceiling(device: str, dtype: torch.dtype) -> Callable[[], object]:
    """One product of two square matrices of `CEILING_SIZE`, as a function without arguments."""
    left = torch.ones(CEILING_SIZE, CEILING_SIZE, device=device, dtype=dtype)
    out = torch.empty_like(left)
    return lambda: torch.mm(left, left, out=out)
