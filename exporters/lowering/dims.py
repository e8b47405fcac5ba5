"""Sizes: integers, or dimensions whose size is known only when the program is called."""

from __future__ import annotations

from typing import Any


def is_symbolic(value: Any) -> bool:
    """Whether a value is a symbolic dimension."""
    from jax import export

    return bool(export.is_symbolic_dim(value))


def min_dim(first: Any, second: Any) -> Any:
    """The smaller of two sizes."""
    from jax import core

    return core.min_dim(first, second)


def max_dim(first: Any, second: Any) -> Any:
    """The larger of two sizes."""
    from jax import core

    return core.max_dim(first, second)


def floordiv(first: Any, second: Any) -> Any:
    """A size divided by another, rounded down, in a form by which multiples are seen to be multiples.

    JAX compares sizes by their text: a positive whole number that is in a quotient is taken out of it. A negative
    one stays, for outside JAX would no longer see that the whole is not negative.

    >>> quotient(17, 5)
    3
    """
    if not is_symbolic(first) or not isinstance(second, int):
        return first // second
    within = _inner_quotient(first)
    if within is not None and second > 0:
        inner, by, more = within
        return floordiv(inner + more * by, by * second)
    number = max(_constant_term(first), 0)
    return (first - number + number % second) // second + number // second


def _inner_quotient(size: Any) -> tuple[Any, int, int] | None:
    """What a size is a quotient of, by which number, and what is added to it; None if it is no such sum.

    A quotient of a quotient is one quotient: a stack of convolutions would nest them, and JAX takes ever longer to
    compare such sizes, by the power of their depth.
    """
    terms = [(term, count) for term, count in size._sorted_terms if not term.is_constant]
    if len(terms) != 1 or terms[0][1] != 1:
        return None
    factors = list(terms[0][0]._factors)
    if len(factors) != 1 or factors[0][1] != 1 or factors[0][0].operation != "floordiv":
        return None
    inner, by = factors[0][0].operands
    number = None if by._get_vars() else int(by)
    return (inner, number, _constant_term(size)) if number is not None and number > 0 else None


def mod(first: Any, second: Any) -> Any:
    """What is left of a size after division: spelled out, so that JAX sees what is a multiple.

    >>> remainder(17, 5)
    2
    """
    if not is_symbolic(first) and not is_symbolic(second):
        return first % second
    return first - floordiv(first, second) * second


def _constant_term(size: Any) -> int:
    """The number among the terms of a size. JAX has no public name for it."""
    return sum(count for term, count in size._sorted_terms if term.is_constant)


def normalize_axis(axis: int, rank: int) -> int:
    """An axis counted from the front.

    >>> axis_of(-1, 4), axis_of(0, 0)
    (3, 0)
    """
    return axis % rank if rank else 0


def normalize_axes(axes: Any, rank: int) -> tuple[int, ...]:
    """Axes counted from the front; None and nothing mean all.

    >>> axes_of([-1], 3), axes_of(None, 2)
    ((2,), (0, 1))
    """
    if axes is None or axes == []:
        return tuple(range(rank))
    given = axes if isinstance(axes, (list, tuple)) else [axes]
    return tuple(normalize_axis(axis, rank) for axis in given) if rank else ()


def clamp_bound(index: Any, size: Any) -> Any:
    """A bound of a slice as a position: negative ones count from the end, none lies outside.

    >>> bounded(-2, 5), bounded(9, 5), bounded(None, 5)
    (3, 5, 5)
    """
    if index is None or (isinstance(index, int) and index >= 2**62):
        return size
    if isinstance(index, int) and index < 0:
        index = index + size
        return max_dim(index, 0)
    return min_dim(index, size)
