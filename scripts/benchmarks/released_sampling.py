"""The released code's inference in our words, with all that it computes: what `benchmark.py sampling` compares with.

Per pair: 2 encodings, 10 encoder runs, 6 correlations held in full with 13 warps and 2 flow pairs, 29 U-Net calls (4
for the exemplar, 4 for the source, 1 for a loss, 20 of the refinement) and 7 decodings. Attention holds its matrices.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.networks import Pairs
from midms.diffusion.interleave import Rewarp, interleave, refine
from midms.diffusion.schedule import add_noise, sample_noise
from midms.diffusion.settings import InterleaveSettings, loop_times
from midms.matching.confidence import cycle_consistency_mask
from midms.matching.correspondence import coordinate_grid, correlation, normalize_features, soft_warp
from midms.models.midms import Exemplar, MIDMs

MatchBlock = Callable[..., Rewarp]


def plain_attention(model: MIDMs) -> None:
    """Attention that forms its matrix and the softmax of it one after the other, in U-Net and first stage."""
    from diffusers.models.attention_processor import Attention, AttnProcessor

    for module in model.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor())


def dense_match(query: Tensor, key: Tensor, latent: Tensor, labels: Tensor | None, temperature: float) -> Tensor:
    """The first match: the matrix, and a softmax of it for each of the things that are warped; gives the warp.

    Features (B, C, h, w), `latent` (B, c, h, w) and `labels` (B, L, h, w) on grids of one size.
    """
    matrix = _matrix(query, key)
    warp = soft_warp(latent, matrix, temperature)
    if labels is not None:
        soft_warp(labels, matrix, temperature)
    return warp


def dense_rematch(
    query: Tensor, key: Tensor, latent: Tensor, labels: Tensor | None, settings: InterleaveSettings, temperature: float
) -> Rewarp:
    """A re-warp: latent, labels (exemplar branch), cycle, and in the exemplar branch the flows and both masks.

    Features (B, C, h, w), `latent` (B, c, h, w) and `labels` (B, L, h, w) on grids of one size.
    """
    matrix = _matrix(query, key)
    warp = soft_warp(latent, matrix, temperature)
    cycle = soft_warp(warp, matrix.permute(0, 3, 4, 1, 2), temperature)
    if labels is None:  # source branch: only its cycle is looked at
        return Rewarp(warp, torch.zeros_like(warp[:, :1]), cycle)
    soft_warp(labels, matrix, temperature)
    return Rewarp(warp, _mask(matrix, settings, temperature), cycle)


def _matrix(query: Tensor, key: Tensor) -> Tensor:
    return correlation(normalize_features(query), normalize_features(key), clamp=True, eps=1e-5)


def _mask(matrix: Tensor, settings: InterleaveSettings, temperature: float) -> Tensor:
    size = (matrix.shape[1], matrix.shape[2])
    flat = matrix.flatten(3).flatten(1, 2) / temperature  # (B, N, N)
    grid = coordinate_grid(*size, matrix.device, matrix.dtype).flatten(1).T  # (N, 2)
    maps = [(weights @ grid).mT.unflatten(2, size) for weights in (flat.softmax(2), flat.softmax(1).mT)]
    masks = [cycle_consistency_mask(one, None, settings.threshold, "released") for one in maps]
    return masks[0]  # the second is computed and not used


@torch.no_grad()
def released_translation(
    model: MIDMs,
    pairs: Pairs,
    generators: list[torch.Generator],
    first: Callable[..., Tensor] = dense_match,
    again: MatchBlock = dense_rematch,
) -> Tensor:
    """Images (B, 3, H, W) of pairs, and everything else that the release computes beside them.

    Args:
        generators: one a pair; the exemplar branch reads them as `MIDMs.translate` does.
        first, again: the two matching blocks, for a clock to be put around.
    """
    settings, stage, tau = InterleaveSettings.released(), model.first_stage, model.temperature
    source, latent = stage.encode(pairs.source), stage.encode(pairs.exemplar)  # (B, c, h, w)
    size = (latent.shape[-2], latent.shape[-1])
    grid, labels = (model.encoders.condition_grid(maps, size) for maps in (pairs.condition, pairs.exemplar_condition))
    condition = model.encoders.encode_condition(grid)
    encoded_exemplar = Exemplar(latent, model.encoders.encode_exemplar(latent, labels))
    encoded_source = Exemplar(source, model.encoders.encode_exemplar(source, grid))
    warp = first(condition.features, encoded_exemplar.features.features, latent, labels, tau)
    source_warp = first(condition.features, encoded_source.features.features, source, None, tau)

    def rematch(exemplar: Exemplar, maps: Tensor | None) -> Callable[[Tensor], Rewarp]:
        return lambda prediction: again(
            model.encoders.encode_iterate(prediction, condition),
            exemplar.features.key,
            exemplar.latent,
            maps,
            settings,
            tau,
        )

    def noise() -> Tensor:
        return sample_noise(latent.shape, generators).to(latent)

    loop = interleave(model.denoiser, warp, rematch(encoded_exemplar, labels), model.schedule, settings, noise())
    steps = [noise() for _ in range(settings.refine_steps - 1)]
    result = refine(model.denoiser, loop.latent, model.schedule, settings, noise(), steps)
    _source_branch(model, source, source_warp, rematch(encoded_source, None), settings)
    mixed = [loop.rewarps[i].mask * loop.rewarps[i].warp + (1 - loop.rewarps[i].mask) * loop.predictions[i]
             for i in range(2)]  # fmt: skip
    for extra in (source_warp, warp, loop.rewarps[0].warp, mixed[0], loop.rewarps[1].warp, mixed[1]):
        model.decode(extra)
    return model.decode(result)


def _source_branch(
    model: MIDMs,
    source: Tensor,
    warp: Tensor,
    rematch: Callable[[Tensor], Rewarp],
    settings: InterleaveSettings,
) -> None:
    """The source's own chain and the call for the diffusion loss; nothing of it reaches the result."""
    noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(1)).to(source)
    interleave(model.denoiser, warp, rematch, model.schedule, settings, noise)
    tau = loop_times(model.schedule, settings)
    time = torch.full((len(source),), tau.times[0], device=source.device)
    model.denoiser(add_noise(source, noise, tau.start), time)
