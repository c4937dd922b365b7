"""Read YAML configs, merge them, check every key, build what they name.

A node with a ``target`` (dotted name of a class or function) and ``params`` (its keyword arguments, nodes again)
is built by `instantiate`. Files merge left to right, then ``key.path=value`` overrides. A key that nothing reads
is an error which names the nearest right one.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

#: Keys at the top of a training config, and those of its `run` block.
SECTIONS = ("model", "data", "trainer", "run")
RUN_KEYS = (
    "name", "root", "seed", "checkpoint_every", "keep", "picture_every", "log_every", "max_bad_losses", "wandb",
    "export",
)  # fmt: skip


#: Keys of Lightning's trainer that its manual optimisation refuses, and what to set instead.
REPLACED = {
    "accumulate_grad_batches": "model.params.accumulation",
    "gradient_clip_val": "model.params.gradient_clip",
    "gradient_clip_algorithm": "model.params.gradient_clip",
    "max_epochs": "trainer.max_steps",
}


class ConfigError(ValueError):
    """A config that cannot be run, told in one line."""


def load_config(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> DictConfig:
    """Merge `files` left to right, then `overrides` ("trainer.max_steps=10").

    Raises:
        ConfigError: a file is missing or no mapping, or an override is not `key=value` or names an unknown key.
    """
    config: Any = OmegaConf.create()
    for file in files:
        try:
            node = OmegaConf.load(file)
        except FileNotFoundError:
            raise ConfigError(f"--base: no file {file}") from None
        except Exception as error:  # the YAML reader's own classes; one line of it tells the place
            raise ConfigError(f"--base: {file} is not valid YAML ({' '.join(str(error).split())})") from None
        if not isinstance(node, DictConfig):
            raise ConfigError(f"--base: {file} holds a {type(node).__name__}, expected a mapping")
        config = OmegaConf.merge(config, node)
    for override in overrides:
        key, sign, _ = override.partition("=")
        if not sign:
            raise ConfigError(f"override {override!r}: expected key.path=value")
        _require_path(config, key)
        config = OmegaConf.merge(config, OmegaConf.from_dotlist([override]))
    assert isinstance(config, DictConfig)
    return config


def check(config: DictConfig) -> None:
    """Check every key of a training config against what reads it.

    Raises:
        ConfigError: a section is missing, or a key has no reader; the message names the nearest right key.
    """
    for section in ("model", "data", "trainer"):
        if section not in config:
            raise ConfigError(f"config: section {section!r} is missing (expected {', '.join(SECTIONS)})")
    _only_known(config, SECTIONS, "config")
    _only_known(config.get("run", {}), RUN_KEYS, "run")
    from pytorch_lightning import Trainer  # noqa: PLC0415 - seconds to import

    _only_known(config.trainer, list(inspect.signature(Trainer).parameters), "trainer")
    for key in config.trainer:
        if key in REPLACED:
            raise ConfigError(f"trainer.{key}: has no effect on these stages; set {REPLACED[key]}")
    check_node(config.model, "model")
    check_node(config.data, "data")


def check_node(node: Any, path: str) -> None:
    """Check the `params` of a node, and of all nodes below it, against the signatures of their targets."""
    if isinstance(node, ListConfig | list):
        for index, item in enumerate(node):
            check_node(item, f"{path}[{index}]")
    if not isinstance(node, DictConfig | dict):
        return
    if "target" not in node:
        for key, value in node.items():
            check_node(value, f"{path}.{key!s}")
        return
    _only_known(node, ("target", "params"), path)
    params = node.get("params") or {}
    signature = inspect.signature(locate(node["target"], path))
    if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        _only_known(params, [name for name in signature.parameters if name != "self"], f"{path}.params")
    for key, value in params.items():
        check_node(value, f"{path}.params.{key}")


def instantiate(node: Any, **extra: Any) -> Any:
    """Build a node: its target called with its params, nested nodes first; anything else becomes plain Python.

    Raises:
        ConfigError: the target does not exist or refuses its arguments.
    """
    if isinstance(node, DictConfig | dict):
        if "target" not in node:
            return {key: instantiate(value) for key, value in node.items()}
        target = locate(node["target"], "target")
        params = {key: instantiate(value) for key, value in (node.get("params") or {}).items()}
        try:
            return target(**params, **extra)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{node['target']}: {error}") from error
    if isinstance(node, ListConfig | list | tuple):
        return [instantiate(item) for item in node]
    return node


def locate(name: str, path: str = "target") -> Callable[..., Any]:
    """The class or function with a dotted name; only names inside `midms` are taken from a config."""
    module_name, _, attribute = str(name).rpartition(".")
    if not module_name.startswith("midms"):
        raise ConfigError(f"{path}: target {name!r} is not a name inside midms")
    try:
        target = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{path}: no such target {name!r} ({error})") from None
    return target


def to_yaml(config: DictConfig) -> str:
    """The resolved config as text, as it is saved beside a run."""
    return OmegaConf.to_yaml(config, resolve=True)


def resolve(config: DictConfig) -> dict[str, Any]:
    """The config as plain Python, with interpolations resolved."""
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"config: {' '.join(str(error).split())}") from None
    return plain


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word most like `word`, or lists them all."""
    known = sorted(known)
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {match[0]!r}?" if match else f"known: {', '.join(known)}"


def _only_known(node: Mapping[str, Any] | DictConfig, known: Sequence[str], path: str) -> None:
    for key in map(str, node):
        if key not in known:
            raise ConfigError(f"unknown key {path}.{key}; {nearest(key, known)}")


def _require_path(config: Any, key: str) -> None:
    """An override may set a key that the config has, or a parameter that its target takes."""
    node, walked = config, ""
    for step in key.split("."):
        known = [str(name) for name in node] if isinstance(node, DictConfig) else []
        if isinstance(node, DictConfig) and not walked:
            known += list(SECTIONS)
        if walked == "run":
            known += list(RUN_KEYS)
        if walked == "trainer" or walked.endswith("params") or isinstance(node, ListConfig):
            return  # `check` compares these with the signature of their reader
        if step not in known:
            raise ConfigError(f"unknown key {key}; {nearest(step, known)}")
        node = node.get(step, DictConfig({})) if isinstance(node, DictConfig) else node
        walked = f"{walked}.{step}" if walked else step
