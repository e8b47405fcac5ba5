"""The operators that are known: the files of ``ops/`` put theirs in here under ATen's names."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

AtenFunction = Callable[..., Any]
F = TypeVar("F", bound=AtenFunction)

_FUNCTIONS: dict[str, AtenFunction] = {}


def op(*names: str) -> Callable[[F], F]:
    """Registers a function as operators of ATen, e.g. ``op("aten.add")`` or, for one overload, ``op("aten.max.dim")``.

    The function takes what the operator's schema says, with arrays of JAX for tensors, dtypes of numpy for dtypes
    and, for sizes, integers or symbolic dimensions. Devices, layouts and memory formats do not reach it.
    """

    def register(function: F) -> F:
        for name in names:
            _FUNCTIONS[name] = function
        return function

    return register


def registered_functions() -> dict[str, AtenFunction]:
    """All operators by name."""
    if not _FUNCTIONS:
        from equipoise.exporters.lowering import ops

        for module in iter_modules(ops.__path__):
            import_module(f"{ops.__name__}.{module.name}")
    return _FUNCTIONS


def lookup_aten(name: str) -> AtenFunction | None:
    """The function of an overload (``aten.add.Tensor``): its own, or that of the whole operator; None if unknown."""
    known = registered_functions()
    return known.get(name) or known.get(name.rpartition(".")[0])
