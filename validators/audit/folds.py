"""Weights that are computed of several tensors when constants are folded.

Batch normalization within a convolution, weight normalization, a scale of rows or of all elements, and biases that took in what
stood before or behind their layer. What is computed is equal up to the roundings of float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from equipoise.convert.core.arrays import Array
from equipoise.validators.audit.arrangements import arrangements, sample_places, take_flat
from equipoise.validators.audit.pieces import Explanation
from equipoise.validators.audit.source import SourceWeights

_EPSILONS = (1e-5, 1e-3, 1e-12, 1e-6, 1e-4, 2e-5, 1e-8)
"""Values of epsilon of batch normalizations."""
_TOLERANCE = 2e-5
"""Relative to the largest value."""
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_NORM_PAIRS = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)
_FLOAT = np.dtype(np.float32)
_MAX_CANDIDATES = 4096
"""Tensors and vectors that are multiplied with each other; beyond, a fold is not looked for."""


@dataclass(frozen=True)
class RowScale:
    """A factor for every row of a tensor.

    Attributes:
        names: The tensors that it is made of.
        how: The operation.
        factors: The factors.
        shift: What is added to the layer's bias, times the factors; zeros if nothing is.
    """

    names: tuple[str, ...]
    how: str
    factors: Array
    shift: Array


class FoldFinder:
    """Finds weights that are computed of several tensors.

    Args:
        source: The tensors.
    """

    def __init__(self, source: SourceWeights) -> None:
        self._source = source

    def explain(self, found: Array) -> Explanation | None:
        """Returns what a weight is computed of; None if it is nothing known."""
        values = found.astype(np.float64)
        if not np.isfinite(values).all():
            return None
        if values.squeeze().ndim <= 1:
            flat = values.reshape(-1)
            return self._explain_scaled_bias(flat) or self._explain_sum(flat)
        return (
            self._explain_normalized(values)
            or self._explain_scaled(values)
            or self._explain_sums(values)
        )

    @cached_property
    def _row_scales(self) -> dict[int, list[RowScale]]:
        """The factors of batch normalizations and all other vectors, by their number of elements."""
        found: dict[int, list[RowScale]] = {}
        for scale in (*self._batch_norms(), *self._layer_scales()):
            found.setdefault(scale.factors.size, []).append(scale)
        return found

    def _batch_norms(self) -> Iterator[RowScale]:
        refs = self._source.refs
        for name in refs:
            path = name.removesuffix(".running_mean")
            names = tuple(f"{path}.{leaf}" for leaf in _STATISTICS)
            if path != name and all(one in refs for one in names):
                weight, bias, mean, variance = map(self._read, names)
                for epsilon in _EPSILONS:
                    factors = weight / np.sqrt(variance + epsilon)
                    shift = bias - mean * factors
                    yield RowScale(names, "batch normalization folded", factors, shift)

    def _layer_scales(self) -> Iterator[RowScale]:
        for name, vector in self._vectors():
            yield RowScale((name,), "scaled by a vector", vector, np.zeros(vector.size))

    def _vectors(self) -> Iterator[tuple[str, Array]]:
        for name, ref in self._source.refs.items():
            if sum(size > 1 for size in ref.shape) == 1 and ref.dtype.kind == "f":
                yield name, self._read(name).reshape(-1)

    def _read(self, name: str) -> Array:
        return self._source.read(name).astype(np.float64)

    def _explain_scaled_bias(self, found: Array) -> Explanation | None:
        """Explains a vector as a bias behind which a scale of rows was folded."""
        own = [(name, self._read(name).reshape(-1)) for name in self._of_size(found.size)]
        for scale in self._row_scales.get(found.size, ()):
            if scale.shift.any() and _is_close(found, scale.shift):
                return Explanation(scale.names, scale.how)
            for name, bias in own:
                if name not in scale.names and _is_close(found, scale.shift + bias * scale.factors):
                    return Explanation((name, *scale.names), scale.how)
        return None

    def _explain_sum(self, found: Array) -> Explanation | None:
        """Explains a vector as a bias before which a shift was folded, or as the sum of two rows of tensors."""
        vectors: dict[int, list[tuple[str, Array]]] = {}
        for name, vector in self._vectors():
            vectors.setdefault(vector.size, []).append((name, vector))
        for name, bias in vectors.get(found.size, ()):
            weight = f"{name.removesuffix('bias')}weight"
            shape = self._source.refs[weight].shape if weight in self._source.refs else ()
            shifts = vectors.get(shape[-1], []) if len(shape) == 2 and shape[0] == found.size else []
            if weight == name or not shifts:
                continue
            added = self._read(weight) @ np.stack([vector for _, vector in shifts], axis=1)
            for column, (other, _) in enumerate(shifts):
                if _is_close(found, bias + added[:, column]):
                    return Explanation((name, weight, other), "shift folded into the bias")
        return self._explain_sums(found.reshape(1, -1))

    def _explain_sums(self, found: Array) -> Explanation | None:
        """Explains rows as rows of one tensor plus a row of another, position by position or all the same."""
        rows = found.reshape(-1, found.shape[-1])
        tables = [
            (name, ref.size // rows.shape[1])
            for name, ref in self._source.refs.items()
            if ref.shape and ref.shape[-1] == rows.shape[1] and ref.dtype.kind == "f"
        ]
        if len(tables) > _MAX_CANDIDATES:
            return None
        for name, count in tables:
            if count > rows.shape[1] and count > len(rows) * 64:
                continue
            base = self._read(name).reshape(count, -1)
            for first in range(min(count, _MAX_FIRST_ROWS)):
                rest = rows[0] - base[first]
                other = self._row_near(tables, rest, float(np.abs(rows[0]).max()), name)
                if other is None:
                    continue
                added = rows - other[1]
                if len(rows) == 1 or _is_close(base[first : first + len(rows)], added):
                    return Explanation((name, other[0]), "sum of two tensors")
        return None

    def _row_near(
        self, tables: list[tuple[str, int]], row: Array, scale: float, but: str
    ) -> tuple[str, Array] | None:
        """Returns the tensor with one or two rows that holds a row, and that row."""
        for name, count in tables:
            if name != but and count <= _MAX_FIRST_ROWS:
                for one in self._read(name).reshape(count, -1):
                    if (np.abs(one - row) <= _TOLERANCE * scale).all() and one.any():
                        return name, one
        return None

    def _explain_normalized(self, found: Array) -> Explanation | None:
        """Explains a kernel as direction and length of weight normalization."""
        refs = self._source.refs
        for length_leaf, direction_leaf in _NORM_PAIRS:
            for name in refs:
                path = name.removesuffix(direction_leaf)
                length_name = path + length_leaf
                if path == name or length_name not in refs or refs[name].size != found.size:
                    continue
                length, direction = self._read(length_name), self._read(name)
                axes = tuple(axis for axis, size in enumerate(length.shape) if size == 1)
                norm = np.sqrt((direction**2).sum(axis=axes, keepdims=True))
                for turned, _ in arrangements(direction / norm * length, found):
                    if _is_close(found.reshape(turned.shape), turned):
                        return Explanation((length_name, name), "weight normalization folded")
        return None

    def _explain_scaled(self, found: Array) -> Explanation | None:
        """Explains a weight as a tensor times one number, or times a factor for every row."""
        places = sample_places(found.size)
        sample = take_flat(found, places)
        for name in self._of_size(found.size):
            values = self._read(name)
            for turned, _ in arrangements(values, found):
                whole = found.reshape(turned.shape)
                factor = _common_factor(sample, take_flat(turned, places))
                if factor is not None and _is_known_factor(factor, values.shape):
                    if _is_close(whole, turned * factor):
                        return Explanation((name,), f"times {factor:.6g}")
                elif (scale := self._scale_between(whole, turned)) is not None:
                    return Explanation((name, *scale.names), scale.how)
        return None

    def _of_size(self, size: int) -> list[str]:
        return list(self._source.of_size(size, _FLOAT))

    def _scale_between(self, found: Array, source: Array) -> RowScale | None:
        """Returns the factors of rows that lie between two arrays of one shape."""
        for axis, size in enumerate(found.shape):
            scales = self._row_scales.get(size)
            if not scales:
                continue
            shape = [1] * found.ndim
            shape[axis] = size
            others = tuple(one for one in range(found.ndim) if one != axis)
            weight = (source**2).sum(axis=others)
            ratio = np.divide(
                (found * source).sum(axis=others), weight, out=np.zeros(size), where=weight > 0
            )
            if _is_close(found, source * ratio.reshape(shape)):
                for scale in scales:
                    if _is_close(found, source * scale.factors.reshape(shape)):
                        return scale
        return None


_MAX_FIRST_ROWS = 2
"""Rows of a tensor that are tried as the first one, or as the one that is added: class tokens, token types."""


def _common_factor(found: Array, source: Array) -> float | None:
    """Returns the factor between two samples; None if there is no single one."""
    place = int(np.abs(source).argmax())
    if not source[place]:
        return None
    factor = float(found[place] / source[place])
    return factor if factor and _is_close(found, source * factor) else None


def _is_known_factor(factor: float, shape: tuple[int, ...]) -> bool:
    """Whether a factor is the root of a size or of its part, a power of two, one over that, or pi times a power of two.

    Attention and embeddings are scaled so, and angles.

    >>> [_is_known_factor(one, (64, 768)) for one in (8.0, 0.125, 768**0.5, 1.01, 3.7)]
    [True, True, True, False, False]
    """
    turns = math.log2(abs(factor) / math.pi)
    if abs(turns - round(turns)) <= 1e-6:
        return True
    for square in (factor * factor, 1 / (factor * factor)):
        nearest = round(square)
        if nearest > 1 and abs(square - nearest) <= 1e-5 * square:
            is_power = nearest & (nearest - 1) == 0
            return is_power or any(size % nearest == 0 for size in shape)
    return False


def _is_close(found: Array, wanted: Array) -> bool:
    if found.shape != wanted.shape:
        return False
    scale = float(np.abs(wanted).max(initial=0.0))
    return bool((np.abs(found - wanted) <= _TOLERANCE * scale).all())
