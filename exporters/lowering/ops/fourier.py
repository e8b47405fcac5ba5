"""Fourier transforms."""

from __future__ import annotations

from jax import lax
from jax import numpy as jnp

from equipoise.convert.core.framework_types import AtenAxes, AtenScalar, JaxArray
from equipoise.exporters.lowering.dims import is_symbolic, normalize_axes
from equipoise.exporters.lowering.ops.matmul import HIGHEST_PRECISION
from equipoise.exporters.lowering.registry import op

_FORWARD_NORMS = {0: "backward", 1: "ortho", 2: "forward"}
_BACKWARD_NORMS = {0: "forward", 1: "ortho", 2: "backward"}


@op("aten._fft_r2c")
def fft_r2c(x: JaxArray, dim: AtenAxes, normalization: int, onesided: bool) -> JaxArray:
    if any(is_symbolic(x.shape[axis]) for axis in normalize_axes(list(dim), x.ndim)):
        made = _dft_by_matmul(x, dim, normalization, -1)
        last = normalize_axes(list(dim), x.ndim)[-1]
        return lax.slice_in_dim(made, 0, x.shape[last] // 2 + 1, axis=last) if onesided else made
    function = jnp.fft.rfftn if onesided else jnp.fft.fftn
    return function(x, axes=tuple(dim), norm=_FORWARD_NORMS[normalization])


@op("aten._fft_c2c")
def fft_c2c(x: JaxArray, dim: AtenAxes, normalization: int, forward: bool) -> JaxArray:
    if any(is_symbolic(x.shape[axis]) for axis in normalize_axes(list(dim), x.ndim)):
        return _dft_by_matmul(x, dim, normalization, -1 if forward else 1)
    if forward:
        return jnp.fft.fftn(x, axes=tuple(dim), norm=_FORWARD_NORMS[normalization])
    return jnp.fft.ifftn(x, axes=tuple(dim), norm=_BACKWARD_NORMS[normalization])


@op("aten._fft_c2r")
def fft_c2r(x: JaxArray, dim: AtenAxes, normalization: int, last_dim_size: AtenScalar) -> JaxArray:
    sizes = [*(x.shape[axis] for axis in dim[:-1]), last_dim_size]
    return jnp.fft.irfftn(x, s=sizes, axes=tuple(dim), norm=_BACKWARD_NORMS[normalization])


def _dft_by_matmul(x: JaxArray, dim: AtenAxes, normalization: int, sign: int) -> JaxArray:
    """Computes the transform by matrix products: on GPUs and TPUs JAX's own needs to know the size.

    Args:
        x: The values.
        dim: The axes.
        normalization: ATen's number: 0 none, 1 divides by the root of the size, 2 by the size.
        sign: Sign of the exponent.
    """
    made = x.astype(jnp.result_type(x.dtype, jnp.complex64))
    exact = jnp.float32 if made.dtype == jnp.complex64 else jnp.float64
    for axis in normalize_axes(list(dim), x.ndim):
        size = x.shape[axis]
        places = jnp.arange(size)
        turns = (
            places[:, None] * places[None, :]
        ) % size  # whole turns out, before there are fractions
        angles = (turns * (2 * jnp.pi / jnp.asarray(size, jnp.float64))).astype(exact)
        scale = jnp.asarray(size, exact) ** (-normalization / 2)
        matrix = lax.complex(jnp.cos(angles), sign * jnp.sin(angles)) * scale
        made = jnp.moveaxis(
            jnp.matmul(jnp.moveaxis(made, axis, -1), matrix, precision=HIGHEST_PRECISION), -1, axis
        )
    return made
