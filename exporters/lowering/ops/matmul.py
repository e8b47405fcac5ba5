"""Matrix products. float32 is accumulated in float32, never in a narrower format."""

from __future__ import annotations

from jax import lax
from jax import numpy as jnp

from equipoise.convert.core.framework_types import AtenScalar, JaxArray, Unused
from equipoise.exporters.lowering.dtypes import accumulation_dtype
from equipoise.exporters.lowering.registry import op

HIGHEST_PRECISION = lax.Precision.HIGHEST


@op("aten.linear")
def linear(x: JaxArray, weight: JaxArray, bias: JaxArray = None) -> JaxArray:
    """Multiplies over the last axis. fp16 and bf16 are rounded once, after the sum."""
    axes = (((x.ndim - 1,), (weight.ndim - 1,)), ((), ()))
    total = accumulation_dtype(x.dtype)
    made = lax.dot_general(
        x, weight, axes, precision=HIGHEST_PRECISION, preferred_element_type=total
    )
    return (made if bias is None else made + bias.astype(total)).astype(x.dtype)


@op("aten.mm", "aten.bmm", "aten.matmul")
def matmul(x: JaxArray, other: JaxArray) -> JaxArray:
    return jnp.matmul(x, other, precision=HIGHEST_PRECISION)


@op("aten.addmm", "aten.addmv")
def addmm(
    x: JaxArray, first: JaxArray, second: JaxArray, *, beta: AtenScalar = 1, alpha: AtenScalar = 1
) -> JaxArray:
    # The halves are rounded once, after the sum.
    made = jnp.matmul(
        first,
        second,
        precision=HIGHEST_PRECISION,
        preferred_element_type=accumulation_dtype(first.dtype),
    )
    made = made if alpha == 1 else made * jnp.asarray(alpha, made.dtype)
    if beta == 0:
        return made.astype(x.dtype)
    return (made + (x if beta == 1 else x * jnp.asarray(beta, made.dtype))).astype(x.dtype)


@op("aten.addbmm")
def addbmm(
    x: JaxArray, first: JaxArray, second: JaxArray, *, beta: AtenScalar = 1, alpha: AtenScalar = 1
) -> JaxArray:
    """Sums the products of all pairs: one product of the concatenated matrices."""
    batch, rows, inner = first.shape
    wide = jnp.swapaxes(first, 0, 1).reshape(rows, batch * inner)
    tall = second.reshape(batch * inner, second.shape[2])
    return addmm(x, wide, tall, beta=beta, alpha=alpha)


@op("aten._cdist_forward")
def cdist(x: JaxArray, other: JaxArray, p: float, *_: Unused) -> JaxArray:
    apart = jnp.abs(x[..., :, None, :] - other[..., None, :, :])
    if p == 2:
        return jnp.sqrt(jnp.sum(apart * apart, -1))
    if p == float("inf"):
        return jnp.max(apart, -1)
    if p == 0:
        return jnp.sum((apart != 0).astype(x.dtype), -1)
    return jnp.sum(apart**p, -1) ** (1 / p)
