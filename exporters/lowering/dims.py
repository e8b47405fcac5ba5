"""Symbolic dimensions of JAX: arithmetic that keeps multiples visible, and the only access to JAX's private names.

A size is an ``int`` or a symbolic dimension of ``jax.export``. JAX compares symbolic dimensions by their text, so the
form in which a size is written decides what JAX can prove about it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equipoise.convert.core.framework_types import SymbolicDim


def is_symbolic(value: Any) -> bool:
    """Checks whether a value is a symbolic dimension."""
    from jax import export

    return bool(export.is_symbolic_dim(value))


def min_dim(first: SymbolicDim, second: SymbolicDim) -> SymbolicDim:
    """Returns the smaller of two sizes."""
    from jax import core

    return core.min_dim(first, second)


def max_dim(first: SymbolicDim, second: SymbolicDim) -> SymbolicDim:
    """Returns the larger of two sizes."""
    from jax import core

    return core.max_dim(first, second)


def floordiv(first: SymbolicDim, second: SymbolicDim) -> SymbolicDim:
    """Divides a size by another, rounding down, in a form in which multiples remain visible.

    A positive integer inside of the quotient is moved out of it. A negative one stays, because JAX would no longer see
    that the whole is not negative. With a symbolic ``n``, ``floordiv(n + 12, 4)`` is written as ``n // 4 + 3``.

    >>> floordiv(17, 5)
    3
    """
    if not is_symbolic(first) or not isinstance(second, int):
        return first // second
    within = _inner_quotient(first)
    if within is not None and second > 0:
        inner, by, more = within
        return floordiv(inner + more * by, by * second)
    number = max(constant_term(first), 0)
    return (first - number + number % second) // second + number // second


def mod(first: SymbolicDim, second: SymbolicDim) -> SymbolicDim:
    """Returns the remainder of a division, written out so that JAX sees what is a multiple.

    >>> mod(17, 5)
    2
    """
    if not is_symbolic(first) and not is_symbolic(second):
        return first % second
    return first - floordiv(first, second) * second


def _inner_quotient(size: SymbolicDim) -> tuple[SymbolicDim, int, int] | None:
    """Splits ``inner // by + more`` into its parts; None if the size has another form.

    A quotient of a quotient is written as one: a stack of convolutions would nest them, and the time that JAX takes to
    compare such sizes grows exponentially with their depth.
    """
    parts = [term for term in terms(size) if not term.is_constant]
    if len(parts) != 1 or parts[0].count != 1 or len(parts[0].factors) != 1:
        return None
    (factor,) = parts[0].factors
    if factor.power != 1 or factor.operation != "floordiv":
        return None
    inner, by = factor.operands
    number = None if symbols_in(by) else int(by)
    return (inner, number, constant_term(size)) if number is not None and number > 0 else None


def normalize_axis(axis: int, rank: int) -> int:
    """Returns a non-negative axis.

    >>> normalize_axis(-1, 4), normalize_axis(0, 0)
    (3, 0)
    """
    return axis % rank if rank else 0


def normalize_axes(axes: Any, rank: int) -> tuple[int, ...]:
    """Returns non-negative axes; None and an empty list mean all axes.

    >>> normalize_axes([-1], 3), normalize_axes(None, 2)
    ((2,), (0, 1))
    """
    if axes is None or axes == []:
        return tuple(range(rank))
    several = axes if isinstance(axes, (list, tuple)) else [axes]
    return tuple(normalize_axis(axis, rank) for axis in several) if rank else ()


def clamp_bound(index: SymbolicDim | None, size: SymbolicDim) -> SymbolicDim:
    """Returns a slice bound as an index within the size; negative ones count from the end.

    >>> clamp_bound(-2, 5), clamp_bound(9, 5), clamp_bound(None, 5)
    (3, 5, 5)
    """
    if index is None or (isinstance(index, int) and index >= 2**62):
        return size
    if isinstance(index, int) and index < 0:
        return max_dim(index + size, 0)
    return min_dim(index, size)


# What follows reads JAX's `_DimExpr` through private names (`_sorted_terms`, `_factors`, `_get_vars`, `_from_term`).
# It waits for a public way to take a symbolic dimension apart (jax-ml/jax has none in 0.10).


@dataclass(frozen=True)
class Factor:
    """A factor of a term: a symbol, or an operation such as ``floordiv`` on other sizes.

    Attributes:
        symbol: Name of the symbol; None for an operation.
        operation: ``floordiv``, ``mod``, ``max`` or ``min``; None for a symbol.
        operands: Operands of the operation.
        power: Exponent.
    """

    symbol: str | None
    operation: str | None
    operands: tuple[SymbolicDim, ...]
    power: int


@dataclass(frozen=True)
class Term:
    """A term of a size, which is a sum of terms: ``count`` times the product of the factors.

    Attributes:
        text: The product in JAX's notation.
        count: Coefficient.
        factors: The factors; empty for a constant.
        native: JAX's own object.
    """

    text: str
    count: int
    factors: tuple[Factor, ...]
    native: Any

    @property
    def is_constant(self) -> bool:
        """Whether the term is a plain integer."""
        return not self.factors


def terms(size: SymbolicDim) -> list[Term]:
    """Returns the terms of a symbolic dimension; none of an integer."""
    if not is_symbolic(size):
        return []
    return [
        Term(
            str(term),
            count,
            tuple(
                Factor(one.var, one.operation, tuple(one.operands), power)
                for one, power in term._factors
            ),
            term,
        )
        for term, count in size._sorted_terms
    ]


def term_as_dim(term: Term, like: SymbolicDim) -> SymbolicDim:
    """Returns the product of a term as a size of its own, in the scope of another size."""
    return type(like)._from_term(term.native, 1, like.scope)


def symbols_in(size: SymbolicDim) -> set[str]:
    """Returns the names of the symbols in a size."""
    return set(size._get_vars()) if is_symbolic(size) else set()


def depends_on_symbols(size: SymbolicDim) -> bool:
    """Checks whether a size has symbols; inside of a size JAX writes integers as symbolic dimensions too."""
    return bool(symbols_in(size))


def constant_term(size: SymbolicDim) -> int:
    """Returns the integer among the terms of a symbolic dimension."""
    return sum(term.count for term in terms(size) if term.is_constant)


def operations_in(size: SymbolicDim) -> list[Factor]:
    """Returns the factors of a size that are operations, not those within their operands."""
    return [factor for term in terms(size) for factor in term.factors if factor.operation]


def evaluate(size: SymbolicDim, values: Mapping[str, int]) -> int:
    """Returns the value of a size for these values of its symbols.

    Raises:
        ZeroDivisionError: The size divides by zero there.
    """
    if not is_symbolic(size):
        return int(size)
    return sum(
        term.count * math.prod(_evaluate_factor(one, values) ** one.power for one in term.factors)
        for term in terms(size)
    )


def _evaluate_factor(factor: Factor, values: Mapping[str, int]) -> int:
    if factor.symbol is not None:
        return values[factor.symbol]
    first, second = (evaluate(one, values) for one in factor.operands)
    match factor.operation:
        case "floordiv":
            return first // second
        case "mod":
            return first % second
        case "max":
            return max(first, second)
    return min(first, second)


def has_symbolic_divisor(size: SymbolicDim) -> bool:
    """Checks whether a size divides by a symbolic size: JAX asks whether that is zero, and cannot answer."""
    operations: Sequence[Factor] = operations_in(size)
    return any(
        (one.operation in ("floordiv", "mod") and depends_on_symbols(one.operands[1]))
        or any(map(has_symbolic_divisor, one.operands))
        for one in operations
    )
