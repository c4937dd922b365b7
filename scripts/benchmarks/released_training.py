"""The released training iteration in our words, everything materialised: what `benchmark.py training` compares with.

Exemplar and source branch go one after the other: 9 U-Net calls, 2 decodings, every correlation held in full with a
softmax for each of its uses, attention matrices, and nothing computed again on the way back.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.networks import Pairs
from benchmarks.released_sampling import dense_rematch
from midms.diffusion.interleave import Rewarp, interleave
from midms.diffusion.schedule import add_noise
from midms.diffusion.settings import InterleaveSettings, loop_times
from midms.diffusion.solvers import predict_x0
from midms.losses.objective import Iteration
from midms.models.midms import Exemplar, MIDMs

Noise = Callable[[str], Tensor]  # name -> (B, c, h, w)
Block = Callable[..., Rewarp]


def plain_iteration(
    model: MIDMs, pairs: Pairs, settings: InterleaveSettings, noise: Noise, index: int, block: Block = dense_rematch
) -> Iteration:
    """What `ReleasedTrainingObjective.iteration` gives, the long way.

    Args:
        noise: of "exemplar_start", "source_start" and "fresh".
        index: call whose time the diffusion term takes.
        block: the matching, for a clock to be put around.
    """
    stage, encoders, tau = model.first_stage, model.encoders, model.temperature
    with torch.no_grad():
        source, latent = stage.encode(pairs.source), stage.encode(pairs.exemplar)  # (B, c, h, w)
    size = (latent.shape[-2], latent.shape[-1])
    grid, labels = (encoders.condition_grid(maps, size) for maps in (pairs.condition, pairs.exemplar_condition))
    condition = encoders.encode_condition(grid)
    encoded_exemplar = Exemplar(latent, encoders.encode_exemplar(latent, labels))
    encoded_source = Exemplar(source, encoders.encode_exemplar(source, grid))
    first = block(condition.features, encoded_exemplar.features.features, latent, labels, settings, tau)
    source_first = block(condition.features, encoded_source.features.features, source, None, settings, tau)

    def rematch(exemplar: Exemplar, maps: Tensor | None) -> Callable[[Tensor], Rewarp]:
        def again(prediction: Tensor) -> Rewarp:
            query = encoders.encode_iterate(prediction, condition)  # (B, C, h, w)
            return block(query, exemplar.features.key, exemplar.latent, maps, settings, tau)

        return again

    schedule = model.schedule
    loop = interleave(
        model.denoiser, first.warp, rematch(encoded_exemplar, labels), schedule, settings, noise("exemplar_start")
    )
    source_loop = interleave(
        model.denoiser, source_first.warp, rematch(encoded_source, None), schedule, settings, noise("source_start")
    )
    cycles = [(cycle, latent) for cycle in loop.cycles] + [(cycle, source) for cycle in source_loop.cycles]
    return Iteration(
        condition_features=condition.raw,
        source_features=encoded_source.features.key,
        exemplar_features=encoded_exemplar.features.key,
        source_latent=source,
        exemplar_latent=latent,
        exemplar_cycle=first.cycle,  # type: ignore[arg-type]
        rewarp_cycles=cycles,  # type: ignore[arg-type]
        diffused=_extra_call(model, source, settings, noise("fresh"), index),
        source_result=stage.decode(source_loop.latent),
        exemplar_result=stage.decode(loop.latent),
    )


def _extra_call(model: MIDMs, source: Tensor, settings: InterleaveSettings, noise: Tensor, index: int) -> Tensor:
    """x0 predicted from the freshly noised source latent; its noise is one step above the time that is told."""
    tau = loop_times(model.schedule, settings)
    x = add_noise(source, noise, tau.start if index == 0 else tau.alpha_bars[index - 1])  # (B, c, h, w)
    times = torch.full((len(x),), tau.times[index], device=x.device)
    return predict_x0(x, model.denoiser(x, times), tau.alpha_bars[index])
