"""Read foreign weights files without running any code in them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from midms.checkpoints.errors import CheckpointError, summarise_keys
from midms.io import files
from midms.io.files import BrokenFileError, check_readable
from midms.io.weights import all_finite, check_stored, load_restricted

# Classes that real files hold beside their tensors. Each is replaced by an empty placeholder and never imported.
_PLACEHOLDERS = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean", "Path", "Bytes")),
    "typing.Any",
    "typing.Union",
    "builtins.dict",
    "builtins.list",
    "builtins.tuple",
    "builtins.int",
    "builtins.float",
    "builtins.str",
    "builtins.bool",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib.Path",
    "pathlib.PurePosixPath",
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
    "pathlib._local.Path",
    "datetime.datetime",
    "datetime.timedelta",
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.dtypes.Float64DType",
    "numpy.dtypes.Float32DType",
    "numpy.dtypes.Int64DType",
    "numpy.dtypes.BoolDType",
)


# Dictionary classes that torch's reader does not fill. Each is replaced by a plain dictionary.
_DICTIONARIES = (
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "collections.defaultdict",
)


class _PlainDictionary:
    """Replaces a dictionary class: a call returns an empty plain dictionary, whatever its arguments."""

    def __new__(cls, *arguments: Any) -> Any:
        return {}


class _Placeholder:
    """Replaces a class in a pickle: accepts any arguments and state, and stores nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


_SAFE: list[Any] = [
    *((_Placeholder, name) for name in _PLACEHOLDERS),
    *((_PlainDictionary, name) for name in _DICTIONARIES),
]


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """State dict of a `.ckpt`, `.pth`, `.pt`, `.bin` or `.safetensors` file, on the CPU, memory-mapped where possible.

    A pickled file is read by torch's restricted unpickler, which makes tensors and plain containers. Any other class or
    function is refused, except for a short list of harmless ones (`_PLACEHOLDERS`) that become empty objects. The
    result is the entry `state_dict` if there is one, else the file itself must be a mapping of names to tensors.

    Raises:
        CheckpointError: the file is missing, damaged, would run code, or holds no state dict.
    """
    file = Path(path)
    try:
        check_readable(file, "a weights file")
    except BrokenFileError as error:
        raise CheckpointError(file, error.reason) from None
    content = _read_safetensors(file) if is_safetensors(file) else _read_pickle(file)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise CheckpointError(file, f"holds a {type(content).__name__}, expected names with tensors")
    others = [str(key) for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others or not content:
        problem = f"these entries are no tensors: {summarise_keys(others)}" if others else "holds no tensors"
        raise CheckpointError(file, f"{problem}; expected a state dict")
    try:
        for key, value in content.items():
            check_stored(value, file, key)
    except BrokenFileError as error:
        raise CheckpointError(file, error.reason) from None
    return _plain_names(content, file)


def _plain_names(state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Names without the parts that wrappers add: `module.` (parallel training), `_orig_mod.` (compiled)."""
    names = {key: key.replace("_orig_mod.", "").replace("_orig_mod", "") for key in state}
    while all(name.startswith("module.") for name in names.values()):
        names = {key: name.removeprefix("module.") for key, name in names.items()}
    if len(set(names.values())) < len(names):
        raise CheckpointError(file, "holds weights twice, with and without `_orig_mod.` in their names")
    return {names[key]: value for key, value in state.items()}


def is_safetensors(file: Path) -> bool:
    """Whether a file is in the safetensors format, by its name or by the length and brace at its start."""
    if file.suffix == ".safetensors":
        return True
    with file.open("rb") as handle:
        start = handle.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(file, f"not a readable safetensors file ({error})") from error


def _read_pickle(file: Path) -> Any:
    mapped = zipfile.is_zipfile(file)  # files of torch < 1.6 are not zip archives and cannot be mapped
    try:
        return load_restricted(file, _SAFE, mapped)
    except BrokenFileError as error:
        raise CheckpointError(file, error.reason) from None


def check_finite(value: Tensor, source: object, key: str) -> None:
    """Refuse NaN and infinite values in a tensor of any shape, (...).

    Raises:
        CheckpointError: a value is NaN or infinite.
    """
    if not all_finite(value):
        raise CheckpointError(source, f"{key} holds NaN or infinite values")


def clean_tensors(state: Mapping[str, Tensor], source: object, prefix: str = "") -> dict[str, Tensor]:
    """Floating-point tensors as float32, each checked to be finite. Messages put `prefix` before keys.

    Raises:
        CheckpointError: a tensor with NaN or infinity, or of a dtype that no weight has.
    """
    clean: dict[str, Tensor] = {}
    for key, value in state.items():
        if not value.is_floating_point():
            raise CheckpointError(source, f"{prefix}{key} has dtype {value.dtype}, expected a floating-point one")
        clean[key] = value.to(torch.float32)
        check_finite(clean[key], source, f"{prefix}{key}")
    return clean


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: the file is missing, no JSON, or no JSON object.
    """
    try:
        content = files.read_json(file)
    except BrokenFileError as error:
        raise CheckpointError(file, error.reason) from None
    if not isinstance(content, dict):
        raise CheckpointError(file, f"holds a {type(content).__name__}, expected an object")
    return content
