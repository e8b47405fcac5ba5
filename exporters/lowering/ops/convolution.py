"""Convolutions."""

from __future__ import annotations

from jax import lax
from jax import numpy as jnp

from equipoise.convert.core.framework_types import JaxArray
from equipoise.exporters.lowering.dims import floordiv
from equipoise.exporters.lowering.dtypes import accumulation_dtype
from equipoise.exporters.lowering.ops.matmul import HIGHEST_PRECISION
from equipoise.exporters.lowering.registry import op


@op("aten.convolution")
def convolution(
    x: JaxArray,
    weight: JaxArray,
    bias: JaxArray,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> JaxArray:
    """``x`` [batch, channels, ...]; ``weight`` [outputs, inputs // groups, ...], or inputs first if transposed."""
    rank = x.ndim - 2
    stride, padding, dilation, output_padding = (
        list(one) * rank if len(one) == 1 else list(one)
        for one in (stride, padding, dilation, output_padding)
    )
    sizes = weight.shape[2:]
    reach = [step * (size - 1) for step, size in zip(dilation, sizes, strict=True)]
    if transposed:
        weight = _flip_kernel(weight, groups)
        around = [
            (far - pad, far - pad + more)
            for far, pad, more in zip(reach, padding, output_padding, strict=True)
        ]
        steps, spread = [1] * rank, stride
    else:
        x, around = _crop(x, stride, padding, [far + 1 for far in reach])
        steps, spread = stride, [1] * rank
    made = lax.conv_general_dilated(
        x,
        weight,
        steps,
        around,
        lhs_dilation=spread,
        rhs_dilation=dilation,
        feature_group_count=groups,
        precision=HIGHEST_PRECISION,
        preferred_element_type=accumulation_dtype(x.dtype),
    )
    if bias is not None:
        made = made + bias.reshape(1, -1, *[1] * rank)
    return made.astype(x.dtype)


def _crop(
    x: JaxArray, stride: list[int], padding: list[int], reach: list[int]
) -> tuple[JaxArray, list[tuple[int, int]]]:
    """Removes what no window reaches at the end of a dynamic axis, since JAX's gradient needs to know how much that is.

    Args:
        x: The input.
        stride: Stride of each spatial axis.
        padding: Padding at both ends of each spatial axis.
        reach: Number of positions that one output covers on each axis.
    """
    around = [(pad, pad) for pad in padding]
    for index, (step, pad, size) in enumerate(zip(stride, padding, reach, strict=True)):
        axis = index + 2
        if step == 1 or isinstance(x.shape[axis], int):
            continue
        whole = x.shape[axis] + 2 * pad
        reached = floordiv(whole - size, step) * step + size
        # What is cut off is negative padding: of a slice JAX would ask whether it lies within.
        config = [
            (pad, pad + reached - whole, 0) if one == axis else (0, 0, 0) for one in range(x.ndim)
        ]
        x = lax.pad(x, jnp.zeros((), x.dtype), config)
        around[index] = (0, 0)
    return x, around


def _flip_kernel(weight: JaxArray, groups: int) -> JaxArray:
    """Returns the kernel of the convolution that equals a transposed one: mirrored, outputs first."""
    inputs, outputs = weight.shape[:2]
    sizes = weight.shape[2:]
    weight = jnp.flip(weight, tuple(range(2, weight.ndim)))
    grouped = weight.reshape(groups, inputs // groups, outputs, *sizes)
    return jnp.swapaxes(grouped, 1, 2).reshape(groups * outputs, inputs // groups, *sizes)
