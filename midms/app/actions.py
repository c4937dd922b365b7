"""Actions of the page's buttons: a translation shown step by step, and the origin of a pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from midms.app.framing import window
from midms.app.streaming import Outcome, stream
from midms.config import ConfigError
from midms.diffusion.interleave import StepRecord
from midms.matching.correspondence import Match, normalize_features
from midms.matching.streaming import masked_logit
from midms.models.encoded import Condition, Exemplar
from midms.pipelines import making
from midms.pipelines.midms import MIDMsPipeline
from midms.pipelines.notes import UsedExemplar, notes_on
from midms.pipelines.pictures import read_picture
from midms.pipelines.settings import Settings
from midms.visualize import Pixels, overlay, to_pixels

MAX_SEED = 2**32 - 1
MAX_CALLS = 200
MAX_SIDE = 1024
SHOWN = 8  # largest number of steps with pictures


class ChosenExemplar(NamedTuple):
    """An exemplar with the visitor's choices."""

    pixels: Pixels  # (H, W, 3)
    allowed: NDArray[np.bool_] | None = None  # (H, W): the allowed part; None: all of the exemplar
    condition: NDArray[np.uint8] | None = None  # its maps (L, H, W), for encoders of the released form
    size: tuple[int, int] | None = None  # of the visitor's own picture, (width, height); None: of a sample


class Task(NamedTuple):
    """All inputs of a translation, besides the weights."""

    condition: NDArray[np.uint8]  # (L, H, W), from 0 to 255
    exemplars: Sequence[ChosenExemplar]
    steps: int | None  # T; None for weights without a diffusion
    calls: int  # N
    threshold: float | None  # gamma; None for weights without a diffusion
    seed: int
    read_note: str = ""  # on how an uploaded condition was read


class Frame(NamedTuple):
    """A picture of the loop with its caption."""

    caption: str
    pixels: Pixels


class MatchInputs(NamedTuple):
    """Inputs of one match: query features (1, C, h, w), and keys and masks of each exemplar."""

    query: Tensor
    keys: list[Tensor]
    masks: list[Tensor | None]


class Result(NamedTuple):
    """A finished picture, and the data to trace its pixels."""

    task: Task
    settings: Settings
    pixels: Pixels  # (H, W, 3)
    matches: dict[str, MatchInputs]  # "first": condition with exemplars; "last": last matched prediction with exemplars
    trusted: list[NDArray[np.bool_]]  # the mask of each re-warp, (h, w)
    temperature: float  # tau of the softmax
    computed: making.Computed
    notes: Sequence[str] = ()  # why the picture cannot be good


class Progress(NamedTuple):
    """The intermediate state of a translation."""

    frames: list[Frame]
    done: int  # calls of the U-Net, or of the generator
    total: int
    result: Result | None = None
    notes: Sequence[str] = ()


class Trace(NamedTuple):
    """The origin of a pixel in the exemplars."""

    exemplar: int  # index of the exemplar with the largest share
    x: float  # pixel position in that exemplar
    y: float
    cosine: float
    weights: list[NDArray[np.float32]]  # softmax weights over each exemplar's tokens, (h, w), all adding up to 1
    trusted: int  # number of re-warps in which the position was copied from the exemplar
    rewarps: int


def loop_settings(pipe: MIDMsPipeline, task: Task) -> Settings:
    """The settings of the weights, changed by the visitor's numbers.

    Raises:
        ConfigError: a number is out of range.
    """
    if not 0 <= task.seed <= MAX_SEED:
        raise ConfigError(f"seed {task.seed}: expected 0 to {MAX_SEED}")
    if not 0 <= task.calls <= MAX_CALLS:
        raise ConfigError(f"noise level N = {task.calls}: expected 0 to {MAX_CALLS}")
    return making.loop_settings(pipe, "weights", task.steps, task.calls, task.threshold)


def translate(pipe: MIDMsPipeline, task: Task) -> Iterator[Progress]:
    """Make the picture. Yields after the first match, after every step, and finally with the result.

    Closing the generator stops the work after the current step.

    Raises:
        ConfigError: the task cannot be run, in words for the visitor.
    """
    settings = loop_settings(pipe, task)
    _check(pipe, task)
    condition, exemplars, notes = _encode_inputs(pipe, task)
    keys = [exemplar.features for exemplar in exemplars]
    masks = [exemplar.mask for exemplar in exemplars]
    total = settings.num_interleaved_steps
    shown = shown_steps(total)
    frames: list[Frame] = []
    records: list[StepRecord] = []

    def work(report: Any) -> Any:
        return pipe(
            condition,
            exemplars,
            settings=settings,
            seed=task.seed,
            output_type="latent",
            callback=report,
            first_callback=report,
        )

    output = None
    for item in stream(work):
        if isinstance(item, Outcome):
            output = item.value
            continue
        if isinstance(item, Match):
            frames.append(Frame("first warp", _picture(pipe, item.warp, condition.size)))
        else:
            records.append(item)
            frames += step_frames(pipe, item, condition.size) if item.n in shown else []
        yield Progress(list(frames), len(records), total, notes=notes)
    assert output is not None
    if records and output.latents is records[-1].prediction:  # without refinement the last frame is the result
        pixels = frames[-1].pixels
    else:
        pixels = _picture(pipe, output.latents, condition.size)
    matches = {"first": MatchInputs(condition.encoded.features, keys, masks)}
    rewarped = [record for record in records if record.rewarp is not None]
    if rewarped:
        with torch.no_grad():
            query = pipe.model.encode_prediction(rewarped[-1].prediction, condition.encoded)
        matches["last"] = MatchInputs(query, [exemplar.key for exemplar in exemplars], masks)
    trusted = [record.rewarp.mask[0, 0].cpu().numpy() > 0.5 for record in rewarped if record.rewarp]
    result = Result(task, settings, pixels, matches, trusted, pipe.model.temperature, making.computed_by(pipe), notes)
    yield Progress([*frames, Frame("result", result.pixels)], total, total, result, notes)


def shown_steps(total: int) -> set[int]:
    """Steps n of N = `total` to be shown: all if at most `SHOWN`, else `SHOWN` spread evenly, with both ends."""
    return {int(n) for n in np.linspace(total, 1, min(total, SHOWN)).round()} if total else set()


def step_frames(pipe: MIDMsPipeline, record: StepRecord, size: tuple[int, int]) -> list[Frame]:
    """Pictures of one step: the prediction and, after a re-warp, the warp and the mask drawn over it."""
    latents = [record.prediction] if record.rewarp is None else [record.prediction, record.rewarp.warp]
    prediction, *warps = pipe.decode_all(latents, size)
    frames = [Frame(f"{record.n} · prediction", to_pixels(prediction)[0])]
    for warp in warps:
        assert record.rewarp is not None
        frames.append(Frame(f"{record.n} · warp", to_pixels(warp)[0]))
        frames.append(Frame(f"{record.n} · mask", to_pixels(overlay(warp, record.rewarp.mask))[0]))
    return frames


def trace(result: Result, x: float, y: float, which: str = "last") -> Trace:
    """The match of pixel (x, y) of a result in the exemplars.

    Args:
        which: "first" (the condition with the exemplars) or "last" (the last matched prediction with them; the first
            match if the loop had no re-warp).
    Raises:
        ConfigError: the pixel is not in the picture.
    """
    height, width = result.pixels.shape[:2]
    if not (0 <= x < width and 0 <= y < height):
        raise ConfigError(f"pixel ({x:g}, {y:g}): expected a position in the picture of {width} x {height}")
    match = result.matches.get(which, result.matches["first"])
    row, column = _token(y, height, match.query.shape[-2]), _token(x, width, match.query.shape[-1])
    query = normalize_features(match.query.float())[0, :, row, column]  # (C,)
    cosines = [torch.einsum("c,chw->hw", query, normalize_features(key.float())[0]) for key in match.keys]
    logits = [_logits(cosine, mask, result.temperature) for cosine, mask in zip(cosines, match.masks, strict=True)]
    flat = torch.softmax(torch.cat([logit.flatten() for logit in logits]), dim=0)
    parts = flat.split([logit.numel() for logit in logits])
    weights = [part.view(logit.shape).cpu().numpy() for part, logit in zip(parts, logits, strict=True)]
    best_exemplar = int(np.argmax([weight.sum() for weight in weights]))
    best = np.unravel_index(int(logits[best_exemplar].argmax()), logits[best_exemplar].shape)
    pixels = result.task.exemplars[best_exemplar].pixels
    position = [(best[axis] + 0.5) * pixels.shape[axis] / logits[best_exemplar].shape[axis] for axis in (0, 1)]
    trusted = sum(bool(mask[_token(y, height, len(mask)), _token(x, width, mask.shape[1])]) for mask in result.trusted)
    cosine = float(cosines[best_exemplar][best[0], best[1]])
    return Trace(best_exemplar, float(position[1]), float(position[0]), cosine, weights, trusted, len(result.trusted))


def allowed_part(paint: NDArray[np.uint8] | None, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The allowed part of an exemplar, by the paint on its square canvas. None: unpainted, all is allowed.

    Args:
        paint: (S, S, 4); the exemplar lies in its `midms.app.framing.window`.
        size: of the exemplar, (H, W).
    """
    if paint is None or paint.ndim != 3 or paint.shape[2] != 4:
        return None
    left, top, width, height = window((size[1], size[0]), len(paint))
    alpha = paint[top : top + height, left : left + width, 3]
    if not alpha.any():
        return None
    return np.asarray(Image.fromarray(alpha).resize((size[1], size[0]), Image.Resampling.BOX)) > 127


def _encode(pipe: MIDMsPipeline, chosen: ChosenExemplar, number: int) -> Any:
    mask = None
    if chosen.allowed is not None:
        mask = torch.from_numpy(chosen.allowed)[None, None].float()
    labels = chosen.condition if pipe.model.encoders.form == "released" else None
    exemplar = pipe.encode_exemplar(chosen.pixels, labels, mask)
    if exemplar.mask is not None and not bool((exemplar.mask > 0.5).any()):
        raise ConfigError(
            f"exemplar {number}: the painted part is smaller than one cell of the matching grid; paint more"
        )
    return exemplar


@torch.no_grad()
def _encode_inputs(pipe: MIDMsPipeline, task: Task) -> tuple[Condition, list[Exemplar], list[str]]:
    """Condition and exemplars of a task, encoded, and the notes on them."""
    maps = torch.from_numpy(task.condition).float() / 255
    condition = pipe.encode_condition(2 * maps - 1 if pipe.condition_spec().images else maps)
    exemplars = [_encode(pipe, chosen, index) for index, chosen in enumerate(task.exemplars, start=1)]
    used = [
        UsedExemplar(f"exemplar {index}", read_picture(chosen.pixels), exemplar, chosen.size)
        for index, (chosen, exemplar) in enumerate(zip(task.exemplars, exemplars, strict=True), start=1)
    ]
    return condition, exemplars, notes_on(pipe, maps, condition, used, task.read_note)


def _check(pipe: MIDMsPipeline, task: Task) -> None:
    if not task.exemplars:
        raise ConfigError("no exemplar: pick one below, or upload one")
    channels, (count, height, width) = pipe.condition_spec().channels, task.condition.shape
    if count != channels:
        raise ConfigError(f"condition with {count} maps, these weights take {channels}")
    if max(height, width) > MAX_SIDE:
        raise ConfigError(f"condition of {width} x {height} pixels: at most {MAX_SIDE} a side")
    if pipe.model.encoders.form == "released" and any(chosen.condition is None for chosen in task.exemplars):
        raise ConfigError("these weights also need the maps of every exemplar: pick exemplars of the samples")


def _picture(pipe: MIDMsPipeline, latent: Tensor, size: tuple[int, int]) -> Pixels:
    return to_pixels(pipe.decode(latent, size))[0]


def _token(position: float, pixels: int, tokens: int) -> int:
    return min(int(position * tokens / pixels), tokens - 1)


def _logits(cosine: Tensor, mask: Tensor | None, temperature: float) -> Tensor:
    logits = cosine / temperature
    return logits if mask is None else logits.masked_fill(mask[0, 0] <= 0.5, masked_logit(temperature))
