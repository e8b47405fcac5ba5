"""Reductions and cumulative functions."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax import lax
from jax import numpy as jnp

from equipoise.convert.core.framework_types import AtenAxes, AtenScalar, JaxArray, JaxDtype
from equipoise.exporters.lowering.dims import is_symbolic, normalize_axes, normalize_axis
from equipoise.exporters.lowering.dtypes import accumulation_dtype, category
from equipoise.exporters.lowering.registry import op


def _sum_in(x: JaxArray, dtype: JaxDtype) -> JaxArray:
    """Returns the dtype of a sum: booleans and integers are summed in int64."""
    if dtype is not None:
        return x.astype(dtype)
    return x.astype(jnp.int64) if category(x.dtype) < 2 else x


@op("aten.sum")
def sum(
    x: JaxArray, dim: AtenAxes = None, keepdim: bool = False, *, dtype: JaxDtype = None
) -> JaxArray:
    x = _sum_in(x, dtype)
    return jnp.sum(x, normalize_axes(dim, x.ndim), keepdims=keepdim).astype(x.dtype)


@op("aten.mean")
def mean(
    x: JaxArray, dim: AtenAxes = None, keepdim: bool = False, *, dtype: JaxDtype = None
) -> JaxArray:
    x = x if dtype is None else x.astype(dtype)
    return jnp.mean(x, normalize_axes(dim, x.ndim), keepdims=keepdim)


@op("aten.prod")
def prod(
    x: JaxArray, dim: AtenAxes = None, keepdim: bool = False, *, dtype: JaxDtype = None
) -> JaxArray:
    x = _sum_in(x, dtype)
    return jnp.prod(x, normalize_axes(dim, x.ndim), keepdims=keepdim).astype(x.dtype)


@op("aten.amax")
def amax(x: JaxArray, dim: AtenAxes = None, keepdim: bool = False) -> JaxArray:
    return jnp.max(x, normalize_axes(dim, x.ndim), keepdims=keepdim)


@op("aten.amin")
def amin(x: JaxArray, dim: AtenAxes = None, keepdim: bool = False) -> JaxArray:
    return jnp.min(x, normalize_axes(dim, x.ndim), keepdims=keepdim)


@op("aten.max.default")
def max(x: JaxArray) -> JaxArray:
    return jnp.max(x)


@op("aten.min.default")
def min(x: JaxArray) -> JaxArray:
    return jnp.min(x)


@op("aten.max.dim")
def max_dim(x: JaxArray, dim: int, keepdim: bool = False) -> JaxArray:
    return amax(x, [dim], keepdim), argmax(x, dim, keepdim)


@op("aten.min.dim")
def min_dim(x: JaxArray, dim: int, keepdim: bool = False) -> JaxArray:
    return amin(x, [dim], keepdim), argmin(x, dim, keepdim)


@op("aten.argmax")
def argmax(x: JaxArray, dim: AtenAxes = None, keepdim: bool = False) -> JaxArray:
    return _arg_reduction(jnp.argmax, x, dim, keepdim)


@op("aten.argmin")
def argmin(x: JaxArray, dim: AtenAxes = None, keepdim: bool = False) -> JaxArray:
    return _arg_reduction(jnp.argmin, x, dim, keepdim)


def _arg_reduction(
    function: Callable[..., JaxArray], x: JaxArray, dim: AtenAxes, keepdim: bool
) -> JaxArray:
    if x.ndim == 0:
        return jnp.zeros((), jnp.int64)
    return function(x, None if dim is None else normalize_axis(dim, x.ndim), keepdims=keepdim)


@op("aten.any")
def any(x: JaxArray, dim: AtenAxes = None, keepdim: bool = False) -> JaxArray:
    return jnp.any(x, normalize_axes(dim, x.ndim), keepdims=keepdim)


@op("aten._is_all_true")
def is_all_true(x: JaxArray) -> JaxArray:
    return jnp.all(x)


@op("aten._is_any_true")
def is_any_true(x: JaxArray) -> JaxArray:
    return jnp.any(x)


@op("aten.var")
def var(
    x: JaxArray, dim: AtenAxes = None, *, correction: AtenScalar = None, keepdim: bool = False
) -> JaxArray:
    return var_mean(x, dim, correction=correction, keepdim=keepdim)[0]


@op("aten.var_mean")
def var_mean(
    x: JaxArray, dim: AtenAxes = None, *, correction: AtenScalar = None, keepdim: bool = False
) -> JaxArray:
    axes = normalize_axes(dim, x.ndim)
    given = x.astype(accumulation_dtype(x.dtype))
    center = jnp.mean(given, axes, keepdims=True)
    count = 1
    for axis in axes:
        count = count * x.shape[axis]
    freedom = jnp.maximum(
        jnp.asarray(count, given.dtype) - (1 if correction is None else correction), 0
    )
    apart = jnp.abs(given - center)
    found = jnp.sum(apart * apart, axes, keepdims=keepdim) / freedom
    center = center if keepdim else jnp.squeeze(center, axes)
    return found.astype(jnp.finfo(x.dtype).dtype), center.astype(x.dtype)


@op("aten.linalg_vector_norm")
def linalg_vector_norm(
    x: JaxArray,
    ord: AtenScalar = 2,
    dim: AtenAxes = None,
    keepdim: bool = False,
    *,
    dtype: JaxDtype = None,
) -> JaxArray:
    out = x.dtype if dtype is None else dtype
    size = jnp.abs(x.astype(accumulation_dtype(out)))
    axes = normalize_axes(dim, x.ndim)
    if ord == float("inf"):
        found = jnp.max(size, axes, keepdims=keepdim)
    elif ord == float("-inf"):
        found = jnp.min(size, axes, keepdims=keepdim)
    elif ord == 0:
        found = jnp.sum(size != 0, axes, keepdims=keepdim)
    elif ord == 2:
        found = jnp.sqrt(jnp.sum(size * size, axes, keepdims=keepdim))
    else:
        found = jnp.sum(size**ord, axes, keepdims=keepdim) ** (1 / ord)
    return found.astype(jnp.finfo(out).dtype)


@op("aten.cumsum")
def cumsum(x: JaxArray, dim: int, *, dtype: JaxDtype = None) -> JaxArray:
    x = _sum_in(x, dtype)
    if x.ndim == 0:
        return x
    return lax.cumsum(x.astype(accumulation_dtype(x.dtype)), normalize_axis(dim, x.ndim)).astype(
        x.dtype
    )


@op("aten.cumprod")
def cumprod(x: JaxArray, dim: int, *, dtype: JaxDtype = None) -> JaxArray:
    x = _sum_in(x, dtype)
    return lax.cumprod(x, normalize_axis(dim, x.ndim)) if x.ndim else x


@op("aten.cummax")
def cummax(x: JaxArray, dim: int) -> JaxArray:
    return _cumulative_extreme(x, dim, jnp.greater_equal)


@op("aten.cummin")
def cummin(x: JaxArray, dim: int) -> JaxArray:
    return _cumulative_extreme(x, dim, jnp.less_equal)


def _cumulative_extreme(
    x: JaxArray, dim: int, wins: Callable[[JaxArray, JaxArray], JaxArray]
) -> JaxArray:
    """Among equal values PyTorch returns the last index; NaN wins."""
    if x.ndim == 0:
        return x, jnp.zeros((), jnp.int64)
    axis = normalize_axis(dim, x.ndim)
    if is_symbolic(x.shape[axis]):
        return _extreme_of_prefixes(x, axis, wins)
    places = lax.broadcasted_iota(jnp.int64, x.shape, axis)

    def better(first: JaxArray, second: JaxArray) -> JaxArray:
        later = wins(second[0], first[0]) | jnp.isnan(second[0])
        return jnp.where(later, second[0], first[0]), jnp.where(later, second[1], first[1])

    return lax.associative_scan(better, (x, places), axis=axis)


def _extreme_of_prefixes(
    x: JaxArray, axis: int, wins: Callable[[JaxArray, JaxArray], JaxArray]
) -> JaxArray:
    """The same along a dynamic axis, where JAX has no scan: each position looks at all before it."""
    rows = jnp.moveaxis(x, axis, -1)[..., None, :]
    size = rows.shape[-1]
    before = jnp.arange(size)[None, :] <= jnp.arange(size)[:, None]
    extreme = jnp.max if wins is jnp.greater_equal else jnp.min
    values = extreme(jnp.where(before, rows, rows[..., :1]), -1)
    equal = before & ((rows == values[..., None]) | jnp.isnan(rows))
    places = jnp.max(jnp.where(equal, jnp.arange(size), 0), -1)
    return jnp.moveaxis(values, -1, axis), jnp.moveaxis(places, -1, axis)


@op("aten.logcumsumexp")
def logcumsumexp(x: JaxArray, dim: int) -> JaxArray:
    return lax.cumlogsumexp(x, normalize_axis(dim, x.ndim)) if x.ndim else x


@op("aten._softmax")
def softmax(x: JaxArray, dim: int, half_to_float: JaxArray) -> JaxArray:
    out = jnp.float32 if half_to_float is True else x.dtype
    return jax.nn.softmax(
        x.astype(accumulation_dtype(x.dtype)), normalize_axis(dim, x.ndim) if x.ndim else None
    ).astype(out)


@op("aten._log_softmax")
def log_softmax(x: JaxArray, dim: int, half_to_float: JaxArray) -> JaxArray:
    out = jnp.float32 if half_to_float is True else x.dtype
    if x.ndim == 0:
        return jnp.zeros((), out)
    return jax.nn.log_softmax(
        x.astype(accumulation_dtype(x.dtype)), normalize_axis(dim, x.ndim)
    ).astype(out)


@op("aten.histc")
def histc(x: JaxArray, bins: int = 100, min: AtenScalar = 0, max: AtenScalar = 0) -> JaxArray:
    values = x.reshape(-1)
    if isinstance(min, (int, float)) and min == max:
        low, high = jnp.min(values), jnp.max(values)
        low, high = jnp.where(low == high, low - 1, low), jnp.where(low == high, high + 1, high)
    else:
        low, high = (jnp.asarray(bound, values.dtype) for bound in (min, max))
    bucket = ((values - low) * bins / (high - low)).astype(jnp.int64)
    bucket = jnp.where(values == high, bins - 1, bucket)
    inside = (values >= low) & (values <= high)
    counted = jnp.zeros((bins,), x.dtype)
    return counted.at[bucket].add(inside)


@op("aten.bincount")
def bincount(x: JaxArray, weights: JaxArray = None, minlength: int = 0) -> JaxArray:
    raise NotImplementedError("the size of its result depends on the values")
