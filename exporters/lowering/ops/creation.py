"""Functions that create tensors."""

from __future__ import annotations

from jax import numpy as jnp

from equipoise.convert.core.framework_types import AtenScalar, AtenSizes, JaxArray, JaxDtype, Unused
from equipoise.exporters.lowering.dims import floordiv
from equipoise.exporters.lowering.dtypes import result_dtype, scalar_dtype
from equipoise.exporters.lowering.registry import op


@op("aten.full")
def full(size: AtenSizes, fill_value: AtenScalar, *, dtype: JaxDtype = None) -> JaxArray:
    dtype = dtype or getattr(fill_value, "dtype", None) or scalar_dtype(fill_value)
    return jnp.full(tuple(size), fill_value, dtype)


@op("aten.full_like")
def full_like(x: JaxArray, fill_value: AtenScalar, *, dtype: JaxDtype = None) -> JaxArray:
    return jnp.full(x.shape, fill_value, dtype or x.dtype)


@op("aten.empty.memory_format", "aten.empty_strided")
def zeros(size: AtenSizes, *_: Unused, dtype: JaxDtype = None) -> JaxArray:
    """Uninitialized memory may hold anything, so it may be zeros."""
    return jnp.zeros(tuple(size), dtype or jnp.float32)


@op("aten.empty_permuted")
def empty_permuted(
    size: AtenSizes, physical_layout: AtenSizes, *, dtype: JaxDtype = None
) -> JaxArray:
    return zeros(size, dtype=dtype)


@op("aten.scalar_tensor")
def scalar_tensor(value: JaxArray, *, dtype: JaxDtype = None) -> JaxArray:
    return jnp.asarray(value, dtype or jnp.float32)


@op("aten.arange.start_step")
def arange_step(
    start: AtenScalar, end: AtenScalar, step: AtenScalar = 1, *, dtype: JaxDtype = None
) -> JaxArray:
    """Computes each number from its index, not from the previous number."""
    if dtype is None:
        whole = result_dtype(*(one for one in (start, end, step)))
        dtype = jnp.float32 if jnp.issubdtype(whole, jnp.floating) else jnp.int64
    if jnp.issubdtype(dtype, jnp.integer):
        start, end, step = (
            int(one) if isinstance(one, float) else one for one in (start, end, step)
        )
    if any(isinstance(one, float) for one in (start, end, step)):
        count = max(0, int(-(-(end - start) // step)))
        places = jnp.arange(count)
        return (start + places * step).astype(dtype)
    count = (end - start) if isinstance(step, int) and step == 1 else -floordiv(start - end, step)
    return (start + jnp.arange(_non_negative(count)) * step).astype(dtype)


def _non_negative(count: AtenScalar) -> JaxArray:
    return max(0, count) if isinstance(count, int) else count


@op(
    "aten.rand",
    "aten.randn",
    "aten.rand_like",
    "aten.randn_like",
    "aten.bernoulli",
    "aten.multinomial",
)
def random(*_: Unused, **__: Unused) -> JaxArray:
    raise NotImplementedError(
        "it draws random numbers, and a program gives the same answer every time"
    )
