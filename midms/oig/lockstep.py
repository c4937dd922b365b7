"""One joint step of the source and the target latent, so that features are freed as soon as possible.

Each step makes two calls of the U-Net, for all settings:

    without gradient   [source latent, its negative branch if that differs | target latent with the target prompt]
    with gradient      [target latent with the negative prompt]           ("uncond")
                       [target latent with the negative and the target prompt]   ("full")
                       [target latent with the target prompt]             (no classifier-free guidance)

The call without gradient only contributes numbers to the structure loss, so its distances are computed in the hooks.
At most four one-branch sets of features stay in memory: S, F and P of the call with gradient, P of the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from midms.oig.features import FeatureTap
from midms.oig.guidance import feature_distance, guided_noise


class NoiseModel(Protocol):
    """(x (M, C, H, W), time, text states (M, L, D)) -> predicted noise (M, C, H, W)."""

    def __call__(self, x: Tensor, t: int, text: Tensor) -> Tensor: ...


class Conditions(NamedTuple):
    """Text states of a batch, each (B, L, D)."""

    source: Tensor
    target: Tensor
    negative: (
        Tensor | None
    )  # None: no classifier-free guidance. If it is `source`, both branches of the source are equal


class Evaluation(NamedTuple):
    """Outputs of the networks for both latents at one step; `leaf`, `target_noise` and the distances have gradients."""

    leaf: Tensor  # the target latent as a fresh leaf, (B, C, H, W)
    source_noise: Tensor  # (B, C, H, W)
    target_noise: Tensor  # (B, C, H, W)
    to_source: Tensor | None  # mse(F, S), (L, B)
    to_previous: Tensor | None  # mse(F, P), (L, B); None before the second step


@dataclass
class FeatureMemory:
    """Features stored between calls; each list has one map per layer."""

    source: list[Tensor] = field(default_factory=list)  # S of the branches with gradient
    current: list[Tensor] = field(default_factory=list)  # F of those branches
    previous: list[Tensor] = field(default_factory=list)  # P of those branches
    previous_plain: list[Tensor] = field(default_factory=list)  # P of the branches without gradient

    def nbytes(self) -> int:
        """Bytes of all stored maps."""
        maps = [*self.source, *self.current, *self.previous, *self.previous_plain]
        return sum(m.numel() * m.element_size() for m in maps)

    def step_done(self) -> None:
        """Make F the next step's P and free S."""
        self.previous = [f.detach() for f in self.current]
        self.source, self.current = [], []


class Lockstep:
    """Evaluates both latents of a batch, step by step.

    Args:
        model: noise prediction.
        layers: where to read features; empty when the structure loss is off.
        conditions: text states.
        guidance_scale: s.
        full: let the gradient flow through both branches of classifier-free guidance.
        with_gradient: False if all terms of the loss are off.
    """

    def __init__(
        self,
        model: NoiseModel,
        layers: list[nn.Module],
        conditions: Conditions,
        guidance_scale: float,
        full: bool,
        with_gradient: bool = True,
    ) -> None:
        self.model, self.layers, self.scale, self.with_gradient = model, layers, guidance_scale, with_gradient
        negative, source, target = conditions.negative, conditions.source, conditions.target
        self.memory = FeatureMemory()
        self.source_text = [source] if negative is None or negative is source else [negative, source]
        self.plain_text: list[Tensor] = []
        self.guided_text = [target]
        if negative is not None:
            self.plain_text, self.guided_text = ([], [negative, target]) if full else ([target], [negative])

    def __call__(self, source: Tensor, target: Tensor, t: int) -> Evaluation:
        """Evaluate at time `t`; call `memory.step_done()` after the step.

        Args:
            source, target: latents, (B, C, H, W).
        """
        leaf = target.detach().requires_grad_(self.with_gradient)
        source_noise, plain_noise, plain_distances = self._without_gradient(source, target, t)
        guided_noises = self._with_gradient(leaf, t)
        target_noise = self._combine([*guided_noises, *plain_noise])
        if not self.layers:
            return Evaluation(leaf, source_noise, target_noise, None, None)
        to_source, to_previous = self._distances(plain_distances)
        return Evaluation(leaf, source_noise, target_noise, to_source, to_previous)

    def _combine(self, noises: list[Tensor]) -> Tensor:
        return noises[0] if len(noises) == 1 else guided_noise(noises[0], noises[1], self.scale)

    @torch.no_grad()
    def _without_gradient(
        self, source: Tensor, target: Tensor, t: int
    ) -> tuple[Tensor, list[Tensor], list[list[Tensor]]]:
        texts = [*self.source_text, *self.plain_text]
        rows, count = len(texts), len(self.source_text)
        x = torch.cat([source] * count + [target] * len(self.plain_text))  # (rows*B, C, H, W)
        memory = self.memory
        distances: list[list[Tensor]] = [[], []]

        def read(index: int, output: Tensor) -> None:
            maps = output.chunk(rows)  # rows x (B, C_l, H_l, W_l)
            wanted = maps[: min(count, len(self.guided_text))]
            memory.source.append(torch.cat(wanted) if len(wanted) < rows else output)
            if not self.plain_text:
                return
            distances[0].append(feature_distance(maps[-1], maps[count - 1]))
            kept = maps[-1].clone()
            if index < len(memory.previous_plain):
                distances[1].append(feature_distance(maps[-1], memory.previous_plain[index]))
                memory.previous_plain[index] = kept
            else:
                memory.previous_plain.append(kept)

        with FeatureTap(self.layers, read):
            noises = self.model(x, t, torch.cat(texts)).chunk(rows)
        return self._combine(list(noises[:count])), list(noises[count:]), distances

    def _with_gradient(self, leaf: Tensor, t: int) -> list[Tensor]:
        rows = len(self.guided_text)
        with torch.set_grad_enabled(self.with_gradient), FeatureTap(self.layers) as tap:
            noise = self.model(torch.cat([leaf] * rows), t, torch.cat(self.guided_text))
        self.memory.current = tap.features
        return list(noise.chunk(rows))

    def _distances(self, plain: list[list[Tensor]]) -> tuple[Tensor, Tensor | None]:
        """Average the distances over the branches of classifier-free guidance."""
        memory, rows = self.memory, len(self.guided_text)
        to_source, to_previous = [], []
        for index, current in enumerate(memory.current):
            source = memory.source[index]
            halves = current.chunk(rows)  # rows x (B, C_l, H_l, W_l)
            sources = source.chunk(rows) if len(source) == len(current) else [source] * rows
            pairs = [feature_distance(f, s) for f, s in zip(halves, sources, strict=True)]
            to_source.append(torch.stack([*pairs, *(d[index] for d in plain[:1] if d)]).mean(0))
            if memory.previous:
                pairs = [
                    feature_distance(f, p) for f, p in zip(halves, memory.previous[index].chunk(rows), strict=True)
                ]
                to_previous.append(torch.stack([*pairs, *(d[index] for d in plain[1:] if d)]).mean(0))
        return torch.stack(to_source), torch.stack(to_previous) if to_previous else None
