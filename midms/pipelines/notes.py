"""Notes on pictures that cannot come out well: the only place where they are worded.

Programs print them, the app shows them beside its button, and the record in the PNG keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from midms.conditions.edges import EDGE_CHANNELS
from midms.conditions.keypoints import KEYPOINT_CHANNELS
from midms.conditions.photos import annotate, models
from midms.data.procedural.dataset import TASKS
from midms.data.samples import SHOWN
from midms.matching.correspondence import normalize_features
from midms.models.encoded import Condition, Exemplar
from midms.models.numerics import is_large
from midms.pipelines.midms import MIDMsPipeline
from midms.pipelines.pictures import pil_images
from midms.visualize import to_pixels

#: Sizes over the weights' own outside of which a note is given.
SMALLEST, LARGEST = 0.8, 1.6
#: Samples that an exemplar is compared with, and standard deviations below their mean from which a note is given.
_COMPARED, _DEVIATIONS = 12, 5.0
_AT_ONCE = 3  # samples that are encoded as one batch, which bounds the memory
#: Features of these samples, (12, C, h, w), of each pipeline that has compared an exemplar with them.
_KNOWN: WeakKeyDictionary[MIDMsPipeline, Tensor] = WeakKeyDictionary()


class UsedExemplar(NamedTuple):
    """An exemplar of a translation."""

    name: str  # in notes
    picture: Tensor  # (3, H, W) in [-1, 1], at its working size
    encoded: Exemplar
    size: tuple[int, int] | None  # of the user's own picture, (width, height); None: a sample of the package


def what_weights_know(pipe: MIDMsPipeline) -> str:
    """A sentence on the weights' training pictures, since other kinds of pictures are translated badly."""
    side, task = pipe.condition_spec().side, pipe.info.get("task")
    drawn = SHOWN.get(str(task))
    if drawn is None:
        return f"They know pictures like those they were trained on ({task or 'not named'}), {side} pixels per side."
    return f"They know {drawn} of {side} pixels per side (the built-in benchmark), and have seen no photo."


def notes_on(
    pipe: MIDMsPipeline, maps: Tensor, condition: Condition, exemplars: Sequence[UsedExemplar], read: str = ""
) -> list[str]:
    """Reasons why a picture cannot be good, one line each.

    Args:
        maps: of the condition, (L, H, W), and `condition`, their encoding.
        read: a note on how the condition was read. It is the first of the result.
    """
    notes = [read or note_on_parts(maps), note_on_size(pipe, maps)]
    own = [exemplar for exemplar in exemplars if exemplar.size is not None]
    least = least_cosine(pipe, condition) if own else None
    for exemplar in own:
        notes += [note_on_few_pixels(pipe, exemplar), note_on_look(pipe, condition, exemplar, least)]
    return [note for note in notes if note]


def note_on_parts(maps: Tensor) -> str:
    """A note on edge maps (15, H, W) in [0, 1] that hold lines but no part of a face. Empty: all others."""
    if len(maps) != EDGE_CHANNELS or not bool((maps[1:14] == 1).all()):
        return ""
    return (
        "the condition has lines but no parts of a face, so that little of it is matched; a photo of a face as "
        f"condition (`{models.REMEDY}`), a sample, or a face painted in the app comes out far better"
    )


def note_on_size(pipe: MIDMsPipeline, maps: Tensor) -> str:
    """A note on condition maps (L, H, W) far from the size that the weights were trained at. Empty: near it."""
    side = pipe.info.get("size")
    height, width = maps.shape[-2:]
    if side is None or SMALLEST <= math.sqrt(height * width) / side <= LARGEST:
        return ""
    return f"the picture is computed at {width} x {height} pixels, but these weights were trained at {side} x {side}"


def note_on_few_pixels(pipe: MIDMsPipeline, exemplar: UsedExemplar) -> str:
    """A note on a user's exemplar of far fewer pixels than the weights see. Empty: it has enough."""
    side = pipe.condition_spec().side
    if exemplar.size is None or math.sqrt(exemplar.size[0] * exemplar.size[1]) >= SMALLEST * side:
        return ""
    width, height = exemplar.size
    return f"{exemplar.name} has {width} x {height} pixels; these weights use {side} x {side}, so its detail is missing"


def note_on_look(pipe: MIDMsPipeline, condition: Condition, exemplar: UsedExemplar, least: float | None) -> str:
    """A note on an exemplar that shows what the weights have never seen. Empty: nothing of the kind was noticed.

    Args:
        least: `least_cosine` of the condition.
    """
    if least is None:
        missing = missing_person(pipe, exemplar.picture)
        return f"{exemplar.name}: {missing}; these weights were trained on pictures with one" if missing else ""
    if mean_best_cosine(condition, exemplar.encoded.features) >= least:
        return ""
    known, missing = SHOWN[str(pipe.info["task"])], missing_person(pipe, exemplar.picture)
    return (
        f"{exemplar.name} is far from what these weights know ({known}; they have seen no photo): expect its colours, "
        f"and little of its detail{f' ({missing})' if missing else ''}"
    )


def least_cosine(pipe: MIDMsPipeline, condition: Condition) -> float | None:
    """The `mean_best_cosine` that pictures of the weights' own task have at least, judged by samples.

    None: the weights were not trained on a task of the built-in benchmark, or their networks are so large that encoding
    the samples would take as long as the translation.
    """
    if pipe.info.get("task") not in TASKS or pipe.condition_spec().images or is_large(pipe.model):
        return None
    cosines = np.array([mean_best_cosine(condition, features[None]) for features in _known_features(pipe)])
    return float(cosines.mean() - _DEVIATIONS * cosines.std())


def _known_features(pipe: MIDMsPipeline) -> Tensor:
    """Features of the samples that exemplars are compared with, encoded once for a pipeline on a device."""
    known = _KNOWN.get(pipe)
    if known is None or known.device != pipe.device:
        numbers = torch.arange(1, _COMPARED + 1).split(_AT_ONCE)
        known = _KNOWN[pipe] = torch.cat([_features_of_samples(pipe, part.tolist()) for part in numbers])
    return known


def _features_of_samples(pipe: MIDMsPipeline, numbers: Sequence[int]) -> Tensor:
    samples = [pipe.sample(number) for number in numbers]
    labels = None
    if pipe.model.encoders.form == "released":
        labels = torch.stack([torch.from_numpy(sample.exemplar_condition) for sample in samples]).float() / 255
    return pipe.encode_exemplar([sample.exemplar for sample in samples], labels).features


def mean_best_cosine(condition: Condition, features: Tensor) -> float:
    """The largest cosine (Eq. 5) of each position of a condition with features (1, C, h, w), averaged."""
    queries = normalize_features(condition.encoded.features.float()).flatten(2)[0]  # (C, N)
    keys = normalize_features(features.float()).flatten(2)[0]  # (C, M)
    return float(torch.cat([(part.T @ keys).amax(1) for part in queries.split(1024, dim=1)]).mean())


def missing_person(pipe: MIDMsPipeline, picture: Tensor) -> str:
    """What a picture (3, H, W) in [-1, 1] lacks, if the weights translate faces or people: "no face was found in it".

    Empty: nothing is missing, or the networks of `midms get photos` are not there to look.
    """
    spec = pipe.condition_spec()
    if spec.images or spec.channels not in (EDGE_CHANNELS, KEYPOINT_CHANNELS) or not models.have_models():
        return ""
    try:
        if spec.channels == EDGE_CHANNELS:
            annotate.find_face(to_pixels(picture))
        else:
            annotate.pose_of_person(pil_images(picture[None])[0])
    except annotate.PhotoError:
        return "no face was found in it" if spec.channels == EDGE_CHANNELS else "nobody was found in it"
    return ""
