"""Edit a picture from two prompts in one call, for the program and the web app."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict, Unpack

import torch
from PIL import Image

from midms.oig.outputs import OIGOutput
from midms.oig.pipeline import OIGPipeline, OnStep
from midms.oig.settings import EditOptions, InversionOptions
from midms.schema import check_argument_names


class Edit(NamedTuple):
    """An edit and everything needed to repeat it."""

    image: Image.Image
    reconstruction: Image.Image
    source_prompt: str
    target_prompt: str
    settings: dict[str, Any]  # JSON-ready
    flagged: bool  # by the safety checker; the image is then black


class EditImageOptions(TypedDict, total=False):
    """Keyword arguments of `edit_image` for both halves of the method.

    Attributes:
        num_inference_steps: N of inversion and edit. Default: 50.
        inversion_options: further arguments of `OIGPipeline.invert`, for example `RELEASED_INVERSION`.
        edit_options: further arguments of `OIGPipeline.__call__`, for example `RELEASED_EDIT`. A generated picture has
            negative prompt "" by default.
    """

    num_inference_steps: int
    inversion_options: InversionOptions | None
    edit_options: EditOptions | None


def edit_image(
    pipeline: OIGPipeline,
    image: Any = None,
    *,
    source_prompt: str | None = None,
    target_prompt: str | None = None,
    task: str | None = None,
    seed: int = 0,
    on_step: OnStep | None = None,
    **options: Unpack[EditImageOptions],
) -> Edit:
    """Edit one picture, or one that is generated from the source prompt and the seed.

    Args:
        image: any picture that `OIGPipeline.invert` accepts; None: generate one.
        source_prompt: description of the picture; None: use the pipeline's captioner.
        target_prompt: description of the edit; None: make it from `task`.
        task: such as cat2dog; used only without `target_prompt`.
        seed: of the generated picture, or of the posterior sample with `sample_posterior`.
        on_step: called with an `EditStep` after every step; raise in it to stop.
        options: `num_inference_steps`, `inversion_options` and `edit_options`, see `EditImageOptions`.
    Raises:
        ValueError: an argument is unusable.
        TypeError: an unknown argument.
    """
    check_argument_names("edit_image", EditImageOptions, options)
    if (target_prompt is None) == (task is None):
        raise ValueError("give either a target prompt or a task such as cat2dog")
    if image is None and source_prompt is None:
        raise ValueError("source_prompt: expected a prompt to generate a picture from, got none")
    num_inference_steps = options.get("num_inference_steps", 50)
    inversion: InversionOptions = {**(options.get("inversion_options") or {})}
    editing: EditOptions = {**(options.get("edit_options") or {})}
    generator = torch.Generator("cpu").manual_seed(seed)
    latents = None
    if image is None:
        editing.setdefault("negative_prompt", "")
    else:
        start = pipeline.invert(
            image, source_prompt, num_inference_steps=num_inference_steps, generator=generator, **inversion
        )
        latents, source_prompt = start.latents, start.prompt[0]
    prompt = str(source_prompt)
    target = target_prompt if target_prompt is not None else pipeline.target_prompts(prompt, str(task))[0]
    output: OIGOutput = pipeline(
        prompt,
        target,
        latents,
        num_inference_steps=num_inference_steps,
        generator=generator,
        on_step=on_step,
        **editing,
    )
    settings = {"num_inference_steps": num_inference_steps, "seed": seed, "inversion": inversion, "edit": editing}
    if image is None:
        settings.pop("inversion")
    flagged = bool(output.nsfw_content_detected and output.nsfw_content_detected[0])
    return Edit(output.images[0], output.reconstruction[0], prompt, target, settings, flagged)
