"""Classes that are imported when they are first used, so that `from midms import MIDMsPipeline` needs no torch yet."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class LazyClass:
    """Stands for a class of another module: calls, attributes, subclasses and `isinstance` are those of that class.

    Args:
        module: dotted name of the module, imported at the first use.
        name: of the class in that module.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    @property
    def __wrapped__(self) -> type[Any]:
        """The class itself; `inspect.signature` looks here."""
        wrapped: type[Any] = getattr(import_module(self._module), self._name)
        return wrapped

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.__wrapped__(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    def __dir__(self) -> list[str]:
        return dir(self.__wrapped__)

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type[Any]]:
        return (self.__wrapped__,)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self.__wrapped__)

    def __subclasscheck__(self, subclass: type[Any]) -> bool:
        return issubclass(subclass, self.__wrapped__)

    def __eq__(self, other: object) -> bool:
        return self is other or self.__wrapped__ is other

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    def __or__(self, other: Any) -> Any:
        return self.__wrapped__ | other

    def __ror__(self, other: Any) -> Any:
        return other | self.__wrapped__

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyClass, (self._module, self._name)

    def __repr__(self) -> str:
        return f"<class '{self._module}.{self._name}'>"
