"""Layers that normalize."""

from __future__ import annotations

from typing import Any

from jax import lax
from jax import numpy as jnp

from equipoise.exporters.lowering.dtypes import wide
from equipoise.exporters.lowering.registry import op


def _standard(x: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any, Any]:
    """Mean 0 and variance 1 over axes; the mean and what was multiplied with, axes kept."""
    center = jnp.mean(x, axes, keepdims=True)
    apart = x - center
    scale = lax.rsqrt(jnp.mean(apart * apart, axes, keepdims=True) + eps)
    return apart * scale, center, scale


@op("aten.native_layer_norm")
def native_layer_norm(x: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float) -> Any:
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    made, center, scale = _standard(x.astype(wide(x.dtype)), axes, eps)
    made = made if weight is None else made * weight.astype(made.dtype)
    made = made if bias is None else made + bias.astype(made.dtype)
    return made.astype(x.dtype), center, scale


@op("aten.layer_norm")
def layer_norm(
    x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:
    return native_layer_norm(x, normalized_shape, weight, bias, eps)[0]


@op("aten.native_group_norm")
def native_group_norm(
    x: Any, weight: Any, bias: Any, batch: Any, channels: int, size: Any, groups: int, eps: float
) -> Any:
    grouped = x.astype(wide(x.dtype)).reshape(x.shape[0], groups, channels // groups, *x.shape[2:])
    axes = tuple(range(2, grouped.ndim))
    made, center, scale = _standard(grouped, axes, eps)
    made = _scaled(made.reshape(x.shape), weight, bias)
    return made.astype(x.dtype), jnp.squeeze(center, axes), jnp.squeeze(scale, axes)


def _scaled(x: Any, weight: Any, bias: Any) -> Any:
    """By a weight and a bias of each channel."""
    shape = (1, -1, *[1] * (x.ndim - 2))
    x = x if weight is None else x * weight.astype(x.dtype).reshape(shape)
    return x if bias is None else x + bias.astype(x.dtype).reshape(shape)


@op("aten._native_batch_norm_legit_no_training")
def batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float
) -> Any:
    shape = (1, -1, *[1] * (x.ndim - 2))
    given = x.astype(wide(x.dtype))
    scale = lax.rsqrt(var.astype(given.dtype) + eps).reshape(shape)
    made = (given - mean.astype(given.dtype).reshape(shape)) * scale
    empty = jnp.zeros((0,), given.dtype)
    return _scaled(made, weight, bias).astype(x.dtype), empty, empty


@op("aten._native_batch_norm_legit.no_stats")
def batch_norm_of_batch(
    x: Any, weight: Any, bias: Any, training: bool, momentum: float, eps: float
) -> Any:
    axes = (0, *range(2, x.ndim))
    made, center, scale = _standard(x.astype(wide(x.dtype)), axes, eps)
    made = _scaled(made, weight, bias).astype(x.dtype)
    return made, jnp.squeeze(center, axes), jnp.squeeze(scale, axes)


@op("aten._fused_rms_norm")
def rms_norm(x: Any, normalized_shape: Any, weight: Any, eps: Any) -> Any:
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    given = x.astype(wide(x.dtype))
    eps = jnp.finfo(x.dtype).eps if eps is None else eps
    scale = lax.rsqrt(jnp.mean(given * given, axes, keepdims=True) + eps)
    made = given * scale if weight is None else given * scale * weight.astype(given.dtype)
    return made.astype(x.dtype), scale
