"""Python's own functions in a graph: arithmetic of sizes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from equipoise.exporters.lowering.dims import floordiv, is_symbolic, max_dim, min_dim, mod
from equipoise.exporters.lowering.size_fraction import SizeFraction, divide


def _to_array(value: Any) -> Any:
    """A size that takes part in arithmetic of fractions, as a number of the program."""
    from jax import numpy as jnp

    if isinstance(value, SizeFraction):
        return value.number()
    return jnp.asarray(value).astype(jnp.float64) if is_symbolic(value) else float(value)


def _logical_not(value: Any) -> Any:
    return not value if isinstance(value, bool) else ~value


def _if_then_else(condition: Any, first: Any, second: Any) -> Any:
    from jax import numpy as jnp

    if isinstance(condition, bool):
        return first if condition else second
    return jnp.where(condition, first, second)


def _rounding(function: Callable[[float], int], name: str) -> Callable[[Any], Any]:
    """Rounding of what may be a number of the program."""

    def call(value: Any) -> Any:
        from jax import numpy as jnp

        if isinstance(value, SizeFraction) and name in ("trunc", "round"):
            value = value.number()
        return (
            getattr(jnp, name)(value).astype(jnp.int64)
            if hasattr(value, "dtype")
            else function(value)
        )

    return call


def _true_divide(first: Any, second: Any) -> Any:
    if isinstance(first, SizeFraction) or is_symbolic(first) or is_symbolic(second):
        ratio = divide(first, second)
        return _to_array(first) / _to_array(second) if ratio is None else ratio
    return first / second


_SYM_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sym_float": _to_array,
    "sym_not": _logical_not,
    "sym_ite": _if_then_else,
    "sym_max": max_dim,
    "sym_min": min_dim,
    "sym_int": _rounding(int, "trunc"),
    "_sym_sqrt": lambda value: _to_array(value) ** 0.5,
    "sym_sqrt": lambda value: _to_array(value) ** 0.5,
    "sym_sum": sum,
}
_PYTHON_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    math.ceil: _rounding(math.ceil, "ceil"),
    math.floor: _rounding(math.floor, "floor"),
    math.trunc: _rounding(math.trunc, "trunc"),
    round: _rounding(round, "round"),
    operator.truediv: _true_divide,
    operator.floordiv: floordiv,
    operator.mod: mod,
    **{
        function: function
        for function in (
            *(
                operator.add,
                operator.sub,
                operator.mul,
                operator.neg,
            ),
            *(operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge),
            *(operator.and_, operator.or_, operator.getitem, operator.pow, operator.abs),
        )
    },
}

SHAPE_OPS: dict[str, Callable[..., Any]] = {
    "aten.sym_size.int": lambda x, dim: x.shape[dim],
    "aten.sym_numel.default": lambda x: math.prod(x.shape),
    "aten.sym_stride.int": lambda x, dim: math.prod(x.shape[dim % x.ndim + 1 :]),
    "aten.sym_storage_offset.default": lambda x: 0,
}
"""Operators that tell a tensor's sizes. In JAX a value lies row by row."""


def lookup_python(target: Any) -> Callable[..., Any] | None:
    """The function for one of Python's or of PyTorch's sizes; None if unknown."""
    return _PYTHON_FUNCTIONS.get(target) or _SYM_FUNCTIONS.get(getattr(target, "__name__", ""))
