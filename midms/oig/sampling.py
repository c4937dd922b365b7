"""The loops of OIG on tensors: inversion and the guided edit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from midms.oig.cycle import Cycle, CycleStep
from midms.oig.guidance import ClipTerm, latent_distance, structure_loss
from midms.oig.lockstep import Conditions, Evaluation, Lockstep, NoiseModel
from midms.oig.schedule import InversionStep, Schedule, ddim_step, move, predict_x0
from midms.oig.settings import EditSettings

ClipObjective = Callable[[Tensor], ClipTerm]  # x0hat (B, C, H, W) -> loss and cosines, each (B,)


class EditTerms(NamedTuple):
    """The parts of the loss at one step, each (B,); a term that is off is zero, or None for CLIP."""

    loss: Tensor
    structure: Tensor
    cycle: Tensor  # || x0hat - c ||_2, unweighted
    clip: ClipTerm | None


class EditStep(NamedTuple):
    """One finished step, for callbacks; latents (B, C, H, W)."""

    k: int
    t: int
    j: int  # index into the step sizes
    step_size: float  # gamma_j
    x: Tensor  # the target before the step
    x_next: Tensor  # and after it
    source_next: Tensor
    x0: Tensor  # x0hat of the target
    evaluation: Evaluation
    terms: EditTerms
    gradient: Tensor
    cycle: CycleStep | None
    feature_bytes: int  # peak memory of the structure loss's features in the step


class EditResult(NamedTuple):
    """Final latents, (B, C, H, W)."""

    edit: Tensor
    reconstruction: Tensor


@torch.no_grad()
def invert(model: NoiseModel, plan: list[InversionStep], z: Tensor, text: Tensor) -> Tensor:
    """Invert a clean latent (B, C, H, W) without guidance; returns all latents, (len(plan) + 1, B, C, H, W)."""
    trajectory = [z]
    for step in plan:
        z = move(z, model(z, step.t, text), step.alpha_from, step.alpha_to)
        trajectory.append(z)
    return torch.stack(trajectory)


@torch.enable_grad()
def edit(
    model: NoiseModel,
    schedule: Schedule,
    conditions: Conditions,
    x_top: Tensor,
    settings: EditSettings,
    layers: list[nn.Module],
    clip: ClipObjective | None = None,
    on_step: Callable[[EditStep], None] | None = None,
) -> EditResult:
    """Sample the source and, guided step by step, the target from the same x_T.

    x <- DDIM(x, t_k, e) - gamma_j dL/dx,   L = lambda_1 L_clip + lambda_2 L_struct (+ the cycle term of OIG+)

    Args:
        x_top: x_T, (B, C, H, W); the images of a batch do not influence each other.
        layers: the U-Net's layers for the structure loss.
        clip: decodes x0hat and compares it with both prompts; needed if `settings.clip_weight` > 0.
        on_step: called after every step.
    Raises:
        RuntimeError: a gradient is not finite.
    """
    full, guided = settings.guidance_branch == "full", settings.uses_guidance
    layers = layers if settings.structure_weight > 0 else []
    lockstep = Lockstep(model, layers, conditions, settings.guidance_scale, full, guided)
    cycle = Cycle(model, schedule, conditions, x_top, settings) if settings.cycle_weight > 0 else None
    source = x = x_top
    for k, t in enumerate(schedule.timesteps):
        j = min(k + settings.step_shift, schedule.num_steps - 1)
        evaluation = lockstep(source, x, t)
        x0 = predict_x0(evaluation.leaf, evaluation.target_noise, schedule.alpha(t))
        climbed = cycle.climb(k, x0.detach()) if cycle else None
        cycle_goal = cycle.target(climbed.top) if cycle and climbed else None
        terms = edit_terms(evaluation, x0, cycle_goal, j, schedule.num_steps, settings, clip)
        feature_bytes = lockstep.memory.nbytes()
        gradient = latent_gradient(terms.loss, evaluation.leaf, k) if guided else torch.zeros_like(x)
        lockstep.memory.step_done()
        with torch.no_grad():
            step_size = settings.step_size(j, schedule.num_steps)
            x_next = ddim_step(x, evaluation.target_noise, t, schedule) - step_size * gradient
            source = ddim_step(source, evaluation.source_noise, t, schedule)
        if on_step is not None:
            parts = (x0.detach(), detached(evaluation), detached(terms))
            on_step(EditStep(k, t, j, step_size, x, x_next, source, *parts, gradient, climbed, feature_bytes))
        x = x_next
    return EditResult(x, source)


def detached(values: Any) -> Any:
    """A named tuple of tensors, None, or further such tuples, detached from the graph."""
    if values is None or isinstance(values, Tensor):
        return values if values is None else values.detach()
    return type(values)(*map(detached, values))


def edit_terms(
    evaluation: Evaluation,
    x0: Tensor,
    cycle_goal: Tensor | None,
    j: int,
    num_steps: int,
    settings: EditSettings,
    clip: ClipObjective | None,
) -> EditTerms:
    """L = lambda_1 L_clip + lambda_2 L_struct + (1/gamma_j) (1 - j/N) lambda_4 || x0hat - c ||_2, image by image.

    Args:
        x0: x0hat of the target with gradient, (B, C, H, W).
        cycle_goal: c, (B, C, H, W), for OIG+.
    """
    structure = cycle = x0.new_zeros(len(x0))
    if evaluation.to_source is not None:
        previous = evaluation.to_previous if j > settings.step_shift else None
        structure = structure_loss(evaluation.to_source, previous, settings.structure_margin)
    loss = settings.structure_weight * structure
    term = clip(x0) if clip is not None and settings.clip_weight > 0 else None
    if term is not None:
        loss = loss + settings.clip_weight * term.loss
    if cycle_goal is not None:
        cycle = latent_distance(x0, cycle_goal)
        loss = loss + settings.cycle_weight * (1 - j / num_steps) / settings.step_size(j, num_steps) * cycle
    return EditTerms(loss, structure, cycle, term)


def latent_gradient(loss: Tensor, leaf: Tensor, k: int) -> Tensor:
    """dL/dx of each image, (B, C, H, W); the gradient is computed only for `leaf`.

    Raises:
        RuntimeError: a value is not finite.
    """
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    if not torch.isfinite(gradient).all():
        raise RuntimeError(
            f"the guidance gradient at step {k} is not finite; load the pipeline in float32 or bfloat16 "
            "(float16 overflows), or lower clip_weight, structure_weight or cycle_weight"
        )
    return gradient
