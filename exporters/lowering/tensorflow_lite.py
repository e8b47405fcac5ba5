"""Operators as TensorFlow Lite can run them: scatters by comparing every target with every source, quotients of narrow integers.

TensorFlow 2.21's converter replaces the operator within ``stablehlo.scatter`` by one of its own, which its interpreter then does not
know, so that only a scatter that sets runs; and it has no division of 64-bit integers. Waits for a TensorFlow that runs what it converts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from equipoise.convert.core.framework_types import JaxArray, JaxDtype
from equipoise.exporters.lowering.dims import normalize_axis

_IS_TARGET: ContextVar[bool] = ContextVar("is_for_tensorflow_lite", default=False)

_OPERATIONS = {
    "add": ("sum", "add"),
    "multiply": ("prod", "multiply"),
    "min": ("min", "minimum"),
    "max": ("max", "maximum"),
}
"""Method of ``x.at[...]`` -> how the sources of a target are reduced, and how the target takes part."""


@contextmanager
def for_tensorflow_lite() -> Iterator[None]:
    """Lowers operators as TensorFlow Lite can run them, for the time of this context."""
    token = _IS_TARGET.set(True)
    try:
        yield
    finally:
        _IS_TARGET.reset(token)


def is_dense(how: str) -> bool:
    """Checks whether a scatter is to be lowered by :func:`scatter_densely`."""
    return _IS_TARGET.get() and how in _OPERATIONS


def scatter_densely(x: JaxArray, dim: int, index: JaxArray, source: JaxArray, how: str) -> JaxArray:
    """Returns ``x`` after the sources were added to it, or were taken in otherwise, as ``torch.Tensor.scatter_reduce`` does.

    Args:
        x: The targets.
        dim: The axis that the indices are of.
        index: Indices of any shape that fits into ``x`` along the other axes.
        source: One source for each index.
        how: ``add``, ``multiply``, ``min`` or ``max``.
    """
    from jax import numpy as jnp

    if x.dtype == bool:
        values, added = (one.astype(jnp.int32) for one in (x, source))
        return scatter_densely(values, dim, index, added, how).astype(bool)
    reduce, combine = (getattr(jnp, name) for name in _OPERATIONS[how])
    axis = normalize_axis(dim, x.ndim)
    part = tuple(
        slice(None) if other == axis else slice(0, size) for other, size in enumerate(index.shape)
    )
    places, sources = (jnp.moveaxis(one, axis, -1)[..., None, :] for one in (index, source))
    hits = places == jnp.arange(x.shape[axis])[:, None]
    reduced = reduce(jnp.where(hits, sources, identity_element(how, x.dtype)), axis=-1)
    made = combine(x[part], jnp.moveaxis(reduced, -1, axis).astype(x.dtype))
    return made if made.shape == x.shape else x.at[part].set(made)


def identity_element(how: str, dtype: JaxDtype) -> JaxArray:
    """Returns the number that changes nothing: 0 for a sum, the largest number for a minimum."""
    from jax import numpy as jnp

    if how in ("add", "multiply"):
        return jnp.asarray(0 if how == "add" else 1, dtype)
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.asarray(jnp.inf if how == "min" else -jnp.inf, dtype)
    info = jnp.iinfo(dtype)
    return jnp.asarray(info.max if how == "min" else info.min, dtype)


def narrow_integers(x: JaxArray) -> JaxArray:
    """Returns 64-bit integers as 32-bit ones where TensorFlow Lite is to divide them: lengths and positions, which fit."""
    from jax import numpy as jnp

    return x.astype(jnp.int32) if _IS_TARGET.get() and x.dtype == jnp.int64 else x
