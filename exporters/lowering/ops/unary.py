"""Elementwise functions of one tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp
from jax.scipy import special

from equipoise.exporters.lowering.dtypes import category, floating, promoted, wide
from equipoise.exporters.lowering.registry import op


def _fraction(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Integers become floats first."""

    def call(x: Any) -> Any:
        return function(x.astype(floating(x.dtype)))

    return call


def _whole(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Integers stay what they are."""

    def call(x: Any) -> Any:
        return x if category(x.dtype) < 2 else function(x)

    return call


FRACTIONS: dict[str, Callable[[Any], Any]] = {
    "acos": jnp.arccos,
    "acosh": jnp.arccosh,
    "asin": jnp.arcsin,
    "asinh": jnp.arcsinh,
    "atan": jnp.arctan,
    "atanh": jnp.arctanh,
    "cos": jnp.cos,
    "cosh": jnp.cosh,
    "digamma": special.digamma,
    "erf": lax.erf,
    "erfc": lax.erfc,
    "erfinv": lax.erf_inv,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "lgamma": lax.lgamma,
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
WHOLES: dict[str, Callable[[Any], Any]] = {
    "ceil": jnp.ceil,
    "floor": jnp.floor,
    "trunc": jnp.trunc,
    "round": jnp.round,
}
PLAIN: dict[str, Callable[[Any], Any]] = {
    "abs": jnp.abs,
    "neg": jnp.negative,
    "sign": jnp.sign,
    "sgn": jnp.sign,
    "isinf": jnp.isinf,
    "isnan": jnp.isnan,
    "isfinite": jnp.isfinite,
    "signbit": jnp.signbit,
    "logical_not": jnp.logical_not,
    "bitwise_not": jnp.invert,
    "_conj": jnp.conj,
    "conj_physical": jnp.conj,
    "_conj_physical": jnp.conj,
    "square": jnp.square,
}
for _name, _function in FRACTIONS.items():
    op(f"aten.{_name}")(_fraction(_function))
for _name, _function in WHOLES.items():
    op(f"aten.{_name}.default")(_whole(_function))
for _name, _function in PLAIN.items():
    op(f"aten.{_name}")(_function)


@op("aten.round.decimals")
def round_decimals(x: Any, *, decimals: int) -> Any:
    return jnp.round(x, decimals)


@op("aten.relu")
def relu(x: Any) -> Any:
    return jnp.maximum(x, jnp.zeros((), x.dtype))


@op("aten.silu")
def silu(x: Any) -> Any:
    return x * jax.nn.sigmoid(x)


@op("aten.gelu")
def gelu(x: Any, *, approximate: str = "none") -> Any:
    y = x.astype(wide(x.dtype))
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (y + 0.044715 * y * y * y)
        return (0.5 * y * (1 + jnp.tanh(inner))).astype(x.dtype)
    return (0.5 * y * (1 + lax.erf(y * math.sqrt(0.5)))).astype(x.dtype)


@op("aten.elu")
def elu(x: Any, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Any:
    negative = jnp.expm1(jnp.minimum(x, 0) * input_scale) * alpha
    return (jnp.where(x > 0, x, negative) * scale).astype(x.dtype)


@op("aten.leaky_relu")
def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    return jnp.where(x > 0, x, x * negative_slope).astype(x.dtype)


@op("aten.hardtanh")
def hardtanh(x: Any, min_val: float = -1, max_val: float = 1) -> Any:
    return clamp(x, min_val, max_val).astype(x.dtype)


@op("aten.hardsigmoid")
def hardsigmoid(x: Any) -> Any:
    return (jnp.clip(x + 3, 0, 6) / 6).astype(x.dtype)


@op("aten.hardswish")
def hardswish(x: Any) -> Any:
    return (x * jnp.clip(x + 3, 0, 6) / 6).astype(x.dtype)


@op("aten.softplus")
def softplus(x: Any, beta: float = 1, threshold: float = 20) -> Any:
    scaled = x * beta
    soft = jnp.log1p(jnp.exp(jnp.minimum(scaled, threshold))) / beta
    return jnp.where(scaled > threshold, x, soft).astype(x.dtype)


@op("aten.clamp")
def clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    bounds = [bound for bound in (min, max) if bound is not None]
    x, *_ = promoted(x, *bounds)
    if min is not None:
        x = jnp.maximum(x, jnp.asarray(min, x.dtype))
    return x if max is None else jnp.minimum(x, jnp.asarray(max, x.dtype))


@op("aten.clamp_min")
def clamp_min(x: Any, min: Any) -> Any:
    return clamp(x, min)


@op("aten.clamp_max")
def clamp_max(x: Any, max: Any) -> Any:
    return clamp(x, None, max)


@op("aten.nan_to_num")
def nan_to_num(x: Any, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Any:
    return jnp.nan_to_num(x, nan=nan or 0.0, posinf=posinf, neginf=neginf)
