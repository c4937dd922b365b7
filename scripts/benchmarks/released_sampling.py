"""Reimplementation of the released inference with all its computation: the reference of `benchmark.py sampling`.

Per pair: 2 encodings, 10 encoder runs, 6 correlations held in full with 13 warps and 2 flow pairs, 29 U-Net calls (4
for the exemplar, 4 for the source, 1 for a loss, 20 of the refinement) and 7 decodings. Attention keeps its matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.networks import Pairs
from midms.diffusion.interleave import Rewarp, interleave, predict_once, refine
from midms.diffusion.schedule import sample_noise
from midms.diffusion.settings import InterleaveSettings
from midms.matching.confidence import cycle_consistency_mask
from midms.models.encoders import ConditionFeatures
from midms.models.midms import Exemplar, MIDMs
from parity.dense_matching import DenseMatching

MatchBlock = Callable[..., Rewarp]


def plain_attention(model: MIDMs) -> None:
    """Attention in U-Net and first stage that forms the full matrix and then its softmax."""
    from diffusers.models.attention_processor import Attention, AttnProcessor

    for module in model.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor())


def dense_match(query: Tensor, key: Tensor, latent: Tensor, labels: Tensor | None, temperature: float) -> Tensor:
    """The first match: the matrix, and its softmax again for each warped tensor. Returns the warp.

    Features (B, C, h, w), `latent` (B, c, h, w) and `labels` (B, L, h, w) on grids of one size.
    """
    matching = DenseMatching.of(query, key, temperature)
    warp = matching.warp(latent)
    if labels is not None:
        matching.warp(labels)
    return warp


def dense_rematch(
    query: Tensor, key: Tensor, latent: Tensor, labels: Tensor | None, settings: InterleaveSettings, temperature: float
) -> Rewarp:
    """A re-warp: latent, labels (exemplar branch), cycle, and in the exemplar branch the flows and both masks.

    Features (B, C, h, w), `latent` (B, c, h, w) and `labels` (B, L, h, w) on grids of one size.
    """
    matching = DenseMatching.of(query, key, temperature)
    warp = matching.warp(latent)
    cycle = matching.warp_back(warp)
    if labels is None:  # source branch: only its cycle is used
        return Rewarp(warp, torch.zeros_like(warp[:, :1]), (cycle,))
    matching.warp(labels)
    masks = [cycle_consistency_mask(one, None, settings.threshold, "released") for one in matching.maps()]
    return Rewarp(warp, masks[0], (cycle,))  # the second mask is computed but not used


class Branches(NamedTuple):
    """Encoded pairs."""

    condition: ConditionFeatures
    exemplar: Exemplar
    source: Exemplar  # the condition's own photo
    labels: Tensor  # (B, L, h, w), the exemplar's condition maps on the latent grid


def encode_branches(model: MIDMs, pairs: Pairs) -> Branches:
    """Encode all inputs before the first match."""
    with torch.no_grad():
        source, latent = model.first_stage.encode(pairs.source), model.first_stage.encode(pairs.exemplar)
    size = (latent.shape[-2], latent.shape[-1])
    grid, labels = (model.encoders.condition_grid(maps, size) for maps in (pairs.condition, pairs.exemplar_condition))
    return Branches(
        model.encoders.encode_condition(grid),
        Exemplar(latent, *model.encoders.encode_exemplar(latent, labels)),
        Exemplar(source, *model.encoders.encode_exemplar(source, grid)),
        labels,
    )


def rematcher(
    model: MIDMs,
    condition: ConditionFeatures,
    exemplar: Exemplar,
    labels: Tensor | None,
    settings: InterleaveSettings,
    block: MatchBlock,
) -> Callable[[Tensor], Rewarp]:
    """A matching block for `interleave`. Without `labels` (B, L, h, w), the block of the source branch."""

    def rematch(prediction: Tensor) -> Rewarp:
        query = model.encoders.encode_iterate(prediction, condition)  # (B, C, h, w)
        return block(query, exemplar.key, exemplar.latent, labels, settings, model.temperature)

    return rematch


@torch.no_grad()
def released_translation(
    model: MIDMs,
    pairs: Pairs,
    generators: list[torch.Generator],
    first: Callable[..., Tensor] = dense_match,
    again: MatchBlock = dense_rematch,
) -> Tensor:
    """Images (B, 3, H, W) of pairs, with all other computation of the release.

    Args:
        generators: one per pair; the exemplar branch reads them as `MIDMs.translate` does.
        first, again: the two matching blocks, as arguments so that they can be timed.
    """
    settings, tau = InterleaveSettings.released(), model.temperature
    condition, exemplar, source, labels = encode_branches(model, pairs)
    warp = first(condition.features, exemplar.features, exemplar.latent, labels, tau)
    source_warp = first(condition.features, source.features, source.latent, None, tau)

    def noise() -> Tensor:
        return sample_noise(warp.shape, generators).to(warp)

    rematch = rematcher(model, condition, exemplar, labels, settings, again)
    loop = interleave(model.denoiser, warp, rematch, model.schedule, settings, noise())
    steps = [noise() for _ in range(settings.refine_steps - 1)]
    result = refine(model.denoiser, loop.latent, model.schedule, settings, noise(), steps)
    # the source branch and the call for the diffusion loss do not affect the result
    fixed = torch.randn(warp.shape, generator=torch.Generator().manual_seed(1)).to(warp)
    source_rematch = rematcher(model, condition, source, None, settings, again)
    interleave(model.denoiser, source_warp, source_rematch, model.schedule, settings, fixed)
    predict_once(model.denoiser, source.latent, model.schedule, settings, fixed, 0)
    mixed = [loop.rewarps[i].mask * loop.rewarps[i].warp + (1 - loop.rewarps[i].mask) * loop.predictions[i]
             for i in range(2)]  # fmt: skip
    for extra in (source_warp, warp, loop.rewarps[0].warp, mixed[0], loop.rewarps[1].warp, mixed[1]):
        model.decode(extra)
    return model.decode(result)
