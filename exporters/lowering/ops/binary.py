"""Elementwise functions of two tensors, or of a tensor and a number."""

from __future__ import annotations

from collections.abc import Callable

from jax import lax
from jax import numpy as jnp

from equipoise.convert.core.framework_types import AtenScalar, JaxArray
from equipoise.exporters.lowering.dtypes import category, float_dtype, promote, result_dtype
from equipoise.exporters.lowering.registry import op
from equipoise.exporters.lowering.tensorflow_lite import narrow_integers

COMPARISONS: dict[str, Callable[[JaxArray, JaxArray], JaxArray]] = {
    "eq": jnp.equal,
    "ne": jnp.not_equal,
    "lt": jnp.less,
    "le": jnp.less_equal,
    "gt": jnp.greater,
    "ge": jnp.greater_equal,
    "bitwise_and": jnp.bitwise_and,
    "bitwise_or": jnp.bitwise_or,
    "bitwise_xor": jnp.bitwise_xor,
    "bitwise_left_shift": jnp.left_shift,
    "bitwise_right_shift": jnp.right_shift,
    "__lshift__": jnp.left_shift,
    "__rshift__": jnp.right_shift,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "fmax": jnp.fmax,
    "fmin": jnp.fmin,
    "mul": jnp.multiply,
}
LOGICAL: dict[str, Callable[[JaxArray, JaxArray], JaxArray]] = {
    "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or,
    "logical_xor": jnp.logical_xor,
}
FRACTIONS: dict[str, Callable[[JaxArray, JaxArray], JaxArray]] = {
    "atan2": jnp.arctan2,
    "copysign": jnp.copysign,
    "hypot": jnp.hypot,
}


def _promoting(
    function: Callable[[JaxArray, JaxArray], JaxArray],
) -> Callable[[JaxArray, JaxArray], JaxArray]:
    """Converts both operands to their common dtype."""

    def call(x: JaxArray, other: JaxArray) -> JaxArray:
        return function(*promote(x, other))

    return call


def _promoting_to_float(
    function: Callable[[JaxArray, JaxArray], JaxArray],
) -> Callable[[JaxArray, JaxArray], JaxArray]:
    """Converts both operands to their common dtype, integers to floats."""

    def call(x: JaxArray, other: JaxArray) -> JaxArray:
        return function(*promote(x, other, dtype=float_dtype(result_dtype(x, other))))

    return call


for _name, _function in COMPARISONS.items():
    op(f"aten.{_name}")(_promoting(_function))
for _name, _function in LOGICAL.items():
    op(f"aten.{_name}")(_function)
for _name, _function in FRACTIONS.items():
    op(f"aten.{_name}")(_promoting_to_float(_function))


@op("aten.add")
def add(x: JaxArray, other: JaxArray, alpha: AtenScalar = 1) -> JaxArray:
    x, other = promote(x, other)
    if x.dtype == bool:
        return x | (other & bool(alpha))
    return x + (other if _is_one(alpha) else other * jnp.asarray(alpha, x.dtype))


@op("aten.sub")
def sub(x: JaxArray, other: JaxArray, alpha: AtenScalar = 1) -> JaxArray:
    x, other = promote(x, other)
    return x - (other if _is_one(alpha) else other * jnp.asarray(alpha, x.dtype))


def _is_one(alpha: AtenScalar) -> bool:
    return isinstance(alpha, (int, float)) and alpha == 1


@op("aten.div")
def div(x: JaxArray, other: JaxArray, *, rounding_mode: str | None = None) -> JaxArray:
    if rounding_mode is None:
        x, other = promote(x, other, dtype=float_dtype(result_dtype(x, other)))
        return x / other
    x, other = promote(x, other)
    if rounding_mode == "floor":
        return _floor_divide(x, other)
    x, other = jnp.broadcast_arrays(x, other)
    if category(x.dtype) < 2:
        return lax.div(narrow_integers(x), narrow_integers(other)).astype(x.dtype)
    # XLA multiplies with the reciprocal of what was broadcast, which is a step off: 7.5 / 0.3 becomes 25.
    return jnp.trunc(x / lax.optimization_barrier(other))


def _floor_divide(x: JaxArray, other: JaxArray) -> JaxArray:
    """Divides like PyTorch: the remainder of a division by zero makes the quotient infinite or NaN."""
    if category(x.dtype) < 2:
        return jnp.floor_divide(narrow_integers(x), narrow_integers(other)).astype(x.dtype)
    exact = jnp.fmod(x, other)
    quotient = (x - exact) / other
    quotient = jnp.where((exact != 0) & ((other < 0) != (exact < 0)), quotient - 1, quotient)
    floored = jnp.floor(quotient)
    floored = jnp.where(quotient - floored > 0.5, floored + 1, floored)
    floored = jnp.where(quotient == 0, jnp.copysign(jnp.zeros((), x.dtype), x / other), floored)
    return jnp.where(other == 0, x / other, floored)


@op("aten.remainder")
def remainder(x: JaxArray, other: JaxArray) -> JaxArray:
    return jnp.remainder(*promote(x, other))


@op("aten.fmod")
def fmod(x: JaxArray, other: JaxArray) -> JaxArray:
    return jnp.fmod(*promote(x, other))


@op("aten.pow")
def pow(x: JaxArray, exponent: AtenScalar) -> JaxArray:
    if isinstance(exponent, (int, float)) and hasattr(x, "ndim"):
        x = jnp.asarray(x, result_dtype(x, exponent))
        if exponent == 0.5:
            return jnp.sqrt(x)
        if exponent == -0.5:
            return lax.rsqrt(x)
        if abs(exponent) <= 8 and exponent == int(exponent):
            return lax.integer_pow(x, int(exponent))
    return jnp.power(*promote(x, exponent))


@op("aten.where")
def where(condition: JaxArray, x: JaxArray, other: JaxArray) -> JaxArray:
    return jnp.where(condition, *promote(x, other))


@op("aten.complex")
def complex(real: JaxArray, imag: JaxArray) -> JaxArray:
    return lax.complex(*jnp.broadcast_arrays(real, imag))


@op("aten.polar")
def polar(magnitude: JaxArray, angle: JaxArray) -> JaxArray:
    magnitude, angle = jnp.broadcast_arrays(magnitude, angle)
    return lax.complex(magnitude * jnp.cos(angle), magnitude * jnp.sin(angle))
