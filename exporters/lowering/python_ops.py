"""Functions of Python and of ``torch.sym_*`` that a graph applies to sizes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from equipoise.convert.core.framework_types import JaxArray
from equipoise.exporters.lowering.dims import floordiv, is_symbolic, max_dim, min_dim, mod
from equipoise.exporters.lowering.size_fraction import Number, SizeFraction, divide


def _to_float(value: Number) -> float | JaxArray:
    """Returns a number as a float: a symbolic size becomes a float64 array of the program."""
    from jax import numpy as jnp

    if isinstance(value, SizeFraction):
        return value.to_array()
    return jnp.asarray(value).astype(jnp.float64) if is_symbolic(value) else float(value)


def _logical_not(value: Number) -> Number:
    return not value if isinstance(value, bool) else ~value


def _if_then_else(condition: Number, first: Number, second: Number) -> Number:
    from jax import numpy as jnp

    if isinstance(condition, bool):
        return first if condition else second
    return jnp.where(condition, first, second)


def _rounding(function: Callable[[float], int], name: str) -> Callable[[Number], Number]:
    """Returns a rounding function that also takes arrays of the program."""

    def round_number(value: Number) -> Number:
        from jax import numpy as jnp

        if isinstance(value, SizeFraction) and name in ("trunc", "round"):
            value = value.to_array()
        if hasattr(value, "dtype"):
            return getattr(jnp, name)(value).astype(jnp.int64)
        return function(value)

    return round_number


def _true_divide(first: Number, second: Number) -> Number:
    if isinstance(first, SizeFraction) or is_symbolic(first) or is_symbolic(second):
        fraction = divide(first, second)
        return _to_float(first) / _to_float(second) if fraction is None else fraction
    return first / second


def _square_root(value: Number) -> Number:
    return _to_float(value) ** 0.5


_SYM_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "sym_float": _to_float,
    "sym_not": _logical_not,
    "sym_ite": _if_then_else,
    "sym_max": max_dim,
    "sym_min": min_dim,
    "sym_int": _rounding(int, "trunc"),
    "_sym_sqrt": _square_root,
    "sym_sqrt": _square_root,
    "sym_sum": sum,
}
"""By their names in ``torch``."""

# fmt: off
_UNCHANGED = (
    operator.add, operator.sub, operator.mul, operator.neg, operator.abs, operator.pow,
    operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
    operator.and_, operator.or_, operator.getitem,
)
# fmt: on
"""Functions that JAX's symbolic dimensions implement themselves."""

_PYTHON_FUNCTIONS: dict[Any, Callable[..., Number]] = {
    **{function: function for function in _UNCHANGED},
    math.ceil: _rounding(math.ceil, "ceil"),
    math.floor: _rounding(math.floor, "floor"),
    math.trunc: _rounding(math.trunc, "trunc"),
    round: _rounding(round, "round"),
    operator.truediv: _true_divide,
    operator.floordiv: floordiv,
    operator.mod: mod,
}

SHAPE_OPS: dict[str, Callable[..., Number]] = {
    "aten.sym_size.int": lambda x, dim: x.shape[dim],
    "aten.sym_numel.default": lambda x: math.prod(x.shape),
    "aten.sym_stride.int": lambda x, dim: math.prod(x.shape[dim % x.ndim + 1 :]),
    "aten.sym_storage_offset.default": lambda x: 0,
}
"""Operators that return sizes and strides of a tensor. A JAX array is always contiguous."""


def lookup_python(target: Any) -> Callable[..., Number] | None:
    """Returns the function for one of Python's or of ``torch.sym_*``; None if unknown."""
    return _PYTHON_FUNCTIONS.get(target) or _SYM_FUNCTIONS.get(getattr(target, "__name__", ""))
