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
from equipoise.validators.audit.content.arrangements import arrangements, sample_places, take_flat
from equipoise.validators.audit.content.report import Explanation
from equipoise.validators.audit.content.source import SourceWeights, relative_step

_EPSILONS = (1e-5, 1e-3, 1e-12, 1e-6, 1e-4, 2e-5, 1e-8)
"""Values of epsilon of batch normalizations."""
_TOLERANCE = 2e-5
"""Relative to the largest value; more where the weight's dtype is narrower than float32."""
_ROUNDINGS = 8
_MIN_CHANGE = 0.01
"""Factors nearer to one, and summands nearer to zero, change nothing: they would excuse a weight that is a little wrong."""
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_NORM_PAIRS = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)
_FLOAT = np.dtype(np.float32)
_MAX_FIRST_ROWS = 2
"""Rows of a tensor that are tried as the first one, or as the one that is added: class tokens, token types."""
_MAX_POWER = 12
_MAX_ELEMENTS = 1 << 24
"""Larger weights are embeddings, which nothing is folded into."""
_MAX_CANDIDATES = 4096
"""Tensors and vectors that are multiplied with each other; beyond, a fold is not looked for."""


@dataclass(frozen=True)
class _Tolerance:
    """How far a weight may be from what it is computed as.

    Attributes:
        relative: Relative to the largest value.
        absolute: In addition to that.
    """

    relative: float
    absolute: float

    def holds(self, found: Array, wanted: Array) -> bool:
        """Checks whether two arrays have one shape and are close."""
        if found.shape != wanted.shape:
            return False
        allowed = self.relative * float(np.abs(wanted).max(initial=0.0)) + self.absolute
        return bool((np.abs(found - wanted) <= allowed).all())


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
        self._tolerance = _Tolerance(_TOLERANCE, 0.0)

    def explain(self, found: Array, step: float = 0.0) -> Explanation | None:
        """Returns what a weight is computed of; None if it is nothing known.

        Args:
            found: The weight's values.
            step: Distance of two neighbouring numbers, where the weight is quantized.
        """
        rounding = relative_step(found.dtype)
        self._tolerance = _Tolerance(max(_TOLERANCE, _ROUNDINGS * rounding), step)
        if found.size > _MAX_ELEMENTS or not np.isfinite(values := found.astype(np.float64)).all():
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
            if np.abs(scale.factors - 1).max() > _MIN_CHANGE:
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
            if scale.shift.any() and self._tolerance.holds(found, scale.shift):
                return Explanation(scale.names, scale.how)
            for name, bias in own:
                if name not in scale.names and self._tolerance.holds(
                    found, scale.shift + bias * scale.factors
                ):
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
            shifts = (
                vectors.get(shape[-1], []) if len(shape) == 2 and shape[0] == found.size else []
            )
            if weight == name or not shifts:
                continue
            added = self._read(weight) @ np.stack([vector for _, vector in shifts], axis=1)
            for column, (other, _) in enumerate(shifts):
                if _is_change(added[:, column], bias) and self._tolerance.holds(
                    found, bias + added[:, column]
                ):
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
                if len(rows) == 1 or self._tolerance.holds(base[first : first + len(rows)], added):
                    return Explanation((name, other[0]), "sum of two tensors")
        return None

    def _row_near(
        self, tables: list[tuple[str, int]], row: Array, scale: float, but: str
    ) -> tuple[str, Array] | None:
        """Returns the tensor with one or two rows that holds a row, and that row."""
        for name, count in tables:
            if name != but and count <= _MAX_FIRST_ROWS:
                for one in self._read(name).reshape(count, -1):
                    near = (np.abs(one - row) <= self._tolerance.relative * scale).all()
                    if near and np.abs(one).max() > _MIN_CHANGE * scale:
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
                kernel = direction / norm * length
                for one in arrangements(kernel.shape, found.shape):
                    turned = one.apply(kernel)
                    if self._tolerance.holds(found.reshape(turned.shape), turned):
                        return Explanation((length_name, name), "weight normalization folded")
        return None

    def _explain_scaled(self, found: Array) -> Explanation | None:
        """Explains a weight as a tensor times one number, or times a factor for every row."""
        places = sample_places(found.size)
        sample = take_flat(found, places)
        for name in self._of_size(found.size):
            values = self._read(name)
            for one in arrangements(values.shape, found.shape):
                turned = one.apply(values)
                whole = found.reshape(turned.shape)
                factor = _common_factor(sample, take_flat(turned, places), self._tolerance)
                if factor is not None:
                    known = _nearest_known_factor(factor, values.shape)
                    if self._tolerance.holds(whole, turned * known):
                        return Explanation((name,), f"times {known:.6g}")
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
            if self._tolerance.holds(found, source * ratio.reshape(shape)):
                for scale in scales:
                    if self._tolerance.holds(found, source * scale.factors.reshape(shape)):
                        return scale
        return None


def _is_change(summand: Array, values: Array) -> bool:
    """Whether a summand is large enough to be told from an error."""
    return bool(np.abs(summand).max() > _MIN_CHANGE * np.abs(values).max(initial=0.0))


def _common_factor(found: Array, source: Array, tolerance: _Tolerance) -> float | None:
    """Returns the factor between two samples; None if there is no single one."""
    place = int(np.abs(source).argmax())
    if not source[place]:
        return None
    factor = float(found[place] / source[place])
    return factor if factor and tolerance.holds(found, source * factor) else None


def _nearest_known_factor(factor: float, shape: tuple[int, ...]) -> float:
    """Returns the nearest factor by which attention, embeddings, means and angles are scaled.

    These are the roots of a size and of its parts, powers of two, one over these, and pi times a power of two.

    >>> [round(_nearest_known_factor(one, (64, 768)), 3) for one in (8.0001, 27.7, -0.125, 12.566)]
    [8.0, 27.713, -0.125, 12.566]
    """
    parts = {part for size in shape for part in range(2, size + 1) if size % part == 0}
    roots = [math.sqrt(part) for part in parts]
    powers = [2.0**power for power in range(-_MAX_POWER, _MAX_POWER + 1)]
    known = [
        *roots,
        *(1 / root for root in roots),
        *(power for power in powers if power != 1),
        *(math.pi * power for power in powers),
    ]
    nearest = min(known, key=lambda one: abs(one - abs(factor)))
    return math.copysign(nearest, factor)
