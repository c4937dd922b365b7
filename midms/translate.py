"""What `midms translate` and `midms info` do."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor

from midms.conditions.make import BuiltCondition, ConditionSpec, make_condition
from midms.conditions.photos import models
from midms.config import ConfigError
from midms.diffusion.interleave import StepRecord
from midms.diffusion.settings import InterleaveSettings
from midms.io.files import check_output_files
from midms.io.images import at_working_size, open_image, read_rgb, to_rgb
from midms.io.provenance import Record, file_digest, text_chunk, versions
from midms.models.encoded import Exemplar
from midms.models.midms import MIDMs
from midms.models.translation_gan import GANSettings
from midms.pipelines.midms import MIDMsPipeline
from midms.pipelines.pictures import read_picture, resize_images
from midms.pipelines.settings import Settings, gan_settings
from midms.visualize import (
    LoopPictures,
    animation,
    condition_image,
    correspondence_figure,
    iterations_figure,
    loop_pictures,
    predictions_figure,
    save_animation,
    save_png,
    to_pixels,
)

DEFAULT_SIDE = 256  # where weights do not say what they were trained with
_ANIMATIONS = (".gif", ".webp")


class Inputs(NamedTuple):
    """Everything that a call reads, encoded."""

    condition: BuiltCondition
    exemplars: list[Exemplar]
    photos: list[Tensor]  # each (3, H, W) in [-1, 1], as it was encoded


def translate(options: argparse.Namespace) -> list[str]:
    """Make and save what the command line asks for; returns lines for the user.

    Raises:
        ConfigError, ValueError: a file or number that cannot be used.
    """
    check_outputs(options)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = usable_device(options.device)
    pipe = MIDMsPipeline.from_pretrained(options.weights, device)
    settings = loop_settings(options, pipe)
    inputs = read_inputs(options, pipe, device)
    records: list[StepRecord] = []
    output = pipe(
        inputs.condition.maps[None],
        inputs.exemplars,
        settings=settings,
        seed=options.seed,
        return_intermediates=True,
        output_type="pt",
        callback=records.append,
    )
    assert isinstance(output.images, Tensor) and output.warps is not None
    image = resize_images(output.images, inputs.condition.size)
    shown = inputs.condition.maps if condition_spec(pipe).images else condition_image(inputs.condition.maps[None])[0]
    pictures = loop_pictures(
        shown, inputs.photos[0], output.warps, records, pipe.decode, output.images, output.correspondence
    )
    notes = [inputs.condition.note] if inputs.condition.note else []
    notes += save_extras(options, pictures)
    recorded = record(options, pipe, settings, inputs, device)
    save_png(options.out, to_pixels(image)[0], text_chunk(recorded))
    height, width = inputs.condition.size
    return [f"note: {note}" for note in notes] + [f"{options.out}: {width} x {height}"]


def usable_device(name: str | None) -> str:
    """A device that tensors can be put on. None: cuda where there is one, else the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    chosen = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {chosen}: {str(error).strip().splitlines()[0][:160]}") from None
    return chosen


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse names that would lose the settings, or numbers of files that do not fit, before anything is computed."""
    for name in ("out", "steps_picture", "predictions_picture", "correspondence_picture"):
        file = getattr(options, name)
        if file is not None and file.suffix.lower() != ".png":
            raise ConfigError(f"--{name.replace('_', '-')} {file}: expected a name that ends in .png")
    for file in options.animation:
        if file.suffix.lower() not in _ANIMATIONS:
            raise ConfigError(f"--animation {file}: expected a name that ends in {' or '.join(_ANIMATIONS)}")
    extras = (options.steps_picture, options.predictions_picture, options.correspondence_picture)
    outputs = [options.out, *(file for file in extras if file is not None), *options.animation]
    files = [options.condition, *options.exemplar, *options.exemplar_mask, *options.exemplar_condition]
    check_output_files(outputs, files)
    for name in ("exemplar_mask", "exemplar_condition"):
        count, expected = len(getattr(options, name)), len(options.exemplar)
        if count not in (0, expected):
            raise ConfigError(f"--{name.replace('_', '-')}: {count} files for {expected} exemplars; give one each")


def loop_settings(options: argparse.Namespace, pipe: MIDMsPipeline) -> Settings:
    """The protocol's settings with the command line's numbers.

    Raises:
        ConfigError: a number is out of range.
    """
    if isinstance(pipe.settings, GANSettings):
        return gan_settings(pipe.settings, options)
    assert isinstance(pipe.model, MIDMs)
    presets = {"paper": InterleaveSettings.paper, "released": InterleaveSettings.released}
    chosen = presets[options.protocol]() if options.protocol in presets else pipe.settings
    limit = pipe.model.schedule.num_train_timesteps
    try:
        settings = chosen.with_steps(options.steps, options.calls)
        if options.threshold is not None:
            settings = settings.replace(threshold=options.threshold)
    except ValueError as error:
        raise ConfigError(f"--steps, --calls, --threshold: {error}") from None
    if settings.num_inference_steps > limit:
        raise ConfigError(f"--steps {settings.num_inference_steps}: expected at most {limit}")
    return settings


def condition_spec(pipe: MIDMsPipeline, size: int | None = None) -> ConditionSpec:
    """What the weights of a pipeline take as a condition, at `size` pixels per side or at their own."""
    encoders = pipe.model.encoders
    images = encoders.condition_input == "latent"
    channels = 3 if images else int(encoders.config["condition_channels"])
    return ConditionSpec(channels, size or int(pipe.info.get("size") or DEFAULT_SIDE), images)


def read_inputs(options: argparse.Namespace, pipe: MIDMsPipeline, device: str) -> Inputs:
    """Read and encode condition, exemplars, their masks and their maps.

    Raises:
        ConfigError: a file cannot be used for these weights.
    """
    spec = condition_spec(pipe, options.size)
    condition = make_condition(
        options.condition,
        spec,
        options.condition_kind,
        options.condition_weights,
        options.condition_size,
        device,
        options.align,
    )
    released = pipe.model.encoders.form == "released"
    if released and not options.exemplar_condition:
        raise ConfigError("these weights also match the exemplar's own condition: give it with --exemplar-condition")
    exemplars, photos = [], []
    for index, file in enumerate(options.exemplar):
        photo = at_working_size(read_rgb(file), spec.side)
        mask = exemplar_mask(options.exemplar_mask[index]) if options.exemplar_mask else None
        labels = None
        if released:
            labels = make_condition(options.exemplar_condition[index], spec).maps[None]
        encoded = pipe.encode_exemplar(photo, labels, mask, spec.side)
        exemplars.append(encoded)
        photos.append(read_picture(photo))
        if encoded.mask is not None and float(encoded.mask.max()) <= 0.5:
            raise ConfigError(f"{options.exemplar_mask[index]}: too little white for one position of the match")
    return Inputs(condition, exemplars, photos)


def exemplar_mask(file: Path) -> Tensor:
    """Where an exemplar may be used, (1, 1, H, W): 1 where the picture is lighter than the middle grey.

    Of a picture whose transparency varies (a cut-out) the transparency alone counts: 1 where it is opaque.
    """
    picture = ImageOps.exif_transpose(open_image(file))
    alpha = np.asarray(picture.convert("RGBA"))[..., 3] if picture.has_transparency_data else np.zeros((1, 1), np.uint8)
    level = alpha if alpha.min() != alpha.max() else np.asarray(to_rgb(picture).convert("L"))
    return torch.from_numpy(level > 127).float()[None, None]


def save_extras(options: argparse.Namespace, pictures: LoopPictures) -> list[str]:
    """The pictures of what happened inside; returns what could not be drawn."""
    for file, draw in (
        (options.steps_picture, iterations_figure),
        (options.predictions_picture, predictions_figure),
        (options.correspondence_picture, correspondence_figure),
    ):
        if file is not None:
            save_png(file, draw(pictures))
    for file in options.animation:
        save_animation(file, animation(pictures))
    several = len(options.exemplar) > 1 and options.correspondence_picture is not None
    return [f"{options.correspondence_picture}: shows the first of the exemplars"] if several else []


def record(options: argparse.Namespace, pipe: MIDMsPipeline, settings: Settings, inputs: Inputs, device: str) -> Record:
    """All that decides the picture."""
    files = [options.condition, *options.exemplar, *options.exemplar_mask, *options.exemplar_condition]
    return Record(
        program="midms translate",
        command=shlex.join(command_of(options, settings, inputs.condition.kind, device)),
        inputs={str(file): file_digest(file) for file in files},
        weights=options.weights,
        weight_files=pipe.weight_files,
        seed=options.seed,
        condition_kind=inputs.condition.kind,
        photo_networks=models.digests() if inputs.condition.models else {},
        settings=asdict(settings),
        device=device,
    )


def command_of(options: argparse.Namespace, settings: Settings, kind: str, device: str) -> list[str]:
    """The words of the command that makes the same picture, with every number that defaults could change."""
    words = ["midms", "translate", "--condition", str(options.condition), "--condition-kind", kind]
    if options.condition_weights:
        words += ["--condition-weights", *options.condition_weights]
    if options.condition_size:
        words += ["--condition-size", "x".join(map(str, options.condition_size))]
    if not options.align:
        words.append("--no-align")
    for name in ("exemplar", "exemplar_mask", "exemplar_condition"):
        if getattr(options, name):
            words += [f"--{name.replace('_', '-')}", *map(str, getattr(options, name))]
    words += ["--weights", options.weights, "--protocol", options.protocol]
    calls = ["--calls", str(settings.num_interleaved_steps)]
    if isinstance(settings, InterleaveSettings):
        calls = ["--steps", str(settings.num_inference_steps), *calls, "--threshold", repr(settings.threshold)]
    words += [*calls, "--seed", str(options.seed)]
    if options.size is not None:
        words += ["--size", str(options.size)]
    words += ["--device", device, "--threads", str(torch.get_num_threads())]
    return [*words, "--out", str(options.out)]


def describe_weights(weights: str, as_json: bool = False) -> str:
    """What weights are and take, one fact per line or as JSON.

    Raises:
        ConfigError: nothing of that name.
    """
    pipe = MIDMsPipeline.from_pretrained(weights)
    spec, model = condition_spec(pipe), pipe.model
    parts = {name.replace("_", " "): part for name, part in model.components()[0].items() if name != "refiner"}
    facts: dict[str, Any] = {
        "weights": weights,
        "kind": pipe.kind,
        "task": pipe.info.get("task"),
        "size": spec.side,
        "knows": what_weights_know(pipe),
        "condition": "an image" if spec.images else f"{spec.channels} maps",
        "exemplar condition": "needed" if model.encoders.form == "released" else "not needed",
        "parameters": {name: sum(value.numel() for value in part.parameters()) for name, part in parts.items()},
        "settings": asdict(pipe.settings),
        "versions": versions(),
    }
    if as_json:
        return json.dumps(facts, indent=2)
    return "\n".join(f"{name}: {_plain(value)}" for name, value in facts.items())


def what_weights_know(pipe: MIDMsPipeline) -> str:
    """A sentence on the pictures that weights were trained on: what is unlike them does not come out well."""
    side, task = condition_spec(pipe).side, pipe.info.get("task")
    drawn = {"faces": "drawn portraits", "figures": "drawn people", "churches": "drawn churches"}.get(str(task))
    if drawn is None:
        return f"They know pictures like those they were trained on ({task or 'not named'}), {side} pixels a side."
    return f"They know {drawn} of {side} pixels a side (the built-in benchmark), and have seen no photo."


def _plain(value: Any) -> str:
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
