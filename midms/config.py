"""Read YAML configs, merge them, check every key and value, and build the objects that they name.

A node has a ``target`` (dotted name of a class in `TARGETS`) and ``params`` (its keyword arguments, nodes included).
`instantiate` builds a node. Files merge left to right, followed by ``key.path=value`` overrides. Where one of these
names another target, the node's earlier params are dropped. An unknown key is an error that names the nearest known
key. Values are checked against the annotations of their reader (`midms.schema`). A config is data: nothing is imported
before its target is found in `TARGETS`. Only those of OmegaConf's interpolations that name another key are resolved,
never the environment.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf

from midms.io.files import BrokenFileError, read_text
from midms.schema import ConfigError, accepted_classes, check_keywords, check_value, describe, find, nearest, shown
from midms.settings import RunSettings, TrainerSettings

#: Keys at the top of a training config.
SECTIONS = ("model", "data", "trainer", "run")
#: Classes that a config may build: dotted name -> kind. Each class is defined in the module of its dotted name.
TARGETS = {
    "midms.training.first_stage.FirstStageTraining": "stage",
    "midms.training.latent_diffusion.LatentDiffusionTraining": "stage",
    "midms.training.midms.MIDMsTraining": "stage",
    "midms.training.translation_gan.MatchingGANTraining": "stage",
    "midms.data.module.DataModule": "data module",
    "midms.data.celeba.CelebAEdges": "data set",
    "midms.data.churches.ChurchesSegmentation": "data set",
    "midms.data.deepfashion.DeepFashionKeypoints": "data set",
    "midms.data.folder.ImageFolder": "data set",
    "midms.data.photos.Photos": "data set",
    "midms.data.procedural.cache.ProceduralCache": "data set",
    "midms.data.procedural.dataset.ProceduralImages": "data set",
    "midms.data.procedural.dataset.ProceduralPairs": "data set",
    "midms.losses.perceptual.VGG19Features": "feature network",
}
#: Short names of targets in `midms.data` -> full names.
SHORT = {f"midms.data.{name.rpartition('.')[2]}": name for name, kind in TARGETS.items() if kind == "data set"}
#: Keys of Lightning's trainer that manual optimisation does not allow, and their replacements.
REPLACED = {
    "accumulate_grad_batches": "model.params.accumulation",
    "gradient_clip_val": "model.params.gradient_clip",
    "gradient_clip_algorithm": "model.params.gradient_clip",
    "max_epochs": "trainer.max_steps",
}
#: Bounds of a YAML file: bytes, characters, depth, and values after its aliases are written out.
MAX_BYTES, MAX_CHARACTERS, MAX_DEPTH, MAX_VALUES = 4_000_000, 1_000_000, 32, 20_000


def load_config(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> DictConfig:
    """Merge `files` left to right, then `overrides` ("trainer.max_steps=10"), and resolve interpolations.

    Raises:
        ConfigError: a file is missing or no mapping, an override is not `key=value` or names an unknown key, or an
            interpolation names no key, is circular or uses a resolver.
    """
    config: Any = OmegaConf.create()
    for file in files:
        config = _merged(config, read_yaml(file), f"--base: {file}")
    for override in sorted(overrides, key=_sets_parameters):
        changes = from_override(override)
        _require_path(config, override.partition("=")[0])
        config = _merged(config, changes, f"override {shown(override)}")
    _refuse_resolvers(OmegaConf.to_container(config, resolve=False), "")
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except Exception as error:  # OmegaConf's own classes, and RecursionError for a circle
        circle = isinstance(error, RecursionError)
        reason = "its interpolations go round in a circle" if circle else " ".join(str(error).split())
        raise ConfigError(f"config: {reason}") from None
    resolved = OmegaConf.create(plain)
    assert isinstance(resolved, DictConfig)
    return resolved


def read_yaml(file: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, no YAML, no mapping, or larger or deeper than a config may be.
    """
    try:
        text = read_text(file, "YAML", MAX_BYTES, allow_empty=True)
    except BrokenFileError as error:
        raise ConfigError(f"--base: {error}") from None
    try:
        _bound(text)
        node: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False) if text.strip() else {}
    except Exception as error:  # the YAML reader's own classes
        raise ConfigError(f"--base: {file} is not valid YAML ({' '.join(str(error).split())[:300]})") from None
    if not isinstance(node, dict):
        raise ConfigError(f"--base: {file} holds a {type(node).__name__}, expected a mapping")
    return node


def _bound(text: str) -> None:
    """Refuse YAML that is too large or too deep before anything is built. Aliases count as the values they repeat."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{len(text)} characters, expected at most {MAX_CHARACTERS}")
    sizes: list[int] = []  # values in each open collection
    names: list[str | None] = []
    known: dict[str, int] = {}
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        closed, anchor = 0, getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            sizes.append(1)
            names.append(anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            closed, anchor = sizes.pop(), names.pop()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in known:
                raise ValueError(f"alias {event.anchor!r} refers to itself or to nothing")
            closed, anchor = known[event.anchor], None
        elif isinstance(event, yaml.ScalarEvent):
            closed = 1
        if closed and anchor is not None:
            known[anchor] = closed
        if sizes:
            sizes[-1] += closed
        if len(sizes) > MAX_DEPTH or sum(sizes) > MAX_VALUES:
            raise ValueError(f"deeper than {MAX_DEPTH} levels or more than {MAX_VALUES} values")


def _sets_parameters(override: str) -> bool:
    """Sort key of overrides: targets come first, because they drop the params of another target."""
    return not override.partition("=")[0].endswith(".target")


def _merged(config: Any, node: Any, source: str) -> Any:
    plain = OmegaConf.to_container(config, resolve=False)
    _drop_params_of_other_targets(plain, node)
    try:
        return OmegaConf.merge(OmegaConf.create(plain), node)
    except Exception as error:  # OmegaConf's own classes
        raise ConfigError(f"{source}: {' '.join(str(error).split())[:300]}") from None


def _drop_params_of_other_targets(config: Any, changes: Any) -> None:
    """Delete the params of the config's nodes for which `changes` names another target: those belong to the old one."""
    if not (isinstance(config, dict) and isinstance(changes, dict)):
        return
    for key in config.keys() & changes.keys():
        _drop_params_of_other_targets(config[key], changes[key])
    if "target" in config and "target" in changes and _full(config["target"]) != _full(changes["target"]):
        config.pop("params", None)


def from_override(override: str) -> Any:
    """The nested mapping that "key.path=value" stands for; the value is read as YAML.

    Raises:
        ConfigError: no such form, or a value that YAML cannot read or that is too large.
    """
    if "=" not in override:
        raise ConfigError(f"override {shown(override)}: expected key.path=value")
    try:
        _bound(override.partition("=")[2])
        return OmegaConf.to_container(OmegaConf.from_dotlist([override]), resolve=False)
    except Exception as error:  # the YAML reader's and OmegaConf's own classes
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"override {shown(override)}: expected key.path=value ({reason})") from None


#: An interpolation that names another key, by an absolute or relative path.
_KEY = re.compile(r"\$\{[\w.\[\]\-]*\}")


def _refuse_resolvers(node: Any, path: str) -> None:
    """Refuse interpolations that do not name a key, such as OmegaConf's resolvers for the environment or decoding."""
    if isinstance(node, dict):
        for key, value in node.items():
            _refuse_resolvers(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            _refuse_resolvers(value, f"{path}[{index}]")
    elif isinstance(node, str):
        text, found = node, 1
        while found:
            text, found = _KEY.subn("x", text)
        if "${" in text:
            raise ConfigError(
                f"{path}: got {shown(node)}, expected a value or the name of another key, as in ${{run.seed}}; "
                "the environment is not read"
            )


def check(config: DictConfig) -> None:
    """Check every key and value of a training config against the annotations of its reader.

    Raises:
        ConfigError: a section is missing, a key is unknown (the message names the nearest known key), or a value
            has the wrong type or is out of range.
    """
    whole = resolve(config)
    for section in ("model", "data", "trainer"):
        if section not in whole:
            raise ConfigError(f"config: section {section!r} is missing (expected {', '.join(SECTIONS)})")
    _only_known(whole, SECTIONS, "config")
    check_keywords(RunSettings, whole.get("run") or {}, "run")
    for key in whole["trainer"] if isinstance(whole["trainer"], dict) else ():
        if key in REPLACED:
            raise ConfigError(f"trainer.{key}: has no effect on these stages; set {REPLACED[key]}")
    check_keywords(TrainerSettings, whole["trainer"], "trainer")
    check_node(whole["model"], "model", "stage")
    check_node(whole["data"], "data", "data module")


def check_node(node: Any, path: str, kind: str | None = None) -> None:
    """Check the `params` of a node, and of all nodes below it, against the signatures of their targets.

    Args:
        node: a mapping or list. Without a `target`, nodes are searched for inside it.
        path: of the node in its config, for messages.
        kind: required kind of the node's target, as in `TARGETS`. None: any kind.
    Raises:
        ConfigError: as `check`.
    """
    node = _plain(node)
    if isinstance(node, list):
        for index, item in enumerate(node):
            check_node(item, f"{path}[{index}]")
    if kind is not None and not (isinstance(node, dict) and "target" in node):
        raise ConfigError(f"{path}: got {shown(node)}, expected a node with the target of a {kind}")
    if not isinstance(node, dict):
        return
    if "target" not in node:
        for key, value in node.items():
            check_node(value, f"{path}.{key!s}")
        return
    _only_known(node, ("target", "params"), path)
    found = locate(node["target"], path)
    if kind is not None and TARGETS[_full(node["target"])] != kind:
        raise ConfigError(f"{path}: target {node['target']!r} is a {TARGETS[_full(node['target'])]}, expected a {kind}")
    params = node.get("params")
    check_keywords(found, {} if params is None else params, f"{path}.params", _check_parameter)


def _check_parameter(annotation: Any, value: Any, path: str) -> None:
    """Check one parameter: a node if its annotation is a class that only a node can build, else a value."""
    classes = accepted_classes(annotation)
    if not isinstance(value, dict) or "target" not in value:
        check_value(annotation, value, path)
        return
    check_node(value, path)
    found = locate(value["target"], path)
    if not (classes and inspect.isclass(found) and issubclass(found, classes)):
        raise ConfigError(f"{path}: target {value['target']!r} does not belong here, expected {describe(annotation)}")


def instantiate(node: Any, **extra: Any) -> Any:
    """Build nested nodes, then call the node's target with its params. Any other value becomes plain Python.

    Raises:
        ConfigError: the target does not exist or refuses its arguments.
        OSError: a file named in the arguments is missing or cannot be read.
    """
    if isinstance(node, DictConfig | dict):
        if "target" not in node:
            return {key: instantiate(value) for key, value in node.items()}
        target = locate(node["target"], "target")
        params = {key: instantiate(value) for key, value in (node.get("params") or {}).items()}
        try:
            return target(**params, **extra)
        except OSError:
            raise
        except Exception as error:  # networks of impossible sizes fail in any way
            named = "" if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: "
            raise ConfigError(f"{node['target']}: {named}{' '.join(str(error).split())[:500]}") from error
    if isinstance(node, ListConfig | list | tuple):
        return [instantiate(item) for item in node]
    return node


def locate(name: Any, path: str = "target") -> Callable[..., Any]:
    """The class with a dotted name of `TARGETS`. For other names nothing is imported.

    Raises:
        ConfigError: the name is not in `TARGETS`.
    """
    full = _full(name)
    if not str(name).startswith("midms."):
        raise ConfigError(f"{path}: target {shown(name)} is not a name inside midms")
    if full not in TARGETS:
        raise ConfigError(f"{path}: no such target {shown(name)}; {nearest(full, TARGETS)}")
    return find(full)


def _full(name: Any) -> str:
    return SHORT.get(str(name), str(name))


def to_yaml(config: DictConfig) -> str:
    """The resolved config as YAML text, which is saved in the folder of a run."""
    return OmegaConf.to_yaml(config, resolve=True)


def resolve(config: DictConfig | ListConfig) -> dict[str, Any]:
    """The config as plain Python, with interpolations resolved.

    Raises:
        ConfigError: an interpolation names no key, or a value is missing ("???").
    """
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except Exception as error:  # OmegaConf's own classes, and RecursionError for a circle
        raise ConfigError(f"config: {' '.join(str(error).split())[:300]}") from None
    return plain


def _plain(node: Any) -> Any:
    return resolve(node) if isinstance(node, DictConfig | ListConfig) else node


def _only_known(node: Mapping[Any, Any], known: Sequence[str], path: str) -> None:
    for key in map(str, node):
        if key not in known:
            raise ConfigError(f"unknown key {path}.{key}; {nearest(key, known)}")


def _require_path(config: Any, key: str) -> None:
    """Require that an override sets an existing key of the config, or a parameter of a node's target."""
    node, walked = config, ""
    for step in key.split("."):
        known = [str(name) for name in node] if isinstance(node, DictConfig) else []
        if isinstance(node, DictConfig) and not walked:
            known = list(dict.fromkeys([*known, *SECTIONS]))
        if walked in ("run", "trainer") or walked.endswith("params") or isinstance(node, ListConfig):
            return  # `check` compares such keys with their reader
        if step not in known:
            raise ConfigError(f"unknown key {key}; {nearest(step, known)}")
        node = node.get(step, DictConfig({})) if isinstance(node, DictConfig) else node
        walked = f"{walked}.{step}" if walked else step
