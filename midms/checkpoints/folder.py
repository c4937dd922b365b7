"""Our format: a folder with `config.json`, one safetensors file per component, and a model card.

    my-model/
      config.json            format, version, info, and per component: config, file, bytes, sha256
      encoders.safetensors   CorrespondenceEncoders
      denoiser.safetensors   Denoiser.unet (fine-tuned U-Net)
      refiner.safetensors    Denoiser.unet (before fine-tuning), optional
      first_stage.safetensors FirstStage.model
      README.md              model card

A folder may hold fewer components: a converted latent diffusion model has no encoders. Each file is the state dict
of its module, and each config the keyword arguments (or config dict) the module is built from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from midms.checkpoints.errors import CheckpointError
from midms.checkpoints.reading import check_finite
from midms.checkpoints.schema import FORMAT, VERSION, check_document
from midms.io.files import BrokenFileError, atomic_folder, atomic_write, read_json, sha256_of, sha256_of_unchanged
from midms.io.hub import hub_options, reachable

CONFIG_FILE, CARD_FILE = "config.json", "README.md"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class LoadedFolder(NamedTuple):
    """Content of a folder."""

    states: dict[str, dict[str, Tensor]]  # state dict per component
    configs: dict[str, dict[str, Any]]  # config per component
    info: dict[str, Any]  # facts that the writer stored: origin, licence, schedule, settings, ...
    path: Path


def save_states(
    path: str | Path,
    states: Mapping[str, Mapping[str, Tensor]],
    configs: Mapping[str, Mapping[str, Any]],
    info: Mapping[str, Any],
) -> Path:
    """Write state dicts in our format atomically: the folder gets its name when it is complete.

    Args:
        path: the folder.
        states: component name -> state dict. Tensors are written contiguous, in their dtype.
        configs: component name -> JSON-serialisable config, for the names in `states`.
        info: JSON-serialisable facts about the whole.

    Returns:
        The folder.

    Raises:
        CheckpointError: a name is no identifier, or `path` exists and is no folder in our format.
        ValueError: names of `states` and `configs` differ.
    """
    target = Path(path)
    if set(states) != set(configs):
        raise ValueError(f"components {sorted(states)} and configs {sorted(configs)} differ; give one config each")
    components: dict[str, Any] = {}
    with atomic_folder(target, is_ours) as folder:
        for name, state in states.items():
            if not _NAME.fullmatch(name):
                raise CheckpointError(target, f"component name {name!r} must be letters, digits and underscores")
            file = folder / f"{name}.safetensors"
            with atomic_write(file) as temporary:  # sets the file mode, which safetensors makes 0600
                _save_tensors(state, temporary, target)
            size, digest = file.stat().st_size, sha256_of(file)
            components[name] = {"file": file.name, "bytes": size, "sha256": digest, "config": dict(configs[name])}
        document = {"format": FORMAT, "version": VERSION, "info": dict(info), "components": components}
        (folder / CONFIG_FILE).write_text(json.dumps(document, indent=2) + "\n")
        (folder / CARD_FILE).write_text(model_card(target.name, document))
    return target


def _save_tensors(state: Mapping[str, Tensor], file: Path, target: Path) -> None:
    try:
        save_file({key: value.detach().contiguous() for key, value in state.items()}, file, {"format": "pt"})
    except SafetensorError as error:  # raised by safetensors on a full or read-only disk
        raise CheckpointError(target, f"cannot be written ({error})") from None


def save_folder(
    path: str | Path,
    components: Mapping[str, nn.Module],
    configs: Mapping[str, Mapping[str, Any]],
    info: Mapping[str, Any],
) -> Path:
    """`save_states` for modules."""
    return save_states(path, {name: module.state_dict() for name, module in components.items()}, configs, info)


def load_folder(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    verify: bool = True,
) -> LoadedFolder:
    """Read a folder in our format. On the CPU, files stay memory-mapped until a tensor is used.

    Load a state with `module.load_state_dict(state, assign=True)` to keep the mapping.

    Args:
        path: the folder.
        device: of the tensors.
        dtype: of all floating-point tensors. None: as stored.
        verify: compare every file's SHA-256 (a second per gigabyte, once per process). File sizes are always compared.

    Raises:
        CheckpointError: a part is missing, damaged, or differs from config.json.
    """
    folder = Path(path)
    document = read_document(folder)
    states: dict[str, dict[str, Tensor]] = {}
    configs: dict[str, dict[str, Any]] = {}
    for name, entry in document["components"].items():
        file = _component_file(folder, name, entry, verify)
        try:
            state = load_file(file, device=str(device))
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(file, f"not a readable safetensors file ({error})") from error
        for key, value in state.items():
            check_finite(value, file, key)
        states[name] = {key: cast_floats(value, dtype) for key, value in state.items()}
        configs[name] = entry["config"]
    return LoadedFolder(states, configs, document["info"], folder)


def is_ours(folder: Path) -> bool:
    """Whether a folder is in our format and holds nothing else, so that it may be replaced."""
    try:
        document = read_document(folder)
    except CheckpointError:
        return False
    written = {CONFIG_FILE, CARD_FILE, *(f"{name}.safetensors" for name in document["components"])}
    return all(path.name in written and path.is_file() and not path.is_symlink() for path in folder.iterdir())


def read_document(folder: Path) -> dict[str, Any]:
    """`config.json` of a folder, checked by `check_document`."""
    file = folder / CONFIG_FILE
    if not file.exists():
        raise CheckpointError(folder, f"no {CONFIG_FILE} there, so this is not a folder of weights of midms")
    try:
        document = read_json(file)
    except BrokenFileError as error:
        raise CheckpointError(file, error.reason) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointError(file, f"no entry 'format': '{FORMAT}', so this is not a folder of weights of midms")
    if document.get("version") != VERSION:
        raise CheckpointError(file, f"version {document.get('version')!r}, this program reads version {VERSION}")
    check_document(document, file)
    return document


def _component_file(folder: Path, name: str, entry: Mapping[str, Any], verify: bool) -> Path:
    """The checked weights file of a component, which must be in the folder itself."""
    if entry["file"] != f"{name}.safetensors":
        raise CheckpointError(folder / CONFIG_FILE, f"component {name!r} names the file {entry['file']!r}")
    file = folder / f"{name}.safetensors"
    if not file.is_file():
        raise CheckpointError(file, "missing, or not a regular file")
    if file.stat().st_size != entry["bytes"]:
        raise CheckpointError(
            file, f"{file.stat().st_size} bytes, expected {entry['bytes']}; the copy is incomplete or was changed"
        )
    if verify and sha256_of_unchanged(file) != entry["sha256"]:
        raise CheckpointError(file, "SHA-256 differs from config.json; the file was changed")
    return file


def cast_floats(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor of any shape in `dtype` if it holds floating-point numbers, else as it is. None: as stored."""
    return value.to(dtype) if dtype is not None and value.is_floating_point() else value


#: Kind of weights -> the method, for their model card.
METHODS = {
    "midms": "matching interleaved\ndiffusion models (MIDMs, AAAI 2023)",
    "matching_gan": "one match and then a\nGAN, the baseline that MIDMs (AAAI 2023) is compared with",
}


def model_card(name: str, document: Mapping[str, Any]) -> str:
    """Model card of a folder in the hub's form: front matter, then contents and origin."""
    info = document["info"]
    rows = [
        f"| `{entry['file']}` | {entry['bytes']:,} | `{entry['sha256']}` |" for entry in document["components"].values()
    ]
    facts = [f"- **{key}**: {json.dumps(value)}" for key, value in info.items()] or ["- none noted"]
    front = ["---", "library_name: midms", "pipeline_tag: image-to-image", "tags: [exemplar-based-translation]"]
    front += [f"license: {info['licence']}"] if "licence" in info else []
    method = METHODS[info.get("kind", "midms")]
    lines = [*front, "---", "", f"# {name}", "", f"Weights for exemplar-based image translation by {method},"]
    lines += ["readable by `MIDMsPipeline.from_pretrained` of the `midms` package.", ""]
    lines += [
        "## What it was made from",
        "",
        *facts,
        "",
        "## Files",
        "",
        "| file | bytes | SHA-256 |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*lines, *rows]) + "\n"


def find_folder(name_or_path: str | Path, revision: str | None = None) -> Path:
    """A folder on this disk, or the local copy of a model repository on the Hugging Face hub.

    Raises:
        CheckpointError: there is no such folder on this disk, and none can be loaded from the hub.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name_or_path)):
        raise CheckpointError(name_or_path, "no such folder, and no name of the form owner/model on the hub")

    try:
        return Path(
            huggingface_hub.snapshot_download(
                str(name_or_path),
                revision=revision,
                allow_patterns=["*.json", "*.safetensors"],
                **hub_options(name_or_path),
            )
        )
    except Exception as error:  # the hub's client raises many classes when a repository is unavailable
        reason = " ".join(str(error).split())[:200] if reachable() else "no network, and no copy of it here"
        raise CheckpointError(name_or_path, f"no such folder, and not available from the hub ({reason})") from error


def push_folder(path: str | Path, repository: str, private: bool = False, token: str | None = None) -> str:
    """Upload a folder to the Hugging Face hub as `repository` ("owner/model"). Returns the repository's address."""
    read_document(Path(path))
    api = huggingface_hub.HfApi(token=token)
    address = api.create_repo(repository, private=private, exist_ok=True)
    api.upload_folder(repo_id=repository, folder_path=str(path))
    return str(address)
