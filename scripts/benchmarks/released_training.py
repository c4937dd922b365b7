"""Reimplementation of the released training iteration, without fused operations: the reference of
`benchmark.py training`.

Exemplar and source branch run one after the other: 9 U-Net calls and 2 decodings. Every correlation is a full matrix,
with a softmax for each use. Attention keeps its matrices, and the backward pass recomputes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from benchmarks.networks import Pairs
from benchmarks.released_sampling import MatchBlock, dense_rematch, encode_branches, rematcher
from midms.diffusion.interleave import interleave, predict_once
from midms.diffusion.settings import InterleaveSettings
from midms.losses.objective import Iteration
from midms.models.midms import MIDMs
from midms.training.objectives import encoded_parts

Noise = Callable[[str], Tensor]  # name -> (B, c, h, w)


def plain_iteration(
    model: MIDMs,
    pairs: Pairs,
    settings: InterleaveSettings,
    noise: Noise,
    index: int,
    block: MatchBlock = dense_rematch,
) -> Iteration:
    """The result of `ReleasedTrainingObjective.iteration`, without its optimisations.

    Args:
        noise: of "exemplar_start", "source_start" and "fresh".
        index: call whose time the diffusion term takes.
        block: the matching block, as an argument so that it can be timed.
    """
    condition, exemplar, source, labels = encode_branches(model, pairs)
    tau, schedule = model.temperature, model.schedule
    first = block(condition.features, exemplar.features, exemplar.latent, labels, settings, tau)
    source_first = block(condition.features, source.features, source.latent, None, settings, tau)
    rematch = rematcher(model, condition, exemplar, labels, settings, block)
    source_rematch = rematcher(model, condition, source, None, settings, block)
    loop = interleave(model.denoiser, first.warp, rematch, schedule, settings, noise("exemplar_start"))
    source_loop = interleave(
        model.denoiser, source_first.warp, source_rematch, schedule, settings, noise("source_start")
    )
    cycles = [(cycle, exemplar.latent) for cycle in loop.cycles]
    cycles += [(cycle, source.latent) for cycle in source_loop.cycles]
    return Iteration(
        **encoded_parts(condition, exemplar, source),
        exemplar_cycle=first.cycles[0],
        rewarp_cycles=cycles,
        diffused=predict_once(model.denoiser, source.latent, schedule, settings, noise("fresh"), index),
        source_result=model.first_stage.decode(source_loop.latent),
        exemplar_result=model.first_stage.decode(loop.latent),
        segmentation=None,
    )
