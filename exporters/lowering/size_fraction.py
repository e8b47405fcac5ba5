"""Fractions of sizes: what a size divided by a number is until it is rounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from equipoise.exporters.lowering.dims import floordiv, is_symbolic


@dataclass(frozen=True)
class SizeFraction:
    """A size over a positive number. As a size's float would lose what is known of it, it is kept apart till it is rounded.

    Attributes:
        above: A size, or an integer.
        below: An integer, at least 1.
    """

    above: Any
    below: int

    def __add__(self, other: Any) -> Any:
        ratio = as_fraction(other)
        if ratio is None:
            return self.number() + other
        return SizeFraction(
            self.above * ratio.below + ratio.above * self.below, self.below * ratio.below
        )

    __radd__ = __add__

    def __neg__(self) -> SizeFraction:
        return SizeFraction(-self.above, self.below)

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        ratio = as_fraction(other)
        if ratio is None:
            return self.number() * other
        return SizeFraction(self.above * ratio.above, self.below * ratio.below)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return (
            SizeFraction(self.above, self.below * other)
            if _is_positive_integer(other)
            else self.number() / other
        )

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.number()

    def __pow__(self, other: Any) -> Any:
        return self.number() ** other

    def __lt__(self, other: Any) -> Any:
        return self.number() < other

    def __le__(self, other: Any) -> Any:
        return self.number() <= other

    def __gt__(self, other: Any) -> Any:
        return self.number() > other

    def __ge__(self, other: Any) -> Any:
        return self.number() >= other

    def __floor__(self) -> Any:
        return floordiv(self.above, self.below)

    def __ceil__(self) -> Any:
        return -floordiv(-self.above, self.below)

    def number(self) -> Any:
        """As a number of the program."""
        from jax import numpy as jnp

        return jnp.asarray(self.above).astype(jnp.float64) / self.below


def _is_positive_integer(value: Any) -> bool:
    return type(value) is int and value > 0


def as_fraction(value: Any) -> SizeFraction | None:
    """A size or a whole number as a fraction; None of anything else.

    >>> as_ratio(3.0), as_ratio(0.5)
    (Ratio(above=3, below=1), None)
    """
    if isinstance(value, SizeFraction):
        return value
    if is_symbolic(value) or isinstance(value, int):
        return SizeFraction(value, 1)
    if isinstance(value, float) and value.is_integer():
        return SizeFraction(int(value), 1)
    return None


def divide(first: Any, second: Any) -> SizeFraction | None:
    """A quotient that is kept as a fraction; None where the second is no positive number, or nothing is a size."""
    first = as_fraction(first)
    if isinstance(second, float) and second.is_integer():
        second = int(second)
    return first / second if first is not None and _is_positive_integer(second) else None
