"""The cycle of OIG+: a second source latent is inverted from the reconstruction while the target is denoised (app. B).

Legend:
    y      the inverted latent, at the times u_j = t_{N-1-j}        X_T   the estimate of x_T that y implies
    p, q   top-level estimates from the target and from y            c     target sampled anew from X_T
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from midms.oig.guidance import guided_noise, latent_distance
from midms.oig.lockstep import Conditions, NoiseModel
from midms.oig.schedule import Schedule, ddim_step, inverse_step, predict_x_top
from midms.oig.settings import EditSettings


class CycleStep(NamedTuple):
    """One upward step of y; latents (B, C, H, W)."""

    y: Tensor  # before the step
    noise: Tensor  # e(y, u_j) after classifier-free guidance
    target_top: Tensor  # p
    source_top: Tensor  # q
    loss: Tensor  # || p - q ||_2, (B,)
    y_next: Tensor
    top: Tensor  # X_T


@torch.no_grad()
def predict(model: NoiseModel, x: Tensor, t: int, text: Tensor, negative: Tensor | None, scale: float) -> Tensor:
    """Noise under classifier-free guidance in one call of the U-Net: (B, C, H, W)."""
    if negative is None or negative is text:
        return model(x, t, text)
    halves = model(torch.cat([x, x]), t, torch.cat([negative, text])).chunk(2)
    return guided_noise(halves[0], halves[1], scale)


def sample(
    model: NoiseModel, schedule: Schedule, x: Tensor, text: Tensor, negative: Tensor | None, scale: float
) -> Tensor:
    """Plain DDIM sampling of the prompt `text` from x_T, (B, C, H, W)."""
    for t in schedule.timesteps:
        x = ddim_step(x, predict(model, x, t, text, negative, scale), t, schedule)
    return x


class Cycle:
    """State of the cycle: y, which starts at the reconstruction of x_T."""

    def __init__(
        self, model: NoiseModel, schedule: Schedule, conditions: Conditions, x_top: Tensor, settings: EditSettings
    ) -> None:
        self.model, self.schedule, self.conditions, self.settings = model, schedule, conditions, settings
        self.scale = settings.guidance_scale
        self.y = sample(model, schedule, x_top, conditions.source, conditions.negative, self.scale)

    def climb(self, j: int, target_x0: Tensor) -> CycleStep:
        """y <- INV(y, u_j, e) - (1 - j/N) lambda_3 d||p - q||/dy, with u_j = t_{N-1-j}.

        Args:
            target_x0: the target's x0hat at its step j, (B, C, H, W), without gradient.
        """
        schedule, conditions, steps = self.schedule, self.conditions, self.schedule.num_steps
        ascending, y = schedule.timesteps[::-1], self.y
        e_target = predict(self.model, target_x0, ascending[0], conditions.target, conditions.negative, self.scale)
        p = predict_x_top(target_x0, e_target, torch.ones_like(schedule.alpha_top), schedule.alpha_top)
        leaf = y.detach().requires_grad_()
        noise = self._source_noise(leaf, ascending[j])
        q = predict_x_top(leaf, noise, schedule.alpha(ascending[j]), schedule.alpha_top)
        loss = latent_distance(p, q)  # (B,)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        with torch.no_grad():
            climbed = inverse_step(y, noise.detach(), ascending[j], schedule, self.settings.fix_last_inverse)
            self.y = climbed - (1 - j / steps) * self.settings.lambda_3 * gradient
            top = self._top(ascending[j + 1]) if j < steps - 1 else self.y
        return CycleStep(y, noise.detach(), p, q.detach(), loss.detach(), self.y, top)

    def _source_noise(self, leaf: Tensor, t: int) -> Tensor:
        """e(y, u) with the gradient rule of `guidance_branch`."""
        source, negative, full = (
            self.conditions.source,
            self.conditions.negative,
            self.settings.guidance_branch == "full",
        )
        if negative is None or (negative is source and full):
            return self.model(leaf, t, source)
        if full:
            halves = self.model(torch.cat([leaf, leaf]), t, torch.cat([negative, source])).chunk(2)
            return guided_noise(halves[0], halves[1], self.scale)
        guided = self.model(leaf, t, negative)
        if negative is source:
            return guided_noise(guided, guided.detach(), self.scale)
        with torch.no_grad():
            plain = self.model(leaf, t, source)
        return guided_noise(guided, plain, self.scale)

    def _top(self, t: int) -> Tensor:
        noise = predict(self.model, self.y, t, self.conditions.source, self.conditions.negative, self.scale)
        return predict_x_top(self.y, noise, self.schedule.alpha(t), self.schedule.alpha_top)

    def target(self, top: Tensor) -> Tensor:
        """c: the target prompt sampled anew from X_T, (B, C, H, W)."""
        return sample(self.model, self.schedule, top, self.conditions.target, self.conditions.negative, self.scale)
