"""Inputs and results of an evaluation: folders, options, results."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from midms.evaluation.folders import ImageFolder, NotApplicableError, list_images
from midms.evaluation.rows import RowStore, fill
from midms.io.files import sha256_of
from midms.losses.perceptual import VGG19Features, vgg19_file
from midms.metrics.diversity import LPIPS, Backbone, lpips_file
from midms.metrics.edits import CLIP_NAME, DINO_NAME, read_prompts
from midms.metrics.fidelity import InceptionFeatures, Protocol, inception_file

_PACKAGES = ("midms", "torch", "torchvision", "torch-fidelity", "lpips", "numpy", "pillow", "scikit-image")


@dataclass(frozen=True)
class Folders:
    """Folders of images. Files are paired by name without extension.

    Attributes:
        generated: outputs of a method.
        reference: photographs of the conditions (for FID, KID and SWD any real set; for edits the source images).
        exemplars: each output's exemplar, by the output's name (for FID and KID any set).
        truth: true images, if known.
        labels: label maps of the conditions (one channel), the regions of the semantic consistency.
        masks: for edits, the object as non-zero pixels.
        prompts: for edits, a JSON file, name -> target prompt.
    """

    generated: Path | str
    reference: Path | str | None = None
    exemplars: Path | str | None = None
    truth: Path | str | None = None
    labels: Path | str | None = None
    masks: Path | str | None = None
    prompts: Path | str | None = None


@dataclass(frozen=True)
class Options:
    """Options of the measurement.

    Attributes:
        protocol: of FID and KID (midms.metrics.fidelity); "paper" also compresses every image as JPEG of quality 75,
            as is usual in the field.
        size: resize to size x size first.
        seeds: number of random draws over which SWD is averaged.
        fid_infinity: also extrapolate FID to infinitely many outputs (`fidelity.frechet_distance_at_infinity`).
        inception, vgg19, lpips: files with weights, by default those in torch's cache.
        cache: folder for features, to reuse them; None: a temporary folder (SWD stores 75 KB per image and level).
    """

    protocol: Protocol = "paper"
    size: int | None = None
    batch_size: int = 16
    seed: int = 0
    seeds: int = 1
    fid_infinity: bool = False
    device: str = "cpu"
    inception: Path | None = None
    vgg19: Path | None = None
    vgg19_weights: Literal["caffe", "torchvision"] = "caffe"
    lpips: Path | None = None
    lpips_backbone: Backbone = "alex"
    clip: Path | str = CLIP_NAME
    dino: Path | str = DINO_NAME
    style_cosine: str = "channel-mean"
    cache: Path | None = None
    progress: bool = False


@dataclass
class Result:
    """One metric: numbers, their errors, and the record of the measurement."""

    metric: str
    status: Literal["ok", "skipped"] = "ok"
    reason: str = ""
    values: dict[str, float] = field(default_factory=dict)
    standard_errors: dict[str, float] = field(default_factory=dict)
    protocol: str = ""
    images: dict[str, int] = field(default_factory=dict)
    image_format: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # files in the folders that are not images
    network: dict[str, str] = field(default_factory=dict)
    per_image: dict[str, list[float]] = field(default_factory=dict)

    def as_dict(self, per_image: bool = False) -> dict[str, Any]:
        """Plain data for JSON; by default without the numbers of single images."""
        record = {key: value for key, value in asdict(self).items() if value or key in ("metric", "status")}
        if not per_image:
            record.pop("per_image", None)
        return record


def library_versions() -> dict[str, str]:
    """Versions of libraries that can affect the numbers."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return versions


def _by_name(folder: Path | str) -> dict[str, Path]:
    return {file.name: file.path for file in list_images(folder)[0]}


@contextmanager
def _name_file_in_errors(file: Path, network: str) -> Iterator[None]:
    """Add the file's name to errors from a damaged file or the file of another network."""
    try:
        yield
    except (UnpicklingError, EOFError, LookupError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{file}: not the weights of {network}; give the right file ({reason})") from error


class Evaluation:
    """The folders, opened once, and the networks, loaded when a metric first needs them.

    Raises:
        ValueError: a folder is bad; the message names it, and the file.
    """

    def __init__(self, folders: Folders, options: Options, cache: Path) -> None:
        self.options, self.cache = options, cache
        jpeg = options.protocol == "paper"
        paths = {"generated": folders.generated, "reference": folders.reference}
        paths |= {"exemplars": folders.exemplars, "truth": folders.truth}
        self.images = {role: ImageFolder(path, options.size, jpeg) for role, path in paths.items() if path is not None}
        self.set_folders({})
        self.labels = _by_name(folders.labels) if folders.labels is not None else None
        self.masks = _by_name(folders.masks) if folders.masks is not None else None
        self.prompts = read_prompts(Path(folders.prompts)) if folders.prompts else None

    def set_folders(self, changed: Mapping[str, ImageFolder]) -> None:
        """Take other folders for some roles, such as the outputs of another method; the networks stay loaded."""
        self.images = self.images | dict(changed)
        self.exact = {role: folder.uncompressed() for role, folder in self.images.items()}

    def folder(self, role: str, exact: bool = False) -> ImageFolder:
        """A folder; `exact`: the unchanged files, else with the protocol's compression."""
        folders = self.exact if exact else self.images
        if role not in folders:
            raise NotApplicableError(f"needs --{role} DIR")
        return folders[role]

    def store(self, key: str, count: int, width: int) -> RowStore:
        """Store on disk for `count` rows of `width` numbers, under a key that identifies them."""
        return RowStore(self.cache, key, count, width)

    def rows(
        self, key: str, dataset: Any, width: int, function: Callable[[Any, list[int]], Tensor], label: str
    ) -> np.ndarray:
        """One row of `width` numbers per sample of `dataset`, (N, width)."""
        store = self.store(f"{key}\n{dataset.fingerprint()}", len(dataset), width)
        fill([store], dataset, lambda b, i: [function(b, i)], self.options.batch_size, label, self.options.progress)
        return store.read()

    @cached_property
    def inception(self) -> tuple[InceptionFeatures, dict[str, str]]:
        """Network of FID and KID, and its entry in the record."""
        file = inception_file(self.options.inception)
        with _name_file_in_errors(file, "Inception-2015"):
            network = InceptionFeatures(file, self.options.protocol).to(self.options.device)
        return network, {"name": "Inception-2015 (FID)", "file": str(file), "sha256": sha256_of(file)}

    @cached_property
    def vgg19(self) -> tuple[VGG19Features, dict[str, str]]:
        """Network of the style and semantic scores, and its entry in the record."""
        kind = self.options.vgg19_weights
        file = vgg19_file(kind, self.options.vgg19)
        with _name_file_in_errors(file, f"VGG-19 ({kind})"):
            network = VGG19Features(kind, file).to(self.options.device).eval()
        return network, {"name": f"VGG-19 ({kind})", "file": str(file), "sha256": sha256_of(file)}

    @cached_property
    def lpips(self) -> tuple[nn.Module, dict[str, str]]:
        """Network of LPIPS, and its entry in the record."""
        file = lpips_file(self.options.lpips_backbone, self.options.lpips)
        with _name_file_in_errors(file, f"LPIPS's backbone ({self.options.lpips_backbone})"):
            network = LPIPS(self.options.lpips_backbone, file).to(self.options.device)
        name = f"LPIPS 0.1 ({self.options.lpips_backbone})"
        return network, {"name": name, "file": str(file), "sha256": sha256_of(file)}
