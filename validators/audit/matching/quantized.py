"""Explains integers with a scale as the rounded values of a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.arrays import Array, Shape
from equipoise.validators.audit.content.arrangements import (
    Arrangement,
    arrangements,
    sample_places,
    take_flat,
)
from equipoise.validators.audit.content.source import SourceWeights
from equipoise.validators.audit.content.weights import Quantization

_MAX_STEPS = 1.01
"""Distance of a quantized value from its number in steps of the scale: half of one by rounding, more where a range is cut off."""
_MIN_SHARE = 0.5
"""Share of elements that must be a tensor's for the others to be called wrong."""
_FLOAT = np.dtype(np.float32)


@dataclass(frozen=True)
class QuantizedMatch:
    """The tensor that integers stand for.

    Attributes:
        name: Its name.
        wrong: The elements that are not its rounded values, as flags in the tensor's own shape.
        values: The numbers that the integers stand for, in the tensor's own shape.
    """

    name: str
    wrong: Array
    values: Array


@dataclass(frozen=True)
class _Sample:
    """Elements of a tensor at the places of a sample, in one of its arrangements."""

    name: str
    arrangement: Arrangement
    values: Array


class QuantizedFinder:
    """Finds the tensors that quantized weights stand for.

    Args:
        source: The tensors.
    """

    def __init__(self, source: SourceWeights) -> None:
        self._source = source
        self._samples: dict[Shape, list[_Sample]] = {}

    def match(self, integers: Array, quantization: Quantization) -> QuantizedMatch | None:
        """Returns the tensor whose rounded values these integers are, or are for the most part; None if there is none."""
        if quantization.scale is None:
            return None
        numbers = quantization.dequantize(integers)
        steps = np.broadcast_to(quantization.steps(integers), integers.shape) * _MAX_STEPS
        places = sample_places(integers.size)
        sample, limits = take_flat(numbers, places), take_flat(steps, places)
        if integers.shape not in self._samples:
            self._samples[integers.shape] = list(self._samples_of(integers.shape, places))
        best: tuple[float, _Sample] | None = None
        for one in self._samples[integers.shape]:
            share = float((np.abs(one.values - sample) <= limits).mean())
            if best is None or share > best[0]:
                best = (share, one)
        if best is None or best[0] < _MIN_SHARE:
            return None
        own = self._source.cast(best[1].name, _FLOAT)
        values = best[1].arrangement.revert(numbers, own.shape)
        allowed = best[1].arrangement.revert(steps, own.shape)
        return QuantizedMatch(best[1].name, ~(np.abs(own - values) <= allowed), values)

    def _samples_of(self, shape: Shape, places: Array) -> Iterator[_Sample]:
        for name in self._source.of_size(int(np.prod(shape)), _FLOAT):
            own = self._source.cast(name, _FLOAT)
            for one in arrangements(own.shape, shape):
                yield _Sample(name, one, take_flat(one.apply(own), places))
