"""Fourier transforms."""

from __future__ import annotations

from typing import Any

from jax import numpy as jnp

from equipoise.exporters.lowering.registry import op

_FORWARD = {0: "backward", 1: "ortho", 2: "forward"}
_BACKWARD = {0: "forward", 1: "ortho", 2: "backward"}


@op("aten._fft_r2c")
def fft_r2c(x: Any, dim: Any, normalization: int, onesided: bool) -> Any:
    function = jnp.fft.rfftn if onesided else jnp.fft.fftn
    return function(x, axes=tuple(dim), norm=_FORWARD[normalization])


@op("aten._fft_c2c")
def fft_c2c(x: Any, dim: Any, normalization: int, forward: bool) -> Any:
    if forward:
        return jnp.fft.fftn(x, axes=tuple(dim), norm=_FORWARD[normalization])
    return jnp.fft.ifftn(x, axes=tuple(dim), norm=_BACKWARD[normalization])


@op("aten._fft_c2r")
def fft_c2r(x: Any, dim: Any, normalization: int, last_dim_size: Any) -> Any:
    sizes = [*(x.shape[axis] for axis in dim[:-1]), last_dim_size]
    return jnp.fft.irfftn(x, s=sizes, axes=tuple(dim), norm=_BACKWARD[normalization])
