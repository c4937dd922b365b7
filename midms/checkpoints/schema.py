"""Checks of `config.json` in a folder of weights.

A folder can come from a stranger. So each value is checked against its declaration (`midms.schema`), and no network is
built that is larger than its file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, TypedDict, TypeVar

from annotated_types import Interval, Predicate
from pydantic import BaseModel, ValidationError

from midms.checkpoints.errors import CheckpointError, as_checkpoint_error
from midms.diffusion.schedule import linear_schedule
from midms.diffusion.settings import InterleaveSettings
from midms.models.denoiser import DEFAULTS as DENOISER_DEFAULTS
from midms.models.denoiser import DenoiserConfig
from midms.models.encoders import CorrespondenceEncoders
from midms.models.first_stage import DEFAULTS as FIRST_STAGE_DEFAULTS
from midms.models.first_stage import FirstStageConfig
from midms.models.translation_gan import DEFAULTS as GENERATOR_DEFAULTS
from midms.models.translation_gan import GANSettings, GeneratorConfig
from midms.schema import Natural, Positive, Text, check_keywords, check_value, shown

FORMAT, VERSION = "midms", 1


def _is_digest(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", text) is not None


class Document(TypedDict):
    """All of `config.json`."""

    format: Literal["midms"]
    version: Literal[1]
    info: dict[str, Any]
    components: dict[str, Any]


class ComponentEntry(TypedDict):
    """One network: its file and the config for building the network."""

    file: Text
    bytes: Natural
    sha256: Annotated[str, Predicate(_is_digest)]
    config: dict[str, Any]


#: Facts of `info` that a program computes with. Any other fact is kept unchecked.
INFO: dict[str, Any] = {"task": Text | None, "size": Annotated[int, Interval(ge=8, le=4096)] | None,
                        "temperature": Positive}  # fmt: skip
READERS: dict[str, Any] = {
    "first_stage": FirstStageConfig,
    "denoiser": DenoiserConfig,
    "refiner": DenoiserConfig,
    "encoders": CorrespondenceEncoders,
    "generator": GeneratorConfig,
}
#: Kind of weights -> class of its settings.
SETTINGS: dict[str, Any] = {"midms": InterleaveSettings, "matching_gan": GANSettings}


def check_document(document: Any, source: object) -> None:
    """Check the content of a `config.json`.

    Raises:
        CheckpointError: a key, type or range that does not fit. The message names the key.
    """
    try:
        check_keywords(Document, document, "config")
        for name, entry in document["components"].items():
            if re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,63}", name) is None:
                raise ValueError(f"component name {shown(name)}: expected letters, digits and underscores")
            path = f"components.{name}"
            check_keywords(ComponentEntry, entry, path)
            if name in READERS:
                check_keywords(READERS[name], entry["config"], f"{path}.config")
                _check_size(name, entry, path)
        _check_info(document["info"])
    except RecursionError:
        raise CheckpointError(source, "nested too deeply") from None
    except ValueError as error:
        raise CheckpointError(source, str(error)) from None


def _check_info(info: Mapping[str, Any]) -> None:
    for key, annotation in INFO.items():
        if key in info:
            check_value(annotation, info[key], f"info.{key}")
    kind = info.get("kind", "midms")
    if not isinstance(kind, str) or kind not in SETTINGS:
        raise ValueError(f"info.kind: got {shown(kind)}, expected one of {', '.join(SETTINGS)}")
    for key, reader in (("schedule", linear_schedule), ("settings", SETTINGS[kind])):
        if info.get(key):
            check_keywords(reader, info[key], f"info.{key}")
            reader(**info[key])  # conditions on several values together


def _check_size(name: str, entry: Mapping[str, Any], path: str) -> None:
    least: Callable[[Mapping[str, Any]], int] = {
        "first_stage": _least_of_first_stage,
        "encoders": _least_of_encoders,
        "generator": _least_of_generator,
    }.get(name, _least_of_denoiser)
    if least(entry["config"]) > entry["bytes"]:
        raise ValueError(f"{path}: its config describes a larger network than {entry['bytes']:,} bytes can hold")


def _least_of_first_stage(config: Mapping[str, Any]) -> int:
    """A lower bound of the parameters: the second convolution of the encoder's residual blocks, and the codes."""
    full = FIRST_STAGE_DEFAULTS | dict(config)
    codes = full["n_embed"] * (full["embed_dim"] or full["z_channels"]) if full["kind"] == "vq" else 0
    return int(codes + sum(9 * full["num_res_blocks"] * (full["ch"] * multiple) ** 2 for multiple in full["ch_mult"]))


def _least_of_denoiser(config: Mapping[str, Any]) -> int:
    """A lower bound of the parameters: the second convolution of each residual block of the contracting path."""
    full = DENOISER_DEFAULTS | dict(config)
    widths = [full["model_channels"] * multiple for multiple in full["channel_mult"]]
    return sum(9 * full["num_res_blocks"] * width**2 for width in widths)


def _least_of_encoders(config: Mapping[str, Any]) -> int:
    """A lower bound of the parameters: an encoder's convolutions, its SPADE block's hidden layer, the matching head."""
    factor = config.get("factor", 4) ** 2 if config.get("condition_input") == "unshuffle" else 1
    channels = [config["condition_channels"] * factor, *config.get("widths", (64, 256, 512))]
    stages = sum(9 * before * after for before, after in pairwise(channels))
    return int(stages + 9 * config.get("hidden", 128) * channels[-1] + 72 * config.get("out_channels", 256) ** 2)


def _least_of_generator(config: Mapping[str, Any]) -> int:
    """A lower bound of the parameters: a convolution from each width to the next."""
    full = GENERATOR_DEFAULTS | dict(config)
    return sum(9 * before * after for before, after in pairwise(full["widths"]))


Validated = TypeVar("Validated", bound=BaseModel)


def validate(model: type[Validated], content: Any, source: object, path: str = "") -> Validated:
    """Foreign settings as an instance of `model`.

    Raises:
        CheckpointError: a setting does not fit. The message names the first such setting.
    """
    with as_checkpoint_error(source, "its settings"):
        try:
            return model.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join([path, *map(str, first["loc"])] if path else map(str, first["loc"]))
            got = "" if first["type"] == "missing" else f", got {shown(first['input'])}"
            raise CheckpointError(source, f"{key}: {first['msg']}{got}") from None
