"""Computes tensors that follow from the config, so that no checkpoint has to store them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from equipoise.convert.core.arrays import Array, DType, Shape


def sinusoidal_positions(shape: Shape) -> Array:
    """Returns sinusoidal position embeddings with the sines in the first half; float32 of shape ``[positions, width]``.

    As ``MarianSinusoidalPositionalEmbedding`` and ``TFMarianSinusoidalPositionalEmbedding`` of transformers
    4.57.6 build them: angles in float64, rounded to float32 once.
    """
    positions, width = shape
    powers = np.array([2 * (column // 2) / width for column in range(width)])
    angles = np.arange(positions)[:, None] / np.power(10000, powers)
    half = width // 2 + width % 2
    table = np.zeros(shape, np.float32)
    table[:, :half] = np.sin(angles[:, 0::2])
    table[:, half:] = np.cos(angles[:, 1::2])
    return table


def interleaved_sinusoidal_positions(shape: Shape) -> Array:
    """Returns sinusoidal position embeddings, sines at even and cosines at odd columns; float32 of shape ``[positions, width]``.

    As ``create_sinusoidal_embeddings`` of DistilBERT in transformers 4.57.6.
    """
    positions, width = shape
    powers = np.array([2 * (column // 2) / width for column in range(width)])
    angles = np.arange(positions)[:, None] / np.power(10000, powers)
    table = np.zeros(shape, np.float32)
    table[:, 0::2] = np.sin(angles[:, 0::2])
    table[:, 1::2] = np.cos(angles[:, 1::2])
    return table


def rotary_frequencies(shape: Shape, base: float = 10000.0) -> Array:
    """Returns rotary embedding frequencies, ``base ** (-i / count)``; float32 of shape ``[count]``.

    As ESM and Transformer-XL of transformers 4.57.6 build them, up to the last bit of ``torch.pow``.
    """
    (count,) = shape
    powers = np.arange(0, 2 * count, 2, dtype=np.float32) / np.float32(2 * count)
    bases = np.power(base, powers.astype(np.float64)).astype(np.float32)
    frequencies: Array = np.float32(1) / bases
    return frequencies


def axial_rotary_cosines(shape: Shape, base: float, scale: float) -> Array:
    """Returns the cosines of rotary embeddings in a square; float32 of shape ``[area, width]``.

    As ``Sam3ViTRotaryEmbedding`` of transformers 5.24: columns in the first half of the width and rows in the second, counted in steps
    of ``scale``, and each frequency twice.
    """
    return np.cos(_axial_angles(shape, base, scale))


def axial_rotary_sines(shape: Shape, base: float, scale: float) -> Array:
    """Returns the sines where :func:`axial_rotary_cosines` returns the cosines."""
    return np.sin(_axial_angles(shape, base, scale))


def _axial_angles(shape: Shape, base: float, scale: float) -> Array:
    area, width = shape
    frequencies = 1.0 / base ** (np.arange(0, width, 4) / width)
    rows, columns = np.divmod(np.arange(area), math.isqrt(area))
    halves = [np.outer(one * scale, frequencies) for one in (columns, rows)]
    return np.repeat(np.concatenate(halves, axis=-1).astype(np.float32), 2, axis=-1)


def relative_window_positions(shape: Shape) -> Array:
    """Returns relative position indices within a square window, row-major; int64 of shape ``[area, area]``.

    As ``relative_position_index`` of Swin in transformers 4.57.6.
    """
    side = math.isqrt(shape[0])
    rows, columns = np.divmod(np.arange(side * side), side)
    down = rows[:, None] - rows[None, :] + side - 1
    right = columns[:, None] - columns[None, :] + side - 1
    positions: Array = (down * (2 * side - 1) + right).astype(np.int64)
    return positions


def relative_distance_numbers(shape: Shape) -> Array:
    """Returns an index for every pair of positions in a square, one for each distance; int64 of shape ``[area, area]``.

    As ``attention_bias_idxs`` of EfficientFormer in transformers 4.57.6: a distance (rows, columns) gets the next
    index when it first occurs.
    """
    side = math.isqrt(shape[0])
    rows, columns = np.divmod(np.arange(side * side), side)
    down = np.abs(rows[:, None] - rows[None, :])
    right = np.abs(columns[:, None] - columns[None, :])
    distances = (down * side + right).ravel()
    numbers = {
        distance: number for number, distance in enumerate(dict.fromkeys(distances.tolist()))
    }
    return np.array([numbers[one] for one in distances.tolist()], np.int64).reshape(shape)


def zeros(shape: Shape) -> Array:
    """Returns float32 zeros of a shape."""
    return np.zeros(shape, np.float32)


GENERATORS: Mapping[str, Callable[..., Array]] = {
    "sinusoidal": sinusoidal_positions,
    "sinusoidal_interleaved": interleaved_sinusoidal_positions,
    "rotary_frequencies": rotary_frequencies,
    "axial_rotary_cosines": axial_rotary_cosines,
    "axial_rotary_sines": axial_rotary_sines,
    "window_positions": relative_window_positions,
    "offset_positions": relative_distance_numbers,
    "zeros": zeros,
    "unused": zeros,
}
"""The generators that a spec may name under ``[computed]``; an ``unused`` tensor may have any stored value."""


APPROXIMATE_GENERATORS = frozenset((
    "rotary_frequencies", "axial_rotary_cosines", "axial_rotary_sines",
))  # fmt: skip
"""Generators whose last bit depends on the library that computes them (``torch.pow`` against ``numpy.power``)."""


def is_approximate(name: str) -> bool:
    """Whether the last bit of a generator's values depends on the library that computes them."""
    return name.partition("(")[0] in APPROXIMATE_GENERATORS


def compute_tensor(name: str, shape: Shape, dtype: DType) -> Array:
    """Computes a tensor by the name of its generator, which may have numbers: ``rotary_frequencies(500000.0)``."""
    generator, _, texts = name.partition("(")
    numbers = [float(one) for one in texts.removesuffix(")").split(",") if one]
    return GENERATORS[generator](shape, *numbers).astype(dtype)
