"""Pooling and interpolation over the last axes."""

from __future__ import annotations

import numpy as np
from jax import lax
from jax import numpy as jnp

from equipoise.convert.core.framework_types import AtenScalar, AtenSizes, JaxArray, JaxDtype
from equipoise.exporters.lowering.dims import floordiv, min_dim
from equipoise.exporters.lowering.dtypes import accumulation_dtype
from equipoise.exporters.lowering.registry import op


def _per_axis(values: JaxArray, rank: int) -> list[JaxArray]:
    given = list(values) if isinstance(values, (list, tuple)) else [values]
    return given * rank if len(given) == 1 else given


def _windows(
    x: JaxArray,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil: bool,
) -> tuple[list[tuple[JaxArray, JaxArray]], list[JaxArray]]:
    """Returns the padding at both ends of the last axes and the number of windows."""
    around, counts = [], []
    for axis, (size, step, pad, spread) in enumerate(
        zip(kernel, stride, padding, dilation, strict=True)
    ):
        length = x.shape[x.ndim - len(kernel) + axis]
        reach = spread * (size - 1) + 1
        free = length + 2 * pad - reach
        count = (-floordiv(-free, step) if ceil else floordiv(free, step)) + 1
        if ceil and step + pad > reach:
            # None begins behind the last cell.
            count = min_dim(count, -floordiv(-(length + pad), step))
        more = (count - 1) * step + reach - length - 2 * pad if ceil else 0
        around.append((pad, pad + (max(more, 0) if isinstance(more, int) else more)))
        counts.append(count)
    return around, counts


@op("aten.max_pool2d_with_indices", "aten.max_pool3d_with_indices")
def max_pool_with_indices(
    x: JaxArray,
    kernel_size: AtenSizes,
    stride: AtenSizes = (),
    padding: AtenSizes = 0,
    dilation: AtenSizes = 1,
    ceil_mode: bool = False,
) -> JaxArray:
    """Returns the largest value of each window and its index in the flattened plane: the first among equals."""
    rank = max(len(kernel_size), 2)
    kernel, step = _per_axis(kernel_size, rank), _per_axis(stride or kernel_size, rank)
    pads, spread = _per_axis(padding, rank), _per_axis(dilation, rank)
    around, counts = _windows(x, kernel, step, pads, spread, ceil_mode)
    lowest = jnp.asarray(
        -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min, x.dtype
    )
    lead = x.ndim - rank
    padded = lax.pad(x, lowest, [(0, 0, 0)] * lead + [(*pair, 0) for pair in around])
    plane = x.shape[lead:]
    place: JaxArray = 0
    for axis in range(rank):
        along = jnp.arange(padded.shape[lead + axis]) - pads[axis]
        shape = [1] * rank
        shape[axis] = -1
        place = place * plane[axis] + along.reshape(shape)
    best: JaxArray = None
    for offset in np.ndindex(*kernel):
        cut = [
            (first * wide_, first * wide_ + (count - 1) * jump + 1, jump)
            for first, wide_, count, jump in zip(offset, spread, counts, step, strict=True)
        ]
        value, where = padded, jnp.broadcast_to(place, padded.shape[lead:])
        for axis, (first, last, jump) in enumerate(cut):
            value = lax.slice_in_dim(value, first, last, jump, lead + axis)
            where = lax.slice_in_dim(where, first, last, jump, axis)
        where = jnp.broadcast_to(where, value.shape)
        if best is None:
            best = (value, where)
        else:
            wins = (value > best[0]) | jnp.isnan(value)
            best = (jnp.where(wins, value, best[0]), jnp.where(wins, where, best[1]))
    return best


def _avg_pool(
    x: JaxArray,
    kernel_size: AtenSizes,
    stride: AtenSizes,
    padding: AtenSizes,
    ceil: bool,
    counts_pad: bool,
    divisor: AtenScalar,
    rank: int,
) -> JaxArray:
    kernel, step = _per_axis(kernel_size, rank), _per_axis(stride or kernel_size, rank)
    pads = _per_axis(padding, rank)
    around, _ = _windows(x, kernel, step, pads, [1] * rank, ceil)
    lead = x.ndim - rank
    window = (*[1] * lead, *kernel)
    strides = (*[1] * lead, *step)
    given = x.astype(accumulation_dtype(x.dtype))

    def total(values: JaxArray, pairs: AtenSizes) -> JaxArray:
        # A number and no array of the program: so JAX sees that it is a sum, which has a gradient.
        zero = np.zeros((), values.dtype)
        return lax.reduce_window(
            values, zero, lax.add, window, strides, [(0, 0)] * lead + list(pairs)
        )

    made = total(given, around)
    if divisor:
        return (made / divisor).astype(x.dtype)
    ones = jnp.ones((*[1] * lead, *x.shape[lead:]), given.dtype)
    if counts_pad:
        # Cells that only the rounding up added do not count.
        ones = jnp.pad(ones, [(0, 0)] * lead + [(pad, pad) for pad in pads], constant_values=1)
        around = [(0, more - pad) for (_, more), pad in zip(around, pads, strict=True)]
    return (made / total(ones, around)).astype(x.dtype)


@op("aten.avg_pool2d")
def avg_pool2d(
    x: JaxArray,
    kernel_size: AtenSizes,
    stride: AtenSizes = (),
    padding: AtenSizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: AtenScalar = None,
) -> JaxArray:
    return _avg_pool(
        x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, 2
    )


@op("aten.avg_pool3d")
def avg_pool3d(
    x: JaxArray,
    kernel_size: AtenSizes,
    stride: AtenSizes = (),
    padding: AtenSizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: AtenScalar = None,
) -> JaxArray:
    return _avg_pool(
        x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, 3
    )


@op("aten._adaptive_avg_pool2d", "aten._adaptive_avg_pool3d")
def adaptive_avg_pool(x: JaxArray, output_size: AtenSizes) -> JaxArray:
    """Each output is the mean from ``floor(i * size / cells)`` to ``ceil((i + 1) * size / cells)``."""
    made = x.astype(accumulation_dtype(x.dtype))
    lead = x.ndim - len(output_size)
    for axis, cells in enumerate(output_size):
        weights = _adaptive_weights(x.shape[lead + axis], cells, made.dtype)
        made = jnp.moveaxis(
            jnp.tensordot(made, weights, (lead + axis, 0), precision="highest"), -1, lead + axis
        )
    return made.astype(x.dtype)


def _adaptive_weights(size: AtenSizes, cells: JaxArray, dtype: JaxDtype) -> JaxArray:
    """Returns the weight of each of ``size`` values in each output."""
    cell, place = jnp.arange(cells), jnp.arange(size)[:, None]
    first, last = cell * size // cells, -(-(cell + 1) * size // cells)
    inside = (place >= first) & (place < last)
    return inside.astype(dtype) / (last - first)


def _scale_factors(x: JaxArray, sizes: AtenSizes, align: bool, given: JaxArray) -> list[JaxArray]:
    """Returns the input positions for one output position, for each axis."""
    lead = x.ndim - len(sizes)
    found = []
    for axis, out in enumerate(sizes):
        size = x.shape[lead + axis]
        if align:
            found.append(
                (size - 1) / jnp.maximum(jnp.asarray(out, jnp.float32) - 1, 1)
                if out != 1
                else jnp.float32(0)
            )
        elif given is not None and given[axis]:
            found.append(jnp.float32(1.0 / given[axis]))
        else:
            found.append(jnp.asarray(size, jnp.float32) / jnp.asarray(out, jnp.float32))
    return found


def _output_sizes(x: JaxArray, size: AtenSizes, factors: AtenSizes) -> list[JaxArray]:
    """Returns the output sizes: given, or the input sizes times the factors."""
    if size is not None:
        return list(size)
    return [
        _scaled_size(length, factor) for length, factor in zip(x.shape[2:], factors, strict=True)
    ]


def _scaled_size(size: AtenSizes, factor: float) -> JaxArray:
    """Rounds down; a dynamic size must be scaled without a fraction."""
    if isinstance(size, int):
        return int(size * factor)
    over, under = float(factor).as_integer_ratio()
    return size * over // under


def _nearest_along(x: JaxArray, sizes: AtenSizes, factors: AtenSizes) -> JaxArray:
    lead = x.ndim - len(sizes)
    for axis, (out, scale) in enumerate(
        zip(sizes, _scale_factors(x, sizes, False, factors), strict=True)
    ):
        place = (jnp.arange(out) * scale).astype(jnp.int64)
        x = jnp.take(x, place, lead + axis)
    return x


@op("aten.upsample_nearest2d.vec")
def upsample_nearest_vec(x: JaxArray, output_size: AtenSizes, scale_factors: AtenSizes) -> JaxArray:
    return _nearest_along(x, _output_sizes(x, output_size, scale_factors), scale_factors)


def _linear_along(x: JaxArray, sizes: AtenSizes, align: bool, factors: AtenSizes) -> JaxArray:
    lead = x.ndim - len(sizes)
    made = x
    for axis, (out, scale) in enumerate(
        zip(sizes, _scale_factors(x, sizes, align, factors), strict=True)
    ):
        length = made.shape[lead + axis]
        place = jnp.arange(out, dtype=jnp.float32)
        place = place * scale if align else jnp.maximum((place + 0.5) * scale - 0.5, 0)
        low = jnp.minimum(place.astype(jnp.int64), length - 1)
        high = jnp.minimum(low + 1, length - 1)
        share = (place - low).reshape(-1, *[1] * (made.ndim - lead - axis - 1))
        first, second = (jnp.take(made, where, lead + axis) for where in (low, high))
        made = first * (1 - share) + second * share
    return made.astype(x.dtype)


@op("aten.upsample_bilinear2d.default", "aten.upsample_trilinear3d.default")
def upsample_linear(
    x: JaxArray, output_size: AtenSizes, align_corners: bool, *factors: AtenSizes
) -> JaxArray:
    return _linear_along(x, output_size, align_corners, factors or None)


@op("aten.upsample_bilinear2d.vec")
def upsample_linear_vec(
    x: JaxArray, output_size: AtenSizes, align_corners: bool, scale_factors: AtenSizes
) -> JaxArray:
    sizes = _output_sizes(x, output_size, scale_factors)
    return _linear_along(x, sizes, align_corners, scale_factors)


def _cubic_kernel(distance: JaxArray, a: float) -> JaxArray:
    """Returns the weight of a value at a distance from 0 to 2."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return jnp.where(distance <= 1, near, jnp.where(distance < 2, far, 0))


@op("aten.upsample_bicubic2d.default")
def upsample_bicubic2d(
    x: JaxArray, output_size: AtenSizes, align_corners: bool, *factors: AtenSizes
) -> JaxArray:
    lead = x.ndim - 2
    made = x
    scales = _scale_factors(x, output_size, align_corners, factors or None)
    for axis, (out, scale) in enumerate(zip(output_size, scales, strict=True)):
        length = made.shape[lead + axis]
        place = jnp.arange(out, dtype=jnp.float32)
        place = place * scale if align_corners else (place + 0.5) * scale - 0.5
        low = jnp.floor(place)
        total: JaxArray = 0
        for offset in (-1, 0, 1, 2):
            where = jnp.clip(low.astype(jnp.int64) + offset, 0, length - 1)
            weight = _cubic_kernel(jnp.abs(place - low - offset), -0.75)
            weight = weight.reshape(-1, *[1] * (made.ndim - lead - axis - 1))
            total = total + jnp.take(made, where, lead + axis) * weight
        made = total
    return made.astype(x.dtype)


def _triangle_kernel(distance: JaxArray) -> JaxArray:
    return jnp.maximum(1 - distance, 0)


def _antialias_cubic_kernel(distance: JaxArray) -> JaxArray:
    return _cubic_kernel(distance, -0.5)


def _resample_antialiased(
    x: JaxArray, sizes: AtenSizes, align: bool, factors: AtenSizes, kernel: JaxArray
) -> JaxArray:
    """Averages with a kernel as wide as an output position."""
    lead = x.ndim - 2
    made = x
    for axis, (out, scale) in enumerate(
        zip(sizes, _scale_factors(x, sizes, align, factors), strict=True)
    ):
        length = made.shape[lead + axis]
        width = jnp.maximum(scale, 1.0)
        center = scale * (jnp.arange(out, dtype=jnp.float32) + 0.5)
        place = jnp.arange(length)[:, None]
        weight = kernel(jnp.abs((place - center + 0.5) / width))
        product = jnp.tensordot(
            made, weight / jnp.sum(weight, 0), (lead + axis, 0), precision="highest"
        )
        made = jnp.moveaxis(product, -1, lead + axis)
    return made.astype(x.dtype)


@op("aten._upsample_bilinear2d_aa.default")
def upsample_bilinear2d_aa(
    x: JaxArray, output_size: AtenSizes, align_corners: bool, *factors: AtenSizes
) -> JaxArray:
    return _resample_antialiased(x, output_size, align_corners, factors or None, _triangle_kernel)


@op("aten._upsample_bicubic2d_aa.default")
def upsample_bicubic2d_aa(
    x: JaxArray, output_size: AtenSizes, align_corners: bool, *factors: AtenSizes
) -> JaxArray:
    return _resample_antialiased(
        x, output_size, align_corners, factors or None, _antialias_cubic_kernel
    )


@op("aten.grid_sampler_2d")
def grid_sampler_2d(
    x: JaxArray, grid: JaxArray, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> JaxArray:
    """``x`` [batch, channels, height, width] at ``grid`` [batch, rows, columns, (x, y)], from -1 to 1."""
    height, width = x.shape[2:]
    across = _unnormalize(grid[..., 0], width, align_corners)
    down = _unnormalize(grid[..., 1], height, align_corners)
    total: JaxArray = 0
    if interpolation_mode == 2:
        left, top = jnp.floor(across), jnp.floor(down)
        for row in (-1, 0, 1, 2):
            for column in (-1, 0, 1, 2):
                share = _cubic_kernel(jnp.abs(across - left - column), -0.75)
                share = share * _cubic_kernel(jnp.abs(down - top - row), -0.75)
                # What is outside is dealt with cell by cell, not at the place between them.
                rows = _is_inside(top + row, height, padding_mode, align_corners)
                columns = _is_inside(left + column, width, padding_mode, align_corners)
                total = total + _pixels_at(x, rows, columns) * share[:, None]
        return total
    across = _is_inside(across, width, padding_mode, align_corners)
    down = _is_inside(down, height, padding_mode, align_corners)
    if interpolation_mode == 1:
        return _pixels_at(x, jnp.round(down), jnp.round(across))
    left, top = jnp.floor(across), jnp.floor(down)
    for row in (0, 1):
        for column in (0, 1):
            share = (1 - jnp.abs(across - left - column)) * (1 - jnp.abs(down - top - row))
            total = total + _pixels_at(x, top + row, left + column) * share[:, None]
    return total


def _unnormalize(place: JaxArray, size: AtenSizes, align: bool) -> JaxArray:
    """Converts a coordinate from -1 to 1 to an index."""
    return (place + 1) / 2 * (size - 1) if align else ((place + 1) * size - 1) / 2


def _is_inside(cells: JaxArray, size: AtenSizes, padding_mode: int, align: bool) -> JaxArray:
    """Padding modes for outside coordinates: 0 zeros, 1 border, 2 reflection."""
    if padding_mode == 2:
        low, span = (0.0, size - 1) if align else (-0.5, size)
        away = cells - low
        turns = jnp.floor(away / span)
        rest = away - turns * span
        cells = jnp.where(turns % 2 == 0, rest + low, span - rest + low)
    return jnp.clip(cells, 0, size - 1) if padding_mode else cells


def _pixels_at(x: JaxArray, row: JaxArray, column: JaxArray) -> JaxArray:
    """Returns ``x`` at rows and columns [batch, ...]; zeros outside."""
    height, width = x.shape[2:]
    inside = (row >= 0) & (row <= height - 1) & (column >= 0) & (column <= width - 1)
    rows, columns = (
        jnp.clip(one, 0, size - 1).astype(jnp.int64)
        for one, size in ((row, height), (column, width))
    )
    flat = x.reshape(x.shape[0], x.shape[1], height * width)
    places = (rows * width + columns).reshape(x.shape[0], 1, -1)
    found = jnp.take_along_axis(flat, places, 2).reshape(x.shape[0], x.shape[1], *row.shape[1:])
    return jnp.where(inside[:, None], found, jnp.zeros((), x.dtype))
