"""A symbolic size over an integer, kept exact until it is rounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from equipoise.convert.core.framework_types import JaxArray, SymbolicDim
from equipoise.exporters.lowering.dims import floordiv, is_symbolic

Number: TypeAlias = Any
"""A size, a fraction of a size, a Python number, or a JAX array without axes."""


@dataclass(frozen=True)
class SizeFraction:
    """A size divided by a positive integer.

    Converted to a float, a symbolic size would lose what is known about it. A fraction keeps numerator and denominator
    apart until it is rounded: ``ceil(n / 4)`` stays ``-((-n) // 4)``.

    Attributes:
        numerator: A size.
        denominator: An integer, at least 1.
    """

    numerator: SymbolicDim
    denominator: int

    def __add__(self, other: Number) -> Number:
        fraction = as_fraction(other)
        if fraction is None:
            return self.to_array() + other
        return SizeFraction(
            self.numerator * fraction.denominator + fraction.numerator * self.denominator,
            self.denominator * fraction.denominator,
        )

    __radd__ = __add__

    def __neg__(self) -> SizeFraction:
        return SizeFraction(-self.numerator, self.denominator)

    def __sub__(self, other: Number) -> Number:
        return self + -other

    def __rsub__(self, other: Number) -> Number:
        return -self + other

    def __mul__(self, other: Number) -> Number:
        fraction = as_fraction(other)
        if fraction is None:
            return self.to_array() * other
        return SizeFraction(
            self.numerator * fraction.numerator, self.denominator * fraction.denominator
        )

    __rmul__ = __mul__

    def __truediv__(self, other: Number) -> Number:
        if _is_positive_integer(other):
            return SizeFraction(self.numerator, self.denominator * other)
        return self.to_array() / other

    def __rtruediv__(self, other: Number) -> Number:
        return other / self.to_array()

    def __pow__(self, other: Number) -> Number:
        return self.to_array() ** other

    def __lt__(self, other: Number) -> Number:
        return self.to_array() < other

    def __le__(self, other: Number) -> Number:
        return self.to_array() <= other

    def __gt__(self, other: Number) -> Number:
        return self.to_array() > other

    def __ge__(self, other: Number) -> Number:
        return self.to_array() >= other

    def __floor__(self) -> SymbolicDim:
        return floordiv(self.numerator, self.denominator)

    def __ceil__(self) -> SymbolicDim:
        return -floordiv(-self.numerator, self.denominator)

    def to_array(self) -> JaxArray:
        """Returns the fraction as a float64 array of the program."""
        from jax import numpy as jnp

        return jnp.asarray(self.numerator).astype(jnp.float64) / self.denominator


def _is_positive_integer(value: Number) -> bool:
    return type(value) is int and value > 0


def as_fraction(value: Number) -> SizeFraction | None:
    """Returns a size or an integral number as a fraction; None for anything else.

    >>> as_fraction(3.0), as_fraction(0.5)
    (SizeFraction(numerator=3, denominator=1), None)
    """
    if isinstance(value, SizeFraction):
        return value
    if is_symbolic(value) or isinstance(value, int):
        return SizeFraction(value, 1)
    if isinstance(value, float) and value.is_integer():
        return SizeFraction(int(value), 1)
    return None


def divide(first: Number, second: Number) -> SizeFraction | None:
    """Returns a quotient as a fraction; None if the divisor is not a positive integer or nothing is a size."""
    numerator = as_fraction(first)
    if isinstance(second, float) and second.is_integer():
        second = int(second)
    if numerator is None or not _is_positive_integer(second):
        return None
    quotient: SizeFraction = numerator / second
    return quotient
