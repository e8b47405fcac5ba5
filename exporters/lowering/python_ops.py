"""Python's own functions in a graph: arithmetic of sizes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from equipoise.exporters.lowering.dims import is_size, larger, quotient, remainder, smaller
from equipoise.exporters.lowering.size_fraction import Ratio, divided


def _number(value: Any) -> Any:
    """A size that takes part in arithmetic of fractions, as a number of the program."""
    from jax import numpy as jnp

    if isinstance(value, Ratio):
        return value.number()
    return jnp.asarray(value).astype(jnp.float64) if is_size(value) else float(value)


def _truth(value: Any) -> Any:
    return not value if isinstance(value, bool) else ~value


def _chosen(condition: Any, first: Any, second: Any) -> Any:
    from jax import numpy as jnp

    if isinstance(condition, bool):
        return first if condition else second
    return jnp.where(condition, first, second)


def _whole(function: Callable[[float], int], name: str) -> Callable[[Any], Any]:
    """Rounding of what may be a number of the program."""

    def call(value: Any) -> Any:
        from jax import numpy as jnp

        if isinstance(value, Ratio) and name in ("trunc", "round"):
            value = value.number()
        return (
            getattr(jnp, name)(value).astype(jnp.int64)
            if hasattr(value, "dtype")
            else function(value)
        )

    return call


def _divided(first: Any, second: Any) -> Any:
    if isinstance(first, Ratio) or is_size(first) or is_size(second):
        ratio = divided(first, second)
        return _number(first) / _number(second) if ratio is None else ratio
    return first / second


_NAMED: dict[str, Callable[..., Any]] = {
    "sym_float": _number,
    "sym_not": _truth,
    "sym_ite": _chosen,
    "sym_max": larger,
    "sym_min": smaller,
    "sym_int": _whole(int, "trunc"),
    "_sym_sqrt": lambda value: _number(value) ** 0.5,
    "sym_sqrt": lambda value: _number(value) ** 0.5,
    "sym_sum": sum,
}
_PLAIN: dict[Any, Callable[..., Any]] = {
    math.ceil: _whole(math.ceil, "ceil"),
    math.floor: _whole(math.floor, "floor"),
    math.trunc: _whole(math.trunc, "trunc"),
    round: _whole(round, "round"),
    operator.truediv: _divided,
    operator.floordiv: quotient,
    operator.mod: remainder,
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

OF_TENSORS: dict[str, Callable[..., Any]] = {
    "aten.sym_size.int": lambda x, dim: x.shape[dim],
    "aten.sym_numel.default": lambda x: math.prod(x.shape),
    "aten.sym_stride.int": lambda x, dim: math.prod(x.shape[dim % x.ndim + 1 :]),
    "aten.sym_storage_offset.default": lambda x: 0,
}
"""Operators that tell a tensor's sizes. In JAX a value lies row by row."""


def function_of(target: Any) -> Callable[..., Any] | None:
    """The function for one of Python's or of PyTorch's sizes; None if unknown."""
    return _PLAIN.get(target) or _NAMED.get(getattr(target, "__name__", ""))
