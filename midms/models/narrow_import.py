"""Import of the few classes of diffusers that the networks need, without the rest of diffusers.

`from diffusers import UNet2DModel` imports every model and quantizer of diffusers, and with them transformers, peft,
accelerate, scipy and torch._dynamo: 6 seconds of processor time for one class. Inside `narrow_diffusers()`

- the `__init__` of packages of diffusers that import all of their modules runs only when a missing name is requested
  (`LatePackage`);
- modules that the networks do not need, of diffusers and of other projects, are replaced by a `StandIn`, whose names
  are looked up in the real module at their first use.

The classes are diffusers' own: `from diffusers import UNet2DModel` gives the same ones afterwards.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial, wraps
from importlib import metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from midms._lazy import LazyClass

LATE_PACKAGES = (
    "diffusers.hooks",
    "diffusers.models.autoencoders",
    "diffusers.models.transformers",
    "diffusers.models.unets",
    "diffusers.quantizers",
)
#: Modules, with all that is below them, that no network of ours uses.
STAND_INS = (
    "accelerate",
    "diffusers.loaders.single_file_utils",
    "diffusers.quantizers.auto",
    "diffusers.quantizers.base",
    "diffusers.quantizers.pipe_quant_config",
    "peft",
    "torch._dynamo",
    "transformers",
)
#: Functions that diffusers registered with torch._dynamo (`allow_in_graph`) before torch._dynamo was loaded.
_left_in_graph: list[Any] = []


class LatePackage(ModuleType):
    """A package whose modules can be imported before its `__init__` runs, at the first missing name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.__dict__.get("_complete"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if _finder is not None and (module := _LATE_NAMES.get((self.__name__, name))) is not None:
            return _Later(module, name)
        self.__dict__["_complete"] = True  # before it runs: its modules may import each other through it
        spec = self.__spec__
        assert spec is not None and isinstance(spec.loader, _LateLoader)
        spec.loader.real.exec_module(self)
        return getattr(self, name)


#: Names that modules of ours import from a late package itself -> the module that defines them.
_LATE_NAMES = {
    ("diffusers.quantizers", "DiffusersAutoQuantizer"): "diffusers.quantizers.auto",
    ("diffusers.quantizers", "DiffusersQuantizer"): "diffusers.quantizers.base",
}


class _Later(LazyClass):
    """A name of a module that a stand-in represents, looked up in the real module at the first use."""

    @property
    def __wrapped__(self) -> Any:
        if _finder is not None:
            _finder.withdraw(self._module)
        return super().__wrapped__


class StandIn(ModuleType):
    """Replaces a module inside `narrow_diffusers`, and is removed from `sys.modules` afterwards."""

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return metadata.version(self.__name__)
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if self.__name__ == "torch._dynamo" and name in _DECORATORS:
            return _DECORATORS[name]
        return _Later(self.__name__, name)


_packages_distributions = metadata.packages_distributions


class _LateDistributions(Mapping[str, list[str]]):
    """`importlib.metadata.packages_distributions()`, read when it is used: it opens files of all that is installed."""

    @cached_property
    def _known(self) -> Mapping[str, list[str]]:
        return _packages_distributions()

    def __getitem__(self, name: str) -> list[str]:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class _LateLoader(Loader):
    def __init__(self, real: Any) -> None:
        self.real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return LatePackage(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing yet: `LatePackage` does it."""


class _StandInLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: its names are looked up when they are used."""


class _Finder(MetaPathFinder):
    """Finds late packages and stand-ins before the real modules are found."""

    def __init__(self) -> None:
        self.stand_ins = {name for name in STAND_INS if name not in sys.modules}

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name in LATE_PACKAGES:
            spec = PathFinder.find_spec(name, path)
            if spec is not None:
                spec.loader = _LateLoader(spec.loader)
            return spec
        root = next((root for root in self.stand_ins if name == root or name.startswith(f"{root}.")), None)
        if root is None or (name == root and PathFinder.find_spec(name, path) is None):  # not installed
            return None
        return ModuleSpec(name, _StandInLoader(), is_package=True)

    def withdraw(self, name: str) -> None:
        """Allow the import of the real module of that name, and of the modules below its root."""
        self.stand_ins = {root for root in self.stand_ins if name != root and not name.startswith(f"{root}.")}
        self.forget()

    def forget(self) -> None:
        """Remove stand-ins that are no longer needed from `sys.modules`."""
        for name, module in list(sys.modules.items()):
            if isinstance(module, StandIn) and not any(name.startswith(root) for root in self.stand_ins):
                del sys.modules[name]


_finder: _Finder | None = None


@contextmanager
def narrow_diffusers() -> Iterator[None]:
    """Context in which an import from a module of diffusers loads little more than that module.

    Modules that are already loaded are not changed. Contexts may be nested.
    """
    global _finder  # noqa: PLW0603 - the import system is one per process, and so is what changes it
    if _finder is not None:
        yield
        return
    _finder = _Finder()
    sys.meta_path.insert(0, _finder)
    metadata.packages_distributions = _LateDistributions  # type: ignore[assignment]  # as a function it gives a Mapping
    try:
        yield
    finally:
        metadata.packages_distributions = _packages_distributions
        sys.meta_path.remove(_finder)
        _finder.stand_ins = set()
        _finder.forget()
        _finder = None


def tell_dynamo() -> None:
    """Repeat diffusers' registrations with torch._dynamo once it is loaded; call this before compiling."""
    allow_in_graph: Callable[[Any], Any] = importlib.import_module("torch._dynamo").allow_in_graph
    while _left_in_graph:
        allow_in_graph(_left_in_graph.pop())


def _leave_in_graph(item: Any) -> Any:
    _left_in_graph.append(item)
    return item


def _disable(function: Callable[..., Any] | None = None, recursive: bool = True, **options: Any) -> Any:
    """`torch.compiler.disable`, applied when the function is called."""
    if function is None:
        return partial(_disable, recursive=recursive, **options)

    @wraps(function)
    def disabled(*arguments: Any, **named: Any) -> Any:
        real = importlib.import_module("torch._dynamo").disable
        return real(function, recursive, **options)(*arguments, **named)

    return disabled


#: Functions of torch._dynamo that diffusers calls while it is imported.
_DECORATORS: dict[str, Callable[..., Any]] = {"allow_in_graph": _leave_in_graph, "disable": _disable}
