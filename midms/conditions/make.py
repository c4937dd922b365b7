"""A condition from a user's file: ready maps, a line drawing, a photo, joints, a map of classes.

    map            .npy, .npz (L, H, W), or a picture with as many channels as the weights take
    drawing        a picture of lines, dark on light or the reverse                                 15 channels
    edges          a portrait photo: Canny edges, and the outlines of the parts of its face         15 channels
    keypoints      a photo of a person, OpenPose JSON, candidate and subset files                   20 channels
    segmentation   a PNG of class ids, or a photo with UperNet                                      one per class

Face parts and joints of a photo come from the networks of `midms get photos` (`midms.conditions.photos`), or from
larger networks whose weights the user names. Pictures are resized to about the training resolution of the weights, in
their own aspect ratio (`midms.io.images.working_size`). Ready maps are not resized.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from midms.conditions import annotators, poses
from midms.conditions.edges import EDGE_CHANNELS, edge_condition, part_masks
from midms.conditions.keypoints import KEYPOINT_CHANNELS, pose_condition
from midms.conditions.kinds import KINDS
from midms.conditions.photos import annotate, models
from midms.conditions.segmentation import IGNORED, class_map, one_hot
from midms.config import ConfigError
from midms.io.files import BrokenFileError
from midms.io.images import (
    IMAGE_SUFFIXES,
    LOSSY_FORMATS,
    at_working_size,
    open_upright,
    read_header,
    read_rgb,
    to_rgb,
    working_size,
)
from midms.io.maps import MAP_SUFFIXES, read_maps

_CHANNELS = {"drawing": EDGE_CHANNELS, "edges": EDGE_CHANNELS, "keypoints": KEYPOINT_CHANNELS}
_LEAST_CONTRAST = 16  # levels of 255 between paper and ink
_MOST_INK = 0.3  # share of a drawing
_ANNOTATED_SIDE = 1024  # photos are reduced to this before a network annotates them


class ConditionSpec(NamedTuple):
    """The form of condition that weights take."""

    channels: int  # L
    side: int  # pixels per side of the pictures they were trained on
    images: bool = False  # whether it is an image (3, H, W) in [-1, 1], which the first stage encodes


class BuiltCondition(NamedTuple):
    """A condition, with a note for the user."""

    maps: Tensor  # (L, H, W) in [0, 1]; an image in [-1, 1] where the weights take one
    size: tuple[int, int]  # (H, W) of the source, and so of the result
    kind: str
    note: str = ""  # one line, or empty
    photo: Image.Image | None = None  # the photo behind the condition, after alignment if any
    models: bool = False  # whether the networks of `midms get photos` made the condition


def make_condition(
    source: str | Path,
    spec: ConditionSpec,
    kind: str | None = None,
    weights: Sequence[str] = (),
    canvas: tuple[int, int] | None = None,
    device: str = "cpu",
    align: bool = True,
) -> BuiltCondition:
    """The condition in a file.

    Args:
        source: the file; of candidate and subset files either one.
        spec: what the weights take.
        kind: one of `KINDS`. None: by the file's ending, the weights (a picture is a drawing or a portrait, a
            photo of a person, a map of classes) and whether a picture `is_drawn`.
        weights: of a network to annotate photos instead of those of `midms get photos`: a folder, file or hub id of a
            SegFormer face parser (edges), pose network (keypoints: detector.onnx and pose.onnx of rtmlib, or
            body_pose_model.pth of controlnet-aux), UperNet (segmentation).
        canvas: (width, height) of the photo that joints in a file belong to.
        align: whether a face is cut out upright, as in CelebA-HQ, when `midms get photos`' networks find it.
    Raises:
        ConfigError: the file cannot be used for these weights; one line says why.
    """
    file = Path(source)
    chosen = kind or default_kind(file, spec)
    _check_kind(chosen, spec)
    try:
        if chosen == "map":
            return _ready_map(file, spec)
        if chosen == "drawing":
            picture = read_rgb(file)
            ink = ink_of(picture)
            maps = ink_maps(ink, spec.side)
            return BuiltCondition(maps, (picture.height, picture.width), chosen, note_on_ink(ink))
        if chosen == "keypoints":
            return _keypoints(file, spec, weights, canvas, device)
        if chosen == "segmentation":
            return _segmentation(file, spec, weights, device)
        return _edges(file, spec, weights, device, align)
    except ConfigError:
        raise
    except ValueError as error:  # of the readers and annotators
        raise ConfigError(" ".join(str(error).split())) from None


def line_drawing(drawing: Image.Image | str | Path, side: int | None = None) -> Tensor:
    """A drawing, dark ink on light paper (or the reverse), as the 15 edge channels with no face part known.

    Channel 0 holds the ink. Every distance map is 1 ("absent"), and the part outlines are empty. Reduction keeps thin
    lines: a pixel is ink where the ink covers at least half of what a one-pixel line through the pixel would cover.

    Args:
        side: pixels per side to work on, see `midms.io.images.working_size`. None: the drawing's own size.
    """
    return ink_maps(ink_of(to_rgb(drawing) if isinstance(drawing, Image.Image) else read_rgb(drawing)), side)


def ink_of(drawing: Image.Image) -> NDArray[np.bool_]:
    """Where a drawing (RGB) has ink, (H, W): the rarer of the two classes of grey by Otsu's threshold.

    There is no ink where the means of the two classes differ by less than 16 of 255 levels: blank paper.
    """
    grey = np.asarray(drawing.convert("L"))
    counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    below, sums = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    means = np.stack([sums / np.maximum(below, 1), (sums[-1] - sums) / np.maximum(above, 1)])  # (2, 256)
    between = below * above * (means[1] - means[0]) ** 2
    best = np.flatnonzero(between == between.max())
    threshold = int(best[(len(best) - 1) // 2])  # the middle of the levels that separate the classes equally well
    if means[1, threshold] - means[0, threshold] < _LEAST_CONTRAST or not between.max() > 0:
        return np.zeros(grey.shape, bool)
    return grey <= threshold if below[threshold] <= above[threshold] else grey > threshold


def ink_maps(ink: NDArray[np.bool_], side: int | None = None) -> Tensor:
    """Ink (H, W) as the 15 edge channels of `line_drawing`, at the working size of `side`."""
    if side is not None:
        height, width = ink.shape
        size = working_size((width, height), side)
        cover = Image.fromarray(ink.astype(np.float32)).resize(size, Image.Resampling.BOX)
        shrink = max(1.0, width / size[0], height / size[1])
        ink = np.asarray(cover) >= 0.5 / shrink
    maps = torch.ones(EDGE_CHANNELS, *ink.shape)
    maps[0], maps[14] = torch.from_numpy(ink.astype(np.float32)), 0
    return maps


def note_on_ink(ink: NDArray[np.bool_]) -> str:
    """A note for the user where a picture is not a line drawing, else nothing."""
    share = float(ink.mean())
    if share == 0:
        return "no line was found in the drawing: it is blank, or its lines are nearly as light as its paper"
    if share > _MOST_INK:
        return (
            f"{share:.0%} of the drawing counts as ink, where lines cover a few percent; for a photo use "
            "--condition-kind edges"
        )
    return ""


def is_drawn(picture: Image.Image) -> bool:
    """Whether an RGB picture looks like a drawing: nearly all of it background, or most of it and the rest grey.

    A grey photo of a small object on a plain background looks the same. The argument `kind` settles such cases.
    """
    small = picture.copy()
    small.thumbnail((256, 256), Image.Resampling.NEAREST)  # lines keep their darkness
    values = np.asarray(small, np.float32)
    away = values - np.median(values, axis=(0, 1)).astype(np.float32)  # from the colour of the paper
    ground = float((np.abs(away.mean(axis=-1)) < 25).mean())
    coloured = float((away.max(axis=-1) - away.min(axis=-1) >= 25).mean())
    return ground > 0.9 or (ground > 0.6 and coloured < 0.02)


def photo_edges(photo: Image.Image, side: int, parts: NDArray[np.uint8] | None = None) -> Tensor:
    """The 15 edge channels of an RGB photo at its working size.

    Args:
        parts: ids of face parts (1 ... 13 in the order of `FACE_PARTS`, 0 for none), (H, W) of any size.
    """
    width, height = working_size(photo.size, side)
    grey = np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR).convert("L"))
    masks = {}
    if parts is not None:
        masks = part_masks(np.asarray(Image.fromarray(parts).resize((width, height), Image.Resampling.NEAREST)))
    return _unit(edge_condition(grey, masks, pixel=256 / side))


def pose_maps(pose: poses.Pose, size: tuple[int, int], side: int) -> Tensor:
    """The 20 pose channels of joints (18, 3) in pixels of a photo of `size` (width, height), at its working size."""
    width, height = working_size(size, side)
    joints = pose[:, :2] * (width / size[0], height / size[1])
    return _unit(pose_condition(joints, height, width, pixel=256 / side))


def label_maps(labels: NDArray[np.uint8], side: int, classes: int) -> Tensor:
    """One channel per class, of ids (H, W), sampled at the working size.

    Raises:
        ValueError: an id is not a class.
    """
    size = working_size((labels.shape[1], labels.shape[0]), side)
    ids = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
    return one_hot(torch.from_numpy(class_map(ids, classes)), classes)


def default_kind(file: Path, spec: ConditionSpec) -> str:
    """The default kind of a file, by its ending and the form of condition that the weights take."""
    suffix = file.suffix.lower()
    if suffix in MAP_SUFFIXES or spec.images:
        return "map"
    if suffix in (".json", ".txt"):
        return "keypoints"
    if spec.channels == EDGE_CHANNELS:
        return "drawing" if is_drawn(read_rgb(file)) else "edges"
    return "keypoints" if spec.channels == KEYPOINT_CHANNELS else "segmentation"


def _check_kind(kind: str, spec: ConditionSpec) -> None:
    if kind not in KINDS:
        raise ConfigError(f"condition kind {kind!r}: expected one of {', '.join(KINDS)}")
    fits = kind == "map" or spec.channels == _CHANNELS.get(kind)
    if kind == "segmentation":
        fits = spec.channels not in _CHANNELS.values()
    if not fits or (spec.images and kind != "map"):
        what = "an image" if spec.images else f"{spec.channels} condition maps"
        raise ConfigError(f"condition kind {kind!r}: these weights take {what}; expected {_allowed_kinds(spec)}")


def _allowed_kinds(spec: ConditionSpec) -> str:
    named = [kind for kind, channels in _CHANNELS.items() if channels == spec.channels and not spec.images]
    return " or ".join(["map", *(named or ([] if spec.images else ["segmentation"]))])


def _ready_map(file: Path, spec: ConditionSpec) -> BuiltCondition:
    if file.suffix.lower() in MAP_SUFFIXES:
        array = read_maps(file, spec.channels)
        maps = torch.from_numpy(array).float()
        maps = maps / 255 if array.dtype == np.uint8 else maps
        return BuiltCondition(2 * maps - 1 if spec.images else maps, array.shape[-2:], "map")
    picture = open_upright(file)
    if spec.images:
        small = at_working_size(to_rgb(picture), spec.side)
        return BuiltCondition(2 * _unit(_planes(small)) - 1, (picture.height, picture.width), "map")
    planes = _planes(picture)
    if len(planes) != spec.channels:
        raise ConfigError(f"{file}: {len(planes)} channels, these weights take {spec.channels}; save maps as .npy")
    return BuiltCondition(_unit(planes), (picture.height, picture.width), "map")


def _edges(file: Path, spec: ConditionSpec, weights: Sequence[str], device: str, align: bool) -> BuiltCondition:
    photo = read_rgb(file)
    size = (photo.height, photo.width)
    if weights:
        parts = annotators.face_parser(weights[0], device)([_smaller(photo)])[0]
        return BuiltCondition(photo_edges(photo, spec.side, parts), size, "edges", "", photo)
    if models.have_models():
        try:
            found = annotate.portrait(photo, align, spec.side)
        except annotate.PhotoError as error:
            raise ConfigError(f"{file}: {error}") from None
        size = (found.photo.height, found.photo.width)
        return BuiltCondition(
            photo_edges(found.photo, spec.side, found.parts), size, "edges", found.note, found.photo, True
        )
    note = f"the edges are Canny's alone, without the parts of the face; `{models.REMEDY}` gets networks that find them"
    return BuiltCondition(photo_edges(photo, spec.side), size, "edges", note, photo)


def _keypoints(
    file: Path, spec: ConditionSpec, weights: Sequence[str], canvas: tuple[int, int] | None, device: str
) -> BuiltCondition:
    if file.suffix.lower() not in (".json", ".txt"):
        return _joints_of_photo(file, spec, weights, device)
    if file.suffix.lower() == ".json":
        found = poses.read_pose_file(file)
    else:
        found = poses.PoseFile(poses.read_text_poses(*_text_pair(file)), None, False)
    size, note = canvas or _size_of_photo_beside(file) or found.canvas, ""
    if size is None and found.relative:
        size = (spec.side, spec.side)
        note = "joints between 0 and 1 are read as of a square picture; say its size with --condition-size WIDTHxHEIGHT"
    size = size or _square_canvas(poses.main_person(found.people, file), spec.side, file)
    pose = poses.main_person(found.in_pixels(size), file)
    outside = int(((pose[:, :2] < 0) | (pose[:, :2] > size)).any(axis=1).sum())  # an unseen joint, NaN, is not
    if outside:
        seen = int((~np.isnan(pose[:, 0])).sum())
        note = (
            f"{outside} of {seen} joints lie outside of the picture of {size[0]} x {size[1]} pixels; is its size right?"
        )
    return BuiltCondition(pose_maps(pose, size, spec.side), (size[1], size[0]), "keypoints", note)


def _joints_of_photo(file: Path, spec: ConditionSpec, weights: Sequence[str], device: str) -> BuiltCondition:
    photo = read_rgb(file)
    own = not weights and models.have_models()
    if own:
        try:
            pose, small = annotate.pose_of_person(photo), photo
        except annotate.PhotoError as error:
            raise ConfigError(f"{file}: {error}") from None
    else:
        small = _smaller(photo)
        pose = poses.main_person(_pose_network(weights, device)(small), file)
    size = (photo.height, photo.width)
    return BuiltCondition(pose_maps(pose, small.size, spec.side), size, "keypoints", "", photo, own)


def _pose_network(weights: Sequence[str], device: str) -> annotators.Poses:
    if not weights:
        raise ConfigError(
            f"joints of a photo need networks: run `{models.REMEDY}`, or give --condition-weights detector.onnx "
            "pose.onnx (rtmlib) or body_pose_model.pth (controlnet-aux), or joints as OpenPose JSON"
        )
    if Path(weights[-1]).suffix == ".pth":
        return annotators.controlnet_poses(weights[-1], device)
    return annotators.rtmlib_poses(weights[0] if len(weights) > 1 else None, weights[-1], device)


def _segmentation(file: Path, spec: ConditionSpec, weights: Sequence[str], device: str) -> BuiltCondition:
    picture = open_upright(file)
    size = (picture.height, picture.width)
    if picture.mode in ("L", "P", "1"):
        labels = np.array(picture, np.uint8)
        note = ""
        if picture.format in LOSSY_FORMATS:
            raise ConfigError(f"{file}: JPEG compression changes class ids; save the map of classes as PNG")
        if (labels == IGNORED).any():
            note = (
                f"ids of {IGNORED} (don't care) are read as class {spec.channels - 1}, the others as they are; "
                "raise ids that count from 0 without an 'unlabelled' by one first"
            )
        return BuiltCondition(label_maps(labels, spec.side, spec.channels), size, "segmentation", note)
    if not weights:
        raise ConfigError(
            f"{file}: mode {picture.mode} holds no class ids (expected one channel of 8 bits); for a photo give an "
            "UperNet: --condition-weights openmmlab/upernet-swin-small or a folder"
        )
    photo = to_rgb(picture)
    labels = annotators.scene_segmenter(weights[0], device)([_smaller(photo)])[0]
    return BuiltCondition(label_maps(labels, spec.side, spec.channels), (photo.height, photo.width), "segmentation")


def _text_pair(file: Path) -> tuple[Path, Path]:
    stem, count = re.subn(r"_(candidate|subset)$", "", file.stem)
    if count == 0:
        raise BrokenFileError(file, "expected a name ending in _candidate.txt or _subset.txt, or OpenPose JSON")
    return poses.text_files(file.with_name(stem))


def _size_of_photo_beside(file: Path) -> tuple[int, int] | None:
    """Size of the photo with the same name beside a file of joints."""
    stem = re.sub(r"_(candidate|subset|keypoints)$", "", file.stem)
    for photo in sorted(file.absolute().parent.glob(f"{glob.escape(stem)}.*")):
        if photo.stem == stem and photo.suffix.lower() in IMAGE_SUFFIXES and photo.is_file():
            return read_header(photo).size
    return None


def _square_canvas(pose: poses.Pose, side: int, file: Path) -> tuple[int, int]:
    if np.nanmax(pose[:, :2]) >= side:
        raise ConfigError(
            f"{file}: joints beyond {side} x {side} pixels, and no photo of that name beside it; say the photo's size "
            "with --condition-size WIDTHxHEIGHT"
        )
    return side, side


def _smaller(photo: Image.Image) -> Image.Image:
    photo = photo.copy()
    photo.thumbnail((_ANNOTATED_SIDE, _ANNOTATED_SIDE))
    return photo


def _planes(picture: Image.Image) -> NDArray[np.uint8]:
    return np.atleast_3d(np.asarray(picture, np.uint8)).transpose(2, 0, 1)


def _unit(maps: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(maps)).float() / 255
