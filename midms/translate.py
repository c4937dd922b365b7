"""The commands `midms translate`, `midms info` and `midms samples`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from midms.conditions.make import BuiltCondition
from midms.conditions.photos import models
from midms.config import ConfigError
from midms.data.samples import COUNT, PREFIX, SHOWN, contact_sheet, is_sample
from midms.diffusion.interleave import StepRecord
from midms.io.images import open_upright, read_header, to_rgb
from midms.io.outputs import check_output_files
from midms.io.provenance import text_chunk, versions
from midms.models.encoded import Condition
from midms.pipelines.making import Making, computed_by, load_pipeline, loop_settings
from midms.pipelines.midms import MIDMsOutput, MIDMsPipeline
from midms.pipelines.notes import UsedExemplar, notes_on, what_weights_know
from midms.pipelines.pictures import resize_images
from midms.pipelines.reading import input_digests, read_condition, read_exemplar, read_exemplar_condition
from midms.pipelines.settings import Settings
from midms.visualize import (
    FIGURES,
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

_ANIMATIONS = (".gif", ".webp")


class Inputs(NamedTuple):
    """All inputs of a call, encoded."""

    condition: BuiltCondition
    encoded: Condition
    exemplars: list[UsedExemplar]
    digests: dict[str, str]  # name of each input -> its digest


def translate(options: argparse.Namespace) -> list[str]:
    """Make and save the pictures that the command line asks for. Returns messages for the user.

    Raises:
        ConfigError, ValueError: a file or number cannot be used.
    """
    check_outputs(options)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    pipe = load_pipeline(options.weights, options.device, options.dtype, options.fast)
    settings = loop_settings(pipe, options.protocol, options.steps, options.calls, options.threshold)
    inputs = read_inputs(options, pipe)
    figures = figures_asked_for(options)
    records: list[StepRecord] = []
    notes = notes_on(pipe, inputs.condition.maps, inputs.encoded, inputs.exemplars, inputs.condition.note)
    output = pipe(
        inputs.encoded,
        [exemplar.encoded for exemplar in inputs.exemplars],
        settings=settings,
        seed=options.seed,
        return_intermediates=["warps"] * bool(figures - {"correspondence"})
        + ["correspondence"] * ("correspondence" in figures),
        output_type="pt",
        callback=records.append if figures else None,
    )
    assert isinstance(output.images, Tensor)
    extras = save_extras(options, figures_of(pipe, inputs, output, records, figures)) if figures else []
    recorded = making_of(options, settings, inputs, notes).record(computed_by(pipe), options.out)
    save_png(options.out, to_pixels(resize_images(output.images, inputs.condition.size))[0], text_chunk(recorded))
    height, width = inputs.condition.size
    return [f"note: {note}" for note in [*notes, *extras]] + [f"{options.out}: {width} x {height}"]


def figures_asked_for(options: argparse.Namespace) -> set[str]:
    """Which of `midms.visualize.FIGURES` the command line asks for."""
    asked = {name for name in FIGURES if name != "animation" and getattr(options, f"{name}_picture") is not None}
    return asked | ({"animation"} if options.animation else set())


def figures_of(
    pipe: MIDMsPipeline, inputs: Inputs, output: MIDMsOutput, records: list[StepRecord], figures: set[str]
) -> LoopPictures:
    """The intermediate pictures that the figures need."""
    assert isinstance(output.images, Tensor)
    images = output.images

    def decode_all(latents: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Decode latents, except a last prediction that equals the decoded result (without refinement)."""
        rest = iter(pipe.decode_all([latent for latent in latents if latent is not output.latents], size))
        return [images if latent is output.latents else next(rest) for latent in latents]

    maps = inputs.condition.maps
    shown = maps if pipe.condition_spec().images else condition_image(maps[None])[0]
    return loop_pictures(
        shown, inputs.exemplars[0].picture, output.warps, records, decode_all, images, output.correspondence, figures
    )


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse output names that cannot store the record, and mismatched numbers of files, before computing anything."""
    for name in ("out", "steps_picture", "predictions_picture", "correspondence_picture"):
        _check_is_png(f"--{name.replace('_', '-')}", getattr(options, name))
    for file in options.animation:
        if file.suffix.lower() not in _ANIMATIONS:
            raise ConfigError(f"--animation {file}: expected a name that ends in {' or '.join(_ANIMATIONS)}")
    pictures = [getattr(options, f"{name}_picture") for name in FIGURES if name != "animation"]
    check_output_files(
        [options.out, *filter(None, pictures), *options.animation],
        [file for file in input_files(options) if not is_sample(file)],
        options.overwrite,
    )
    for name in ("exemplar_mask", "exemplar_condition"):
        count, expected = len(getattr(options, name)), len(options.exemplar)
        if count not in (0, expected):
            raise ConfigError(f"--{name.replace('_', '-')}: {count} files for {expected} exemplars; give one each")


def _check_is_png(option: str, file: Path | None) -> None:
    if file is not None and file.suffix.lower() != ".png":
        raise ConfigError(f"{option} {file}: expected a name that ends in .png")


def input_files(options: argparse.Namespace) -> list[Path]:
    """The pictures, maps and samples that the command line names as inputs."""
    return [options.condition, *options.exemplar, *options.exemplar_mask, *options.exemplar_condition]


def read_inputs(options: argparse.Namespace, pipe: MIDMsPipeline) -> Inputs:
    """Read and encode condition, exemplars, their masks and their maps.

    Raises:
        ConfigError: a file cannot be used for these weights.
    """
    kind, weights, canvas = options.condition_kind, options.condition_weights, options.condition_size
    condition = read_condition(pipe, options.condition, options.size, kind, weights, canvas, options.align)
    released = pipe.model.encoders.form == "released"
    maps = options.exemplar_condition or options.exemplar  # a sample brings its own maps
    if released and not options.exemplar_condition and not all(map(is_sample, options.exemplar)):
        raise ConfigError("these weights also match the exemplar's own condition: give it with --exemplar-condition")
    exemplars = []
    for index, file in enumerate(options.exemplar):
        photo = read_exemplar(pipe, file, options.size)
        mask = exemplar_mask(options.exemplar_mask[index]) if options.exemplar_mask else None
        labels = read_exemplar_condition(pipe, maps[index], options.size) if released else None
        encoded = pipe.encode_exemplar(photo, labels, mask, pipe.condition_spec(options.size).side)
        own = None if is_sample(file) else read_header(file).size
        exemplars.append(UsedExemplar(str(file), photo, encoded, own))
        if encoded.mask is not None and float(encoded.mask.max()) <= 0.5:
            raise ConfigError(
                f"{options.exemplar_mask[index]}: the white part is smaller than one cell of the matching grid"
            )
    digests = input_digests(pipe, input_files(options), options.size)
    return Inputs(condition, pipe.encode_condition(condition.maps[None]), exemplars, digests)


def exemplar_mask(file: Path) -> Tensor:
    """Where an exemplar may be used, (1, 1, H, W): 1 where the picture is lighter than middle grey.

    For a picture with varying transparency (a cut-out) the mask is 1 where the picture is opaque.
    """
    picture = open_upright(file)
    alpha = np.asarray(picture.convert("RGBA"))[..., 3] if picture.has_transparency_data else np.zeros((1, 1), np.uint8)
    level = alpha if alpha.min() != alpha.max() else np.asarray(to_rgb(picture).convert("L"))
    return torch.from_numpy(level > 127).float()[None, None]


def save_extras(options: argparse.Namespace, pictures: LoopPictures) -> list[str]:
    """Save the intermediate pictures. Returns messages about those that could not be drawn."""
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


def making_of(options: argparse.Namespace, settings: Settings, inputs: Inputs, notes: Sequence[str]) -> Making:
    """The `Making` of a command line's picture."""
    return Making(
        program="midms translate",
        weights=options.weights,
        settings=settings,
        seed=options.seed,
        inputs=inputs.digests,
        condition=str(options.condition),
        condition_kind=inputs.condition.kind,
        condition_weights=options.condition_weights,
        condition_size=options.condition_size,
        align=options.align,
        photo_networks=models.digests() if inputs.condition.models else {},
        exemplars=[str(file) for file in options.exemplar],
        exemplar_masks=[str(file) for file in options.exemplar_mask],
        exemplar_conditions=[str(file) for file in options.exemplar_condition],
        size=options.size,
        protocol=options.protocol,
        notes=notes,
    )


def describe_weights(weights: str, as_json: bool = False) -> str:
    """Facts about weights and their inputs, one per line or as JSON.

    Raises:
        ConfigError: no weights have that name.
    """
    pipe = load_pipeline(weights)
    spec, model = pipe.condition_spec(), pipe.model
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
        "computed by default": pipe.computation._asdict() | {"device": str(pipe.device)},
        "versions": versions(),
    }
    if as_json:
        return json.dumps(facts, indent=2)
    return "\n".join(f"{name}: {_plain(value)}" for name, value in facts.items())


def show_samples(weights: str, out: Path | None = None, overwrite: bool = False) -> str:
    """Say which samples weights take, and draw them all into the PNG `out`.

    Args:
        overwrite: whether `out` may replace a file that midms did not write.

    Raises:
        ConfigError: no weights have that name, they take no samples, or the picture cannot be written.
    """
    _check_is_png("--out", out)
    if out is not None:
        check_output_files([out], overwrite=overwrite)
    pipe = load_pipeline(weights)
    task, side = pipe.task, pipe.condition_spec().side
    if task is None:
        raise ConfigError(f"{weights}: no sample has the form of condition that these weights take")
    said = f"{PREFIX}1 to {PREFIX}{COUNT}: {SHOWN[task]} of {side} pixels, for --condition and --exemplar"
    if out is None:
        return f"{said}; `midms samples {weights} --out samples.png` draws them"
    save_png(out, contact_sheet(task, side))
    return f"{said}; drawn in {out}"


def _plain(value: Any) -> str:
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
