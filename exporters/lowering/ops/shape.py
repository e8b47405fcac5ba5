"""Views and copies with other shapes. In JAX each of them is a value of its own."""

from __future__ import annotations

from jax import lax
from jax import numpy as jnp

from equipoise.convert.core.framework_types import (
    AtenAxes,
    AtenScalar,
    AtenSizes,
    JaxArray,
    JaxDtype,
    Unused,
)
from equipoise.exporters.lowering.dims import clamp_bound, floordiv, max_dim, normalize_axis
from equipoise.exporters.lowering.registry import op


@op("aten.view.default", "aten._reshape_copy")
def view(x: JaxArray, size: AtenSizes) -> JaxArray:
    return jnp.reshape(x, tuple(size))


@op("aten.view.dtype")
def view_dtype(x: JaxArray, dtype: JaxDtype) -> JaxArray:
    """Reinterprets the bits: the last axis grows or shrinks with the element size."""
    wider = dtype.itemsize // x.dtype.itemsize
    if wider > 1:
        x = x.reshape(*x.shape[:-1], x.shape[-1] // wider, wider)
    made = lax.bitcast_convert_type(x, dtype)
    return made if made.ndim <= x.ndim else made.reshape(*x.shape[:-1], -1)


@op("aten.alias", "aten.clone", "aten.lift_fresh", "aten.lift_fresh_copy")
def identity(x: JaxArray, *_: Unused, **__: Unused) -> JaxArray:
    return x


@op("aten._to_copy")
def to_copy(x: JaxArray, *, dtype: JaxDtype = None, **_: Unused) -> JaxArray:
    if dtype is None:
        return x
    real = jnp.issubdtype(x.dtype, jnp.complexfloating) and not jnp.issubdtype(
        dtype, jnp.complexfloating
    )
    return (jnp.real(x) if real else x).astype(dtype)


@op("aten.copy")
def copy(x: JaxArray, source: JaxArray, *_: Unused) -> JaxArray:
    return jnp.broadcast_to(source.astype(x.dtype), x.shape)


@op("aten.permute")
def permute(x: JaxArray, dims: AtenAxes) -> JaxArray:
    return jnp.transpose(x, [normalize_axis(axis, x.ndim) for axis in dims])


@op("aten.expand")
def expand(x: JaxArray, size: AtenSizes, **_: Unused) -> JaxArray:
    more = len(size) - x.ndim
    kept = [
        x.shape[axis - more] if isinstance(wanted, int) and wanted == -1 else wanted
        for axis, wanted in enumerate(size)
    ]
    return jnp.broadcast_to(x, tuple(kept))


@op("aten.squeeze.dims")
def squeeze_dims(x: JaxArray, dim: AtenAxes) -> JaxArray:
    axes = [dim] if isinstance(dim, int) else dim
    found = {normalize_axis(axis, x.ndim) for axis in axes if x.ndim}
    return jnp.squeeze(x, tuple(axis for axis in sorted(found) if x.shape[axis] == 1))


@op("aten.unsqueeze")
def unsqueeze(x: JaxArray, dim: int) -> JaxArray:
    return jnp.expand_dims(x, dim)


@op("aten.cat")
def cat(tensors: JaxArray, dim: int = 0) -> JaxArray:
    # An empty list of numbers joins anything.
    some = [one for one in tensors if not (one.ndim == 1 and one.shape[0] == 0)] or tensors[:1]
    dtype = some[0].dtype
    for one in tensors:
        dtype = jnp.promote_types(dtype, one.dtype)
    return jnp.concatenate([one.astype(dtype) for one in some], normalize_axis(dim, some[0].ndim))


@op("aten.split_with_sizes")
def split_with_sizes(x: JaxArray, split_sizes: AtenSizes, dim: int = 0) -> list[JaxArray]:
    pieces, start = [], 0
    for size in split_sizes:
        pieces.append(lax.slice_in_dim(x, start, start + size, axis=normalize_axis(dim, x.ndim)))
        start = start + size
    return pieces


@op("aten.select.int")
def select(x: JaxArray, dim: int, index: JaxArray) -> JaxArray:
    axis = normalize_axis(dim, x.ndim)
    if hasattr(index, "dtype"):
        return jnp.take(x, jnp.where(index < 0, index + x.shape[axis], index), axis)
    start = index + x.shape[axis] if isinstance(index, int) and index < 0 else index
    return jnp.squeeze(lax.slice_in_dim(x, start, start + 1, axis=axis), axis)


@op("aten.slice.Tensor")
def slice(
    x: JaxArray, dim: int = 0, start: AtenScalar = None, end: AtenScalar = None, step: int = 1
) -> JaxArray:
    axis = normalize_axis(dim, x.ndim)
    first, last = _slice_bounds(x.shape[axis], start, end)
    return lax.slice_in_dim(x, first, last, step, axis)


def _slice_bounds(size: AtenSizes, start: AtenScalar, end: AtenScalar) -> tuple[JaxArray, JaxArray]:
    first = clamp_bound(0 if start is None else start, size)
    return first, max_dim(first, clamp_bound(end, size))


def _assign_slice(x: JaxArray, source: JaxArray, axis: int, first: JaxArray, step: int) -> JaxArray:
    """Writes a tensor to every ``step``-th position along an axis."""
    places = first + jnp.arange(source.shape[axis]) * step
    where = (*[jnp.s_[:]] * axis, places)
    return x.at[where].set(source.astype(x.dtype))


@op("aten.slice_scatter")
def slice_scatter(
    x: JaxArray,
    source: JaxArray,
    dim: int = 0,
    start: AtenScalar = None,
    end: AtenScalar = None,
    step: int = 1,
) -> JaxArray:
    axis = normalize_axis(dim, x.ndim)
    first, _ = _slice_bounds(x.shape[axis], start, end)
    if source.shape[axis] == x.shape[axis]:
        return source.astype(x.dtype)
    return _assign_slice(x, source, axis, first, step)


@op("aten.diagonal")
def diagonal(x: JaxArray, offset: int = 0, dim1: int = 0, dim2: int = 1) -> JaxArray:
    return jnp.diagonal(x, offset, dim1, dim2)


@op("aten.flip")
def flip(x: JaxArray, dims: AtenAxes) -> JaxArray:
    return jnp.flip(x, tuple(normalize_axis(axis, x.ndim) for axis in dims)) if x.ndim else x


@op("aten.repeat")
def repeat(x: JaxArray, repeats: JaxArray) -> JaxArray:
    more = len(repeats) - x.ndim
    shape = (*[1] * more, *x.shape)
    paired = [part for size in shape for part in (1, size)]
    wide = [part for count, size in zip(repeats, shape, strict=True) for part in (count, size)]
    final = tuple(count * size for count, size in zip(repeats, shape, strict=True))
    return jnp.broadcast_to(x.reshape(paired), wide).reshape(final)


@op("aten.unfold")
def unfold(x: JaxArray, dimension: int, size: int, step: int) -> JaxArray:
    if x.ndim == 0:
        return jnp.broadcast_to(x, (size,))
    axis = normalize_axis(dimension, x.ndim)
    count = floordiv(x.shape[axis] - size, step) + 1
    places = jnp.arange(count)[:, None] * step + jnp.arange(size)[None, :]
    return jnp.moveaxis(jnp.take(x, places, axis), axis + 1, -1)


@op("aten.as_strided", "aten.as_strided_copy")
def as_strided(
    x: JaxArray, size: AtenSizes, stride: AtenSizes, storage_offset: AtenSizes = None
) -> JaxArray:
    """The tensor is contiguous, as every JAX array is."""
    places: JaxArray = storage_offset or 0
    for axis, (count, step) in enumerate(zip(size, stride, strict=True)):
        along = jnp.arange(count) * step
        places = places + along.reshape(-1, *[1] * (len(size) - axis - 1))
    return jnp.take(x.reshape(-1), jnp.broadcast_to(places, tuple(size)))


@op("aten.constant_pad_nd")
def constant_pad_nd(x: JaxArray, pad: AtenSizes, value: JaxArray = 0) -> JaxArray:
    """``pad`` has a pair for each axis, the last axis first; negative numbers crop."""
    pairs = [(0, 0, 0)] * x.ndim
    for index in range(len(pad) // 2):
        pairs[x.ndim - 1 - index] = (pad[2 * index], pad[2 * index + 1], 0)
    return lax.pad(x, jnp.asarray(value, x.dtype), pairs)


@op("aten.view_as_real", "aten.view_as_real_copy")
def view_as_real(x: JaxArray) -> JaxArray:
    return jnp.stack([jnp.real(x), jnp.imag(x)], -1)


@op("aten.view_as_complex", "aten.view_as_complex_copy")
def view_as_complex(x: JaxArray) -> JaxArray:
    return lax.complex(x[..., 0], x[..., 1])
