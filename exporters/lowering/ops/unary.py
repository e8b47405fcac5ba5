"""Elementwise functions of one tensor."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
from jax import lax
from jax import numpy as jnp
from jax.scipy import special

from equipoise.convert.core.framework_types import AtenScalar, JaxArray
from equipoise.exporters.lowering.dtypes import accumulation_dtype, float_dtype, promote
from equipoise.exporters.lowering.registry import op


def _to_float(function: Callable[[JaxArray], JaxArray]) -> Callable[[JaxArray], JaxArray]:
    """Converts integers to floats first."""

    def call(x: JaxArray) -> JaxArray:
        return function(x.astype(float_dtype(x.dtype)))

    return call


def _in_double(function: Callable[[JaxArray], JaxArray]) -> Callable[[JaxArray], JaxArray]:
    """JAX's float32 approximation is wrong by more than ten units in the last place; that of float64 is not."""

    def call(x: JaxArray) -> JaxArray:
        return function(x.astype(jnp.float64)).astype(x.dtype)

    return call


def _digamma(x: JaxArray) -> JaxArray:
    """Infinite at zero; the sign of the zero decides the sign."""
    found = _in_double(special.digamma)(x)
    return jnp.where(x == 0, -jnp.copysign(jnp.inf, x), found)


FRACTIONS: dict[str, Callable[[JaxArray], JaxArray]] = {
    "acos": jnp.arccos,
    "acosh": jnp.arccosh,
    "asin": jnp.arcsin,
    "asinh": jnp.arcsinh,
    "atan": jnp.arctan,
    "atanh": jnp.arctanh,
    "cos": jnp.cos,
    "cosh": jnp.cosh,
    "digamma": _digamma,
    "erf": lax.erf,
    "erfc": _in_double(lax.erfc),
    "erfinv": lax.erf_inv,
    "exp": jnp.exp,
    "exp2": _in_double(jnp.exp2),
    "expm1": jnp.expm1,
    "lgamma": _in_double(lax.lgamma),
    "log": jnp.log,
    "log10": jnp.log10,
    "log1p": jnp.log1p,
    "log2": jnp.log2,
    "reciprocal": jnp.reciprocal,
    "rsqrt": lax.rsqrt,
    "sigmoid": jax.nn.sigmoid,
    "sin": jnp.sin,
    "sinh": jnp.sinh,
    "sqrt": jnp.sqrt,
    "tan": jnp.tan,
    "tanh": jnp.tanh,
}
WHOLES: dict[str, Callable[[JaxArray], JaxArray]] = {
    "ceil": jnp.ceil,
    "floor": jnp.floor,
    "trunc": jnp.trunc,
    "round": jnp.round,
}
DIRECT: dict[str, Callable[[JaxArray], JaxArray]] = {
    "abs": jnp.abs,
    "neg": jnp.negative,
    "isinf": jnp.isinf,
    "isnan": jnp.isnan,
    "signbit": jnp.signbit,
    "logical_not": jnp.logical_not,
    "bitwise_not": jnp.invert,
    "_conj": jnp.conj,
    "_conj_physical": jnp.conj,
}
for _name, _function in FRACTIONS.items():
    op(f"aten.{_name}")(_to_float(_function))
for _name, _function in WHOLES.items():
    op(f"aten.{_name}.default")(_function)
for _name, _function in DIRECT.items():
    op(f"aten.{_name}")(_function)


@op("aten.round.decimals")
def round_decimals(x: JaxArray, *, decimals: int) -> JaxArray:
    return jnp.round(x, decimals)


@op("aten.sign")
def sign(x: JaxArray) -> JaxArray:
    """The sign of NaN is NaN."""
    return x if x.dtype == bool else jnp.where(jnp.isnan(x), 0, jnp.sign(x))


@op("aten.relu")
def relu(x: JaxArray) -> JaxArray:
    return jnp.maximum(x, jnp.zeros((), x.dtype))


@op("aten.gelu")
def gelu(x: JaxArray, *, approximate: str = "none") -> JaxArray:
    y = x.astype(accumulation_dtype(x.dtype))
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (y + 0.044715 * y * y * y)
        return (0.5 * y * (1 + jnp.tanh(inner))).astype(x.dtype)
    return (0.5 * y * (1 + lax.erf(y * math.sqrt(0.5)))).astype(x.dtype)


@op("aten.elu")
def elu(x: JaxArray, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> JaxArray:
    negative = jnp.expm1(jnp.minimum(x, 0) * input_scale) * alpha
    return jnp.where(x >= 0, x, negative) * scale


@op("aten.leaky_relu")
def leaky_relu(x: JaxArray, negative_slope: float = 0.01) -> JaxArray:
    return jnp.where(x > 0, x, x * negative_slope)


@op("aten.hardtanh")
def hardtanh(x: JaxArray, min_val: float = -1, max_val: float = 1) -> JaxArray:
    return clamp(x, min_val, max_val).astype(x.dtype)


@op("aten.clamp")
def clamp(x: JaxArray, min: AtenScalar = None, max: AtenScalar = None) -> JaxArray:
    bounds = [bound for bound in (min, max) if bound is not None]
    x, *_ = promote(x, *bounds)
    if min is not None:
        x = jnp.maximum(x, jnp.asarray(min, x.dtype))
    return x if max is None else jnp.minimum(x, jnp.asarray(max, x.dtype))
