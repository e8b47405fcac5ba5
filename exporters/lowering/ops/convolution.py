"""Convolutions."""

from __future__ import annotations

from typing import Any

from jax import lax
from jax import numpy as jnp

from equipoise.exporters.lowering.ops.matmul import EXACT
from equipoise.exporters.lowering.registry import op


@op("aten.convolution", "aten._convolution")
def convolution(
    x: Any,
    weight: Any,
    bias: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    *_: Any,
) -> Any:
    """``x`` [batch, channels, ...]; ``weight`` [outputs, inputs // groups, ...], inputs first where transposed."""
    alone = x.ndim == weight.ndim - 1
    x = x[None] if alone else x
    rank = x.ndim - 2
    stride, padding, dilation, output_padding = (
        list(one) * rank if len(one) == 1 else list(one)
        for one in (stride, padding, dilation, output_padding)
    )
    sizes = weight.shape[2:]
    reach = [step * (size - 1) for step, size in zip(dilation, sizes, strict=True)]
    if transposed:
        weight = _turned(weight, groups)
        around = [
            (far - pad, far - pad + more)
            for far, pad, more in zip(reach, padding, output_padding, strict=True)
        ]
        steps, spread = [1] * rank, stride
    else:
        around = [(pad, pad) for pad in padding]
        steps, spread = stride, [1] * rank
    made = lax.conv_general_dilated(
        x,
        weight,
        steps,
        around,
        lhs_dilation=spread,
        rhs_dilation=dilation,
        feature_group_count=groups,
        precision=EXACT,
    )
    if bias is not None:
        made = made + bias.reshape(1, -1, *[1] * rank)
    return made[0] if alone else made


def _turned(weight: Any, groups: int) -> Any:
    """The weight of the convolution that does what a transposed one does: mirrored, outputs first."""
    inputs, outputs = weight.shape[:2]
    sizes = weight.shape[2:]
    weight = jnp.flip(weight, tuple(range(2, weight.ndim)))
    grouped = weight.reshape(groups, inputs // groups, outputs, *sizes)
    return jnp.swapaxes(grouped, 1, 2).reshape(groups * outputs, inputs // groups, *sizes)


@op("aten.conv1d", "aten.conv2d", "aten.conv3d")
def conv(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = (1,),
    padding: Any = (0,),
    dilation: Any = (1,),
    groups: int = 1,
) -> Any:
    """Plain convolutions; ``padding`` may be ``same``, whose odd cell is at the end, or ``valid``."""
    rank = weight.ndim - 2
    if padding == "same":
        steps = list(dilation) * rank if len(dilation) == 1 else list(dilation)
        reach = [step * (size - 1) for step, size in zip(steps, weight.shape[2:], strict=True)]
        around = [(0, 0)] * (x.ndim - rank) + [(far // 2, far - far // 2) for far in reach]
        x, padding = jnp.pad(x, around), [0]
    if padding == "valid":
        padding = [0]
    return convolution(x, weight, bias, stride, padding, dilation, False, [0], groups)
