"""The edit loop: what it must equal, how often it calls the U-Net, and when it stops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_stable_diffusion import tiny_pipeline

from midms.oig.sampling import EditStep, latent_gradient
from midms.oig.settings import RELEASED_EDIT, EditSettings

PIPE = tiny_pipeline()


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(prompt: Any, target: Any, latents: torch.Tensor, **options: Any) -> Any:
    return PIPE(prompt, target, latents, **({"num_inference_steps": 4, "output_type": "latent"} | options))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"guidance_branch": "full", "negative_prompt": ""},
        {"guidance_scale": 1.0},
        {"cycle_weight": 0.5, "negative_prompt": ["a", "b"]},
    ],
)
def test_a_batch_equals_its_images_one_by_one(options: dict[str, Any]) -> None:
    options = {"clip_weight": 2.0, "structure_weight": 5.0} | options
    latents, prompts, targets = draw(2, 4, 8, 8), ["a cat", "two horses"], ["a dog", "two zebras"]
    both = run(prompts, targets, latents, **options)
    for i in range(2):
        one = {k: v[i] if isinstance(v, list) else v for k, v in options.items()}
        single = run(prompts[i], targets[i], latents[i : i + 1], **one)
        torch.testing.assert_close(both.latents[i : i + 1], single.latents, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            both.reconstruction_latents[i : i + 1], single.reconstruction_latents, rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("negative", [None, "", "something else"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_no_weights_and_equal_prompts_give_the_reconstruction(dtype: torch.dtype, negative: str | None) -> None:
    pipe = PIPE if dtype == torch.float64 else tiny_pipeline(dtype)
    out = pipe(
        "a cat",
        "a cat",
        draw(1, 4, 8, 8),
        num_inference_steps=10,
        clip_weight=0.0,
        structure_weight=0.0,
        negative_prompt=negative,
        output_type="latent",
    )
    difference = (out.latents - out.reconstruction_latents).abs().max() / out.latents.abs().max()
    assert difference <= 1e-6


def test_no_weights_are_plain_sampling_of_the_target() -> None:
    out = run("a cat", "a dog", draw(1, 4, 8, 8), clip_weight=0.0, structure_weight=0.0, negative_prompt="")
    same = run("a dog", "a dog", draw(1, 4, 8, 8), clip_weight=0.0, structure_weight=0.0, negative_prompt="")
    torch.testing.assert_close(out.latents, same.reconstruction_latents)


def test_guidance_lowers_the_loss_it_follows() -> None:
    """At a small step size the CLIP loss after the edit is below that of the unguided target."""
    losses = {}
    for weight in (1e-9, 3.0):
        steps: list[EditStep] = []
        options = {"structure_weight": 0.0, "guidance_branch": "full", "clip_margin": 2.0, "negative_prompt": ""}
        run("a cat", "a dog", draw(1, 4, 8, 8), clip_weight=weight, on_step=steps.append, **options)
        assert steps[-1].terms.clip is not None
        losses[weight] = float(steps[-1].terms.clip.loss)
    assert losses[3.0] < losses[1e-9]


@pytest.mark.parametrize(("schedule", "negative", "rows"), [("coherent", None, 198), ("released", "", 248)])
def test_unet_calls_at_fifty_steps(schedule: Any, negative: str | None, rows: int) -> None:
    """148 forward, of which 50 are differentiated; the released code needs 297 and 50, with 546 rows in all."""
    calls: list[tuple[int, bool]] = []
    handle = PIPE.unet.register_forward_hook(lambda m, i, out: calls.append((len(out[0]), out[0].requires_grad)))
    try:
        start = PIPE.invert(torch.rand(3, 16, 16), "a cat", num_inference_steps=50, schedule=schedule)
        run(start.prompt, "a dog", start.latents, num_inference_steps=50, clip_weight=0.0, negative_prompt=negative)
    finally:
        handle.remove()
    assert len(calls) <= 148
    assert sum(differentiated for _, differentiated in calls) == 50
    assert sum(count for count, _ in calls) == rows


@pytest.mark.parametrize("steps", [2, 6, 7, 15, 60])
def test_step_counts_at_which_the_released_code_crashes(steps: int) -> None:
    start = PIPE.invert(torch.rand(3, 16, 16), "a cat", num_inference_steps=steps)
    out = run("a cat", "a dog", start.latents, num_inference_steps=steps, clip_weight=0.0)
    assert torch.isfinite(out.latents).all()


def test_the_last_climb_of_oig_plus_stays_in_the_table() -> None:
    """B1: the released code removes all noise in the last upward step, so the last cycle distance explodes."""
    distances = {}
    for fixed in (True, False):
        steps: list[EditStep] = []
        options = {"cycle_weight": 0.05, "fix_last_inverse": fixed, "clip_weight": 0.0, "structure_weight": 0.0}
        run("a cat", "a dog", draw(1, 4, 8, 8), num_inference_steps=5, on_step=steps.append, **options)
        distances[fixed] = [float(step.terms.cycle) for step in steps]
    assert distances[True][:-1] == distances[False][:-1]
    assert distances[False][-1] > 2 * distances[True][-1]


def test_released_order_of_step_sizes() -> None:
    orders = {}
    for name, options in (("released", RELEASED_EDIT), ("default", {})):
        steps: list[EditStep] = []
        run("a cat", "a dog", draw(1, 4, 8, 8), clip_weight=0.0, on_step=steps.append, **options)
        orders[name] = [step.j for step in steps]
    assert orders == {"released": [1, 2, 3, 3], "default": [0, 1, 2, 3]}


def test_non_finite_gradients_stop_with_a_remedy() -> None:
    leaf = torch.zeros(1, 1, 1, 1, requires_grad=True)
    with pytest.raises(RuntimeError, match="step 3 is not finite; load the pipeline in float32 or bfloat16"):
        latent_gradient(leaf.sqrt().flatten() * 0, leaf, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clip_weight", -1.0),
        ("guidance_scale", float("nan")),
        ("cycle_source_weight", -0.1),
        ("guidance_branch", "both"),
        ("step_shift", 2),
        ("clip_margin", float("inf")),
    ],
)
def test_impossible_settings(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        EditSettings(**{name: value})


def test_lambda_3_defaults_to_a_fifth() -> None:
    assert EditSettings(cycle_weight=0.5).lambda_3 == pytest.approx(0.1)
    assert EditSettings(cycle_weight=0.5, cycle_source_weight=0.0).lambda_3 == 0
