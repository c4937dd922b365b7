"""Networks that annotate photos with face parts, scene classes or body poses. Each needs third-party weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from midms.conditions.edges import FACE_PARTS
from midms.conditions.keypoints import JOINTS
from midms.conditions.poses import Pose
from midms.io.hub import hub_options
from midms.io.weights import load_state, read_state

LabelMaps = Callable[[Sequence[Image.Image]], list[NDArray[np.uint8]]]
Poses = Callable[[Image.Image], list[Pose]]
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, with which all of these networks were trained
_SIDE = 512
#: Joints with a lower score count as unseen.
MIN_SCORE = 0.3


def face_parser(weights: str, device: str = "cpu") -> LabelMaps:
    """SegFormer face parser (a folder or hub id, such as jonathandinu/face-parsing): photos to part ids.

    Ids are 1 ... 13 in the order of `FACE_PARTS`. Classes with other names become 0.

    Raises:
        ValueError: the weights cannot be loaded, or name no face part.
    """
    model = _load("SegformerForSemanticSegmentation", weights, device)
    names = [str(model.config.id2label[k]) for k in range(model.config.num_labels)]
    if not set(names) & set(FACE_PARTS):
        raise ValueError(f"{weights}: classes {names[:4]} ... are no face parts; expected names like {FACE_PARTS[:4]}")
    ids = [FACE_PARTS.index(name) + 1 if name in FACE_PARTS else 0 for name in names]
    return _labeller(model, torch.tensor(ids, dtype=torch.uint8), device)


def scene_segmenter(weights: str, device: str = "cpu") -> LabelMaps:
    """UperNet on ADE20K (a folder or hub id, such as openmmlab/upernet-swin-small): photos to classes 1 ... 150.

    Raises:
        ValueError: the weights cannot be loaded, or have other than 150 classes.
    """
    model = _load("UperNetForSemanticSegmentation", weights, device)
    if model.config.num_labels != 150:
        raise ValueError(f"{weights}: {model.config.num_labels} classes; expected the 150 of ADE20K")
    return _labeller(model, torch.arange(1, 151, dtype=torch.uint8), device)


def rtmlib_poses(detector: str | None, pose: str | None, device: str = "cpu") -> Poses:
    """Poses from rtmlib's RTMPose, as OpenPose's 18 joints. Without files, rtmlib downloads its default weights.

    Where the detector (YOLOX) finds nobody, rtmlib looks for joints in the whole photo. A person without a confident
    joint is left out.

    Raises:
        ValueError: rtmlib is not installed, or a file is missing, is not an ONNX network or is an RTMO network.
    """
    library = _library("rtmlib", "pip install rtmlib onnxruntime")
    _require_files(detector, pose)
    if pose is not None and "rtmo" in pose:
        raise ValueError(f"{pose}: rtmlib takes a path with 'rtmo' for its own download; give an RTMPose file, renamed")
    files = {"det": detector, "pose": pose}
    sizes = {f"{name}_input_size": size for name, file in files.items() if file and (size := _input_size(file))}
    body = library.Body(**files, **sizes, to_openpose=True, backend="onnxruntime", device=device)

    def find(photo: Image.Image) -> list[Pose]:
        joints, scores = body(np.ascontiguousarray(np.asarray(photo)[..., ::-1]))
        people = np.concatenate([joints, np.asarray(scores)[..., None]], axis=-1).astype(np.float64)
        people[people[..., 2] < MIN_SCORE] = np.nan
        return [person for person in people if not np.isnan(person).all()]

    return find


def _input_size(file: str) -> tuple[int, int] | None:
    """Input size (width, height) of an ONNX network, which rtmlib does not read. None: any size."""
    runtime = _library("onnxruntime", "pip install onnxruntime")
    try:
        shape = runtime.InferenceSession(file, providers=["CPUExecutionProvider"]).get_inputs()[0].shape
    except Exception as error:  # the library's own exception classes, all caused by an invalid file
        raise ValueError(f"{file}: no ONNX network ({str(error).splitlines()[0]})") from None
    height, width = shape[-2:]
    return (width, height) if isinstance(height, int) and isinstance(width, int) else None


def controlnet_poses(weights: str | None, device: str = "cpu") -> Poses:
    """Poses from OpenPose's body network in controlnet-aux (weights for non-commercial use).

    Raises:
        ValueError: controlnet-aux is not installed, or the weights are missing or do not fit.
    """
    library = _library("controlnet_aux.open_pose.body", "pip install controlnet-aux")
    if weights is None:
        raise ValueError("controlnet-aux needs --weights body_pose_model.pth (lllyasviel/Annotators on the hub)")
    _require_files(weights)
    try:
        body = library.Body(weights).to(device)
    except Exception as error:  # an invalid file can raise any exception
        reason = str(error).partition(".")[0]
        raise ValueError(f"{weights}: no weights of OpenPose's body network ({reason})") from None

    def find(photo: Image.Image) -> list[Pose]:
        candidate, subset = body(np.ascontiguousarray(np.asarray(photo)[..., ::-1]))
        rows = np.asarray(subset)[:, : len(JOINTS)].astype(int).reshape(-1, len(JOINTS))
        joints = np.concatenate([np.asarray(candidate, np.float64).reshape(-1, 4)[:, :3], np.full((1, 3), np.nan)])
        return [joints[row] for row in rows]  # -1, unseen, is the last row

    return find


def image_features(kind: str, weights: str | None, device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """A module that gives a feature vector or map for photos (B, 3, H, W) in [-1, 1]: "vgg19" or "dinov2".

    Raises:
        ValueError: weights are missing or do not fit.
    """
    if kind == "dinov2":
        model = _load("Dinov2Model", weights or "facebook/dinov2-base", device)
        return lambda images: model(_normalised(images)).pooler_output
    file = Path(weights) if weights else Path(torch.hub.get_dir()) / "checkpoints" / "vgg19-dcbb9e9d.pth"
    if not file.is_file():
        raise ValueError(f"{file}: no VGG-19 weights; fetch them with `scripts/download_weights.py vgg19`")
    from torchvision.models import vgg19  # noqa: PLC0415 - seconds to import

    network = vgg19(weights=None)
    load_state(network, read_state(file, "torchvision's VGG-19"), file, "torchvision's VGG-19")
    convolutions = network.features.to(device).eval()
    return lambda images: convolutions(_normalised(images))


def photo_batch(photos: Sequence[Image.Image], side: int = _SIDE) -> Tensor:
    """Photos as one batch (B, 3, side, side) in [-1, 1]."""
    squares = [np.asarray(photo.resize((side, side), Image.Resampling.BICUBIC), np.float32) for photo in photos]
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2) / 127.5 - 1


def _normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(row, device=images.device).view(3, 1, 1) for row in (_MEAN, _STD))
    return ((images + 1) / 2 - mean) / std


def _labeller(model: Any, ids: Tensor, device: str) -> LabelMaps:
    def label(photos: Sequence[Image.Image]) -> list[NDArray[np.uint8]]:
        with torch.inference_mode():
            logits = model(_normalised(photo_batch(photos).to(device))).logits.float()
        maps = []
        for row, photo in zip(logits, photos, strict=True):
            size = (photo.height, photo.width)
            full = torch.nn.functional.interpolate(row[None], size, mode="bilinear", align_corners=False)[0]
            maps.append(ids[full.argmax(0).cpu()].numpy())
        return maps

    return label


def _load(class_name: str, weights: str, device: str) -> Any:
    folder = Path(weights)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f"{weights}: no {class_name} weights there (no config.json)")
    transformers = _library("transformers", "pip install transformers")
    try:
        return getattr(transformers, class_name).from_pretrained(weights, **hub_options(weights)).to(device).eval()
    except Exception as error:  # the library raises many exception classes for a missing or invalid folder
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{weights}: no {class_name} weights there ({reason}); give a local folder or, with a network, a hub id"
        ) from None


def _library(name: str, remedy: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{name.partition('.')[0]} is needed for this ({error}): {remedy}") from None


def _require_files(*files: str | None) -> None:
    for file in files:
        if file is not None and not Path(file).is_file():
            raise ValueError(f"{file}: no such file")
