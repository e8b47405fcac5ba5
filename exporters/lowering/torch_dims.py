"""Translates PyTorch's symbolic sizes to JAX's, and collects the sizes that an operator met."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from equipoise.convert.core.framework_types import FxNode, SymbolicDim, SympyExpr, TorchSize
from equipoise.exporters.lowering.dims import is_symbolic, max_dim, min_dim

MAX_SIZES_MET = 40
"""At most this many sizes of one operator are compared with each other."""


def sizes_met(
    node: FxNode, values: Iterable[Any], symbols: Mapping[str, SymbolicDim]
) -> list[SymbolicDim]:
    """Returns the sizes of an operator's arguments, and of its result as PyTorch predicts them, in JAX.

    Args:
        node: The node of the operator.
        values: The arguments.
        symbols: PyTorch's symbols -> JAX's sizes.
    """
    found = [size for value in values for size in _symbolic_sizes_in(value)]
    found += sorted({size for value in values for size in _integer_sizes_in(value)})
    predicted = getattr(node.meta.get("val"), "shape", ())
    shape = [_to_jax(size, symbols) for size in predicted]
    found += [size for size in shape if is_symbolic(size)]
    found += [
        one * other
        for one, other in pairwise(shape)
        if one is not None and other is not None and (is_symbolic(one) or is_symbolic(other))
    ]
    unique = {str(size): size for size in found}
    return list(unique.values())[:MAX_SIZES_MET]


def torch_symbols(nodes: Iterable[FxNode], values: Iterable[Any]) -> dict[str, SymbolicDim]:
    """Returns PyTorch's symbols -> JAX's sizes, from the inputs of a graph."""
    found: dict[str, SymbolicDim] = {}
    for node, value in zip(nodes, values, strict=True):
        predicted = getattr(node.meta.get("val"), "shape", ())
        for theirs, ours in zip(predicted, getattr(value, "shape", ()), strict=False):
            if not isinstance(theirs, int) and theirs.node.expr.is_Symbol:
                found.setdefault(str(theirs.node.expr), ours)
    return found


def _symbolic_sizes_in(value: Any) -> Iterator[SymbolicDim]:
    if is_symbolic(value):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _symbolic_sizes_in(one)
    else:
        yield from (size for size in getattr(value, "shape", ()) if is_symbolic(size))


def _integer_sizes_in(value: Any) -> Iterator[int]:
    several = value if isinstance(value, (list, tuple)) else getattr(value, "shape", ())
    yield from (size for size in several if type(size) is int and size > 0)


def _to_jax(size: TorchSize, symbols: Mapping[str, SymbolicDim]) -> SymbolicDim | None:
    """Returns PyTorch's size in JAX, or None where it has an operation that JAX lacks."""
    return size if isinstance(size, int) else _expression_to_jax(size.node.expr, symbols)


def _expression_to_jax(
    expression: SympyExpr, symbols: Mapping[str, SymbolicDim]
) -> SymbolicDim | None:
    if expression.is_Integer:
        return int(expression)
    if expression.is_Symbol:
        return symbols.get(str(expression))
    parts: list[SymbolicDim] = [_expression_to_jax(one, symbols) for one in expression.args]
    if any(one is None for one in parts):
        return None
    match type(expression).__name__:
        case "Add":
            return sum(parts[1:], parts[0])
        case "Mul":
            return math.prod(parts[1:], start=parts[0])
        case "FloorDiv" | "CleanDiv" if not is_symbolic(parts[1]):
            return parts[0] // parts[1]
        case "Mod" | "PythonMod" if not is_symbolic(parts[1]):
            return parts[0] % parts[1]
        case "Max" if len(parts) == 2:
            return max_dim(*parts)
        case "Min" if len(parts) == 2:
            return min_dim(*parts)
    return None
