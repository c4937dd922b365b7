"""All files that a config names and that are missing, found before anything is built, with what fetches them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from midms.checkpoints.loading import open_weights
from midms.config import ConfigError, locate, resolve
from midms.data.celeba import CelebAEdges
from midms.data.churches import FOLDERS, ChurchesSegmentation
from midms.data.deepfashion import DeepFashionKeypoints
from midms.data.verify import LAYOUTS
from midms.losses.perceptual import VGG19Features, vgg19_file

#: Keys of `model.params` that name a folder of weights.
_WEIGHTS = ("weights", "first_stage", "start_from", "encoders_from")
#: Data set -> (its layout in `LAYOUTS`, folder of the photos of each split).
_DATA: dict[Any, tuple[str, dict[str, str]]] = {
    CelebAEdges: ("celeba", {"train": "CelebA-HQ-img", "val": "CelebA-HQ-img"}),
    DeepFashionKeypoints: ("deepfashion", {"train": "img", "val": "img"}),
    ChurchesSegmentation: ("churches", FOLDERS),
}


class MissingFilesError(ConfigError):
    """Files of a config are missing.

    Attributes:
        lines: one for each, with the command or page that helps.
    """

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def require_files(config: DictConfig) -> None:
    """Require the weights, networks, folders and lists that a checked training config names.

    Raises:
        MissingFilesError: some are missing; the message names all of them.
    """
    plain = resolve(config)
    lines = list(dict.fromkeys([*_missing_weights(plain), *_missing_networks(plain["model"]), *_missing_data(plain)]))
    if lines:
        raise MissingFilesError(lines)


def _missing_weights(config: dict[str, Any]) -> Iterator[str]:
    params = config["model"].get("params") or {}
    for key in _WEIGHTS:
        if isinstance(params.get(key), str):
            try:
                open_weights(params[key])
            except ConfigError as error:
                help_of = "`python scripts/download_weights.py --list` and docs/weights.md say what is published"
                own = params[key].startswith("runs/")
                yield f"model.params.{key}: {error}; {'train it first (docs/training.md)' if own else help_of}"


def _missing_networks(node: Any) -> Iterator[str]:
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _missing_networks(item)
    if isinstance(node, dict) and "target" in node and locate(node["target"]) is VGG19Features:
        params = node.get("params") or {}
        weights = params.get("weights", "torchvision")
        if weights == "random":
            return
        try:
            vgg19_file(weights, params.get("path"))
        except FileNotFoundError as error:
            fetched = weights == "torchvision" and params.get("path") is None
            yield f"{error}{': python scripts/download_weights.py vgg19' if fetched else ''}"


def _missing_data(config: dict[str, Any]) -> Iterator[str]:
    """Folders and lists of the published data sets. Other data sets report their own."""
    nodes = (config["data"].get("params") or {}).values()
    for node in (node for node in nodes if isinstance(node, dict) and "target" in node):
        params = node.get("params") or {}
        found = _DATA.get(locate(node["target"]))
        if found is None or "root" not in params:
            continue
        (kind, folders), root, split = found, Path(params["root"]), params.get("split", "train")
        if not root.is_dir():
            yield f"{root}: no such folder; data/README.md says where {kind} comes from"
            continue
        photos = folders.get(split, folders["train"])
        if not (root / photos).is_dir():
            yield f"{root / photos}: no such folder of photos; data/README.md"
        for item in LAYOUTS[kind].lists:
            of_split = (split == "train") == (item.file == "train.txt" or (item.pairs and "_test" not in item.file))
            if not of_split or (root / item.file).is_file() or (item.pairs and _needs_no_pairs(params, split)):
                continue
            names = "" if kind == "churches" else f" --names {root / split}.txt"
            command = f"python scripts/prepare_data.py pairs {root / photos}{names} --out {root / item.file}"
            yield f"{root / item.file}: no such list; {command if item.pairs else 'one image a line, data/README.md'}"


def _needs_no_pairs(params: dict[str, Any], split: str) -> bool:
    """Whether a data set has a pair list of its own, or takes every photo as its own exemplar."""
    return params.get("pairs") is not None or (split == "train" and (params.get("exemplars") or {}).get("self") == 1)
