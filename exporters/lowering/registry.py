"""The registry of operators: modules of ``ops/`` register functions under ATen's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from equipoise.convert.core.plugins import PluginFolder

AtenFunction = Callable[..., Any]
F = TypeVar("F", bound=AtenFunction)

_OPS = PluginFolder("equipoise.exporters.lowering.ops")
_FUNCTIONS: dict[str, AtenFunction] = {}


def op(*names: str) -> Callable[[F], F]:
    """Registers a function as operators of ATen: ``op("aten.add")``, or one overload, ``op("aten.max.dim")``.

    The function takes the arguments of the operator's schema, with JAX arrays for tensors, NumPy dtypes for dtypes,
    and integers or symbolic dimensions for sizes. Devices, layouts and memory formats are not passed.
    """

    def register(function: F) -> F:
        for name in names:
            _FUNCTIONS[name] = function
        return function

    return register


def registered_functions() -> dict[str, AtenFunction]:
    """Returns the functions of all operators by name."""
    if not _FUNCTIONS:
        for name in _OPS.names():
            _OPS.module(name)
    return _FUNCTIONS


def lookup_aten(name: str) -> AtenFunction | None:
    """Returns the function of an overload such as ``aten.add.Tensor``, or of its operator; None if unknown."""
    known = registered_functions()
    return known.get(name) or known.get(name.rpartition(".")[0])
