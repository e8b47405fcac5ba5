"""Normalization layers."""

from __future__ import annotations

from jax import lax
from jax import numpy as jnp

from equipoise.convert.core.framework_types import AtenSizes, JaxArray
from equipoise.exporters.lowering.dtypes import accumulation_dtype
from equipoise.exporters.lowering.registry import op


def _standardize(
    x: JaxArray, axes: tuple[int, ...], eps: float
) -> tuple[JaxArray, JaxArray, JaxArray]:
    """Normalizes to mean 0 and variance 1 over axes; returns the mean and the factor too, axes kept."""
    center = jnp.mean(x, axes, keepdims=True)
    apart = x - center
    scale = lax.rsqrt(jnp.mean(apart * apart, axes, keepdims=True) + eps)
    return apart * scale, center, scale


@op("aten.native_layer_norm")
def native_layer_norm(
    x: JaxArray, normalized_shape: AtenSizes, weight: JaxArray, bias: JaxArray, eps: float
) -> JaxArray:
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    made, center, scale = _standardize(x.astype(accumulation_dtype(x.dtype)), axes, eps)
    made = made if weight is None else made * weight
    made = made if bias is None else made + bias
    return made.astype(x.dtype), center.astype(x.dtype), scale.astype(x.dtype)


@op("aten.native_group_norm")
def native_group_norm(
    x: JaxArray,
    weight: JaxArray,
    bias: JaxArray,
    batch: JaxArray,
    channels: int,
    size: AtenSizes,
    groups: int,
    eps: float,
) -> JaxArray:
    grouped = x.astype(accumulation_dtype(x.dtype)).reshape(
        x.shape[0], groups, channels // groups, *x.shape[2:]
    )
    axes = tuple(range(2, grouped.ndim))
    made, center, scale = _standardize(grouped, axes, eps)
    made = _scale_and_shift(made.reshape(x.shape), weight, bias)
    return tuple(one.astype(x.dtype) for one in (made, *_reduction_axes(axes, center, scale)))


def _reduction_axes(axes: tuple[int, ...], *values: JaxArray) -> list[JaxArray]:
    """Removes these axes, whose sizes are 1."""
    return [jnp.squeeze(one, axes) for one in values]


def _scale_and_shift(x: JaxArray, weight: JaxArray, bias: JaxArray) -> JaxArray:
    """Applies the weight and bias of each channel."""
    shape = (1, -1, *[1] * (x.ndim - 2))
    x = x if weight is None else x * weight.reshape(shape)
    return x if bias is None else x + bias.reshape(shape)


@op("aten._native_batch_norm_legit_no_training")
def batch_norm(
    x: JaxArray,
    weight: JaxArray,
    bias: JaxArray,
    mean: JaxArray,
    var: JaxArray,
    momentum: float,
    eps: float,
) -> JaxArray:
    shape = (1, -1, *[1] * (x.ndim - 2))
    given = x.astype(accumulation_dtype(x.dtype))
    scale = lax.rsqrt(var.astype(given.dtype) + eps).reshape(shape)
    made = (given - mean.reshape(shape)) * scale
    empty = jnp.zeros((0,), x.dtype)
    return _scale_and_shift(made, weight, bias).astype(x.dtype), empty, empty


@op("aten._native_batch_norm_legit.no_stats")
def batch_norm_of_batch(
    x: JaxArray, weight: JaxArray, bias: JaxArray, training: bool, momentum: float, eps: float
) -> JaxArray:
    axes = (0, *range(2, x.ndim))
    made, center, scale = _standardize(x.astype(accumulation_dtype(x.dtype)), axes, eps)
    made = _scale_and_shift(made, weight, bias)
    return tuple(one.astype(x.dtype) for one in (made, *_reduction_axes(axes, center, scale)))
