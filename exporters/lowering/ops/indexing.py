"""Reading and writing by indices. Negative indices count from the end."""

from __future__ import annotations

import math

from jax import lax
from jax import numpy as jnp

from equipoise.convert.core.framework_types import AtenScalar, AtenSizes, JaxArray, Unused
from equipoise.exporters.lowering.dims import normalize_axis
from equipoise.exporters.lowering.dtypes import promote
from equipoise.exporters.lowering.errors import DATA_DEPENDENT_SIZE
from equipoise.exporters.lowering.registry import op
from equipoise.exporters.lowering.tensorflow_lite import (
    identity_element,
    is_dense,
    scatter_densely,
)


@op("aten.embedding")
def embedding(weight: JaxArray, indices: JaxArray, *_: Unused) -> JaxArray:
    return jnp.take(weight, indices, 0)


@op("aten.index_select")
def index_select(x: JaxArray, dim: int, index: JaxArray) -> JaxArray:
    return jnp.take(x, index.reshape(-1), normalize_axis(dim, x.ndim)) if x.ndim else x


@op("aten.index.Tensor")
def index(x: JaxArray, indices: JaxArray) -> JaxArray:
    if _has_mask(indices):
        return _select_by_mask(x, indices)
    return x[_jax_indices(indices)]


def _has_mask(indices: JaxArray) -> bool:
    return any(one is not None and one.dtype == bool for one in indices)


def _single_mask(indices: JaxArray) -> tuple[JaxArray, int]:
    """Returns the only mask among indices, and the number of axes before it."""
    given = list(indices)
    while given and given[-1] is None:
        given.pop()
    if any(one is not None for one in given[:-1]):
        raise NotImplementedError(DATA_DEPENDENT_SIZE)
    return given[-1], len(given) - 1


def _select_by_mask(x: JaxArray, indices: JaxArray) -> JaxArray:
    """Selects rows by a mask: in order, at the front of as many rows as the mask has elements.

    The number of selected rows is only known when the program runs. The rows beyond are NaN, so that whatever combines them
    with the others shows it; reading the rows in order, as assigning them by a mask does, never sees them.
    """
    mask, before = _single_mask(indices)
    shape = (*x.shape[:before], math.prod(mask.shape), *x.shape[before + mask.ndim :])
    flat = mask.reshape(shape[before])
    first = jnp.argsort(~flat)  # which is stable
    rows = jnp.take(x.reshape(shape), first, before)
    is_picked = jnp.arange(shape[before]) < jnp.sum(flat)
    spread = is_picked.reshape(-1, *[1] * (x.ndim - before - mask.ndim))
    beyond = jnp.nan if jnp.issubdtype(x.dtype, jnp.inexact) else 0
    return jnp.where(spread, rows, jnp.asarray(beyond, x.dtype))


def _jax_indices(indices: JaxArray) -> tuple[JaxArray, ...]:
    """Returns indices for JAX; PyTorch's None selects a whole axis."""
    return tuple(jnp.s_[:] if one is None else one for one in indices)


@op("aten.index_put")
def index_put(
    x: JaxArray, indices: JaxArray, values: JaxArray, accumulate: bool = False, *_: Unused
) -> JaxArray:
    if _has_mask(indices):
        return _put_by_mask(x, indices, values, accumulate)
    place = x.at[_jax_indices(indices)]
    return place.add(values) if accumulate else place.set(values)


def _put_by_mask(x: JaxArray, indices: JaxArray, values: JaxArray, accumulate: bool) -> JaxArray:
    """Writes one value to all selected positions, or one value to each of them in order."""
    mask, before = _single_mask(indices)
    after = x.ndim - before - mask.ndim
    spread = mask.reshape(*mask.shape, *[1] * after)
    if values.ndim > after and values.shape[-after - 1] != 1:
        flat = jnp.cumsum(mask.reshape(-1)) - 1
        picked = jnp.take(values, jnp.maximum(flat, 0), values.ndim - after - 1)
        shape = (
            *values.shape[: values.ndim - after - 1],
            *mask.shape,
            *values.shape[values.ndim - after :],
        )
        values = picked.reshape(shape)
    elif values.ndim > after:
        values = jnp.squeeze(values, values.ndim - after - 1)
        values = jnp.expand_dims(
            values, tuple(range(values.ndim - after, values.ndim - after + mask.ndim))
        )
    return jnp.where(spread, x + values if accumulate else values.astype(x.dtype), x)


@op("aten.gather")
def gather(x: JaxArray, dim: int, index: JaxArray, **_: Unused) -> JaxArray:
    if x.ndim == 0:
        return jnp.broadcast_to(x, index.shape)
    if index.ndim == 0:
        return jnp.take(x, index, 0)
    return x[_indices_along(index, dim)]


def _indices_along(index: JaxArray, dim: int) -> tuple[JaxArray, ...]:
    """Returns indices for all axes: the given ones for one axis, counting ones for the others."""
    axis = normalize_axis(dim, index.ndim)
    return tuple(
        index if other == axis else lax.broadcasted_iota(jnp.int64, index.shape, other)
        for other in range(index.ndim)
    )


_BOOLEAN_REDUCTIONS = {"add": "max", "multiply": "min"}


def _scatter_at(x: JaxArray, dim: int, index: JaxArray, source: JaxArray, how: str) -> JaxArray:
    if hasattr(source, "ndim") and source.ndim:
        source = source[tuple(jnp.s_[:size] for size in index.shape)]
    source = jnp.asarray(source, x.dtype)
    if x.ndim == 0:
        x, index = x.reshape(1), index.reshape(1)
        return _scatter_at(x, 0, index, source.reshape(1), how).reshape(())
    index = index.reshape(1) if index.ndim == 0 else index
    if x.dtype == bool:
        how = _BOOLEAN_REDUCTIONS.get(how, how)
    source = jnp.broadcast_to(source, index.shape)
    if is_dense(how):
        return scatter_densely(x, dim, index, source, how)
    return getattr(x.at[_indices_along(index, dim)], how)(source)


@op("aten.scatter")
def scatter(
    x: JaxArray, dim: int, index: JaxArray, source: JaxArray, *, reduce: str | None = None
) -> JaxArray:
    how = {None: "set", "add": "add", "multiply": "multiply"}[reduce]
    return _scatter_at(x, dim, index, source, how)


@op("aten.scatter_add")
def scatter_add(x: JaxArray, dim: int, index: JaxArray, source: JaxArray) -> JaxArray:
    return _scatter_at(x, dim, index, source, "add")


_SCATTER_METHODS = {"amax": "max", "amin": "min", "prod": "multiply", "sum": "add", "mean": "add"}


@op("aten.scatter_reduce.two")
def scatter_reduce(
    x: JaxArray,
    dim: int,
    index: JaxArray,
    source: JaxArray,
    reduce: str,
    *,
    include_self: bool = True,
) -> JaxArray:
    """Positions without a source keep their value, whether or not it is included elsewhere."""
    how = _SCATTER_METHODS[reduce]
    ones = jnp.ones(index.shape, x.dtype)
    hits = _scatter_at(jnp.zeros(x.shape, x.dtype), dim, index, ones, "add")
    start = x
    if not include_self:
        start = jnp.where(hits > 0, identity_element(how, x.dtype), x)
    made = _scatter_at(start, dim, index, source, how)
    if reduce != "mean":
        return made
    count = jnp.maximum(hits + (1 if include_self else 0), 1)
    return made / count if jnp.issubdtype(x.dtype, jnp.floating) else made // count


@op("aten.masked_scatter")
def masked_scatter(x: JaxArray, mask: JaxArray, source: JaxArray) -> JaxArray:
    shape = jnp.broadcast_shapes(x.shape, mask.shape)
    x, mask = jnp.broadcast_to(x, shape), jnp.broadcast_to(mask, shape)
    places = jnp.maximum(jnp.cumsum(mask.reshape(-1)) - 1, 0)
    picked = jnp.take(source.reshape(-1), places).reshape(shape)
    return jnp.where(mask, picked, x)


@op("aten.repeat_interleave.Tensor")
def repeat_interleave_tensor(repeats: JaxArray, *, output_size: AtenSizes = None) -> JaxArray:
    """Repeats each index; the total must be known."""
    if output_size is None:
        raise NotImplementedError(DATA_DEPENDENT_SIZE)
    ends = jnp.cumsum(repeats)
    return jnp.searchsorted(ends, jnp.arange(output_size), side="right").astype(repeats.dtype)


@op("aten.bucketize")
def bucketize(
    x: JaxArray, boundaries: JaxArray, *, out_int32: bool = False, right: bool = False
) -> JaxArray:
    x, boundaries = promote(x, boundaries)
    found = jnp.searchsorted(boundaries, x, side="right" if right else "left")
    return found.astype(jnp.int32 if out_int32 else jnp.int64)


@op("aten.searchsorted.Tensor")
def searchsorted(
    sorted_sequence: JaxArray,
    x: JaxArray,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: JaxArray = None,
) -> JaxArray:
    if sorter is not None:
        sorted_sequence = jnp.take_along_axis(sorted_sequence, sorter, -1)
    after = right or side == "right"
    ordered, x = promote(sorted_sequence[..., None, :], x[..., None])
    before = (ordered <= x) if after else (ordered < x)
    return jnp.sum(before, -1, dtype=jnp.int32 if out_int32 else jnp.int64)


@op("aten.topk")
def topk(
    x: JaxArray, k: AtenScalar, dim: int = -1, largest: bool = True, *_: Unused, **__: Unused
) -> JaxArray:
    values, places = sort(x, dim, largest)
    axis = normalize_axis(dim, x.ndim)
    if x.ndim == 0:
        return values, places
    return lax.slice_in_dim(values, 0, k, axis=axis), lax.slice_in_dim(places, 0, k, axis=axis)


@op("aten.sort.default")
def sort(x: JaxArray, dim: int = -1, descending: bool = False) -> JaxArray:
    return sort_stable(x, dim=dim, descending=descending)


@op("aten.sort.stable")
def sort_stable(x: JaxArray, *, dim: int = -1, descending: bool = False, **_: Unused) -> JaxArray:
    if x.ndim == 0:
        return x, jnp.zeros((), jnp.int64)
    axis = normalize_axis(dim, x.ndim)
    places = jnp.argsort(x, axis, descending=descending)
    return x[_indices_along(places, dim)], places


@op(
    "aten.masked_select",
    "aten.nonzero",
    "aten.unique_dim",
    "aten._unique2",
    "aten.unique_consecutive",
)
def refuse_data_dependent_size(*_: Unused, **__: Unused) -> JaxArray:
    raise NotImplementedError(DATA_DEPENDENT_SIZE)


@op("aten._local_scalar_dense")
def local_scalar(x: JaxArray) -> JaxArray:
    return x.reshape(())
