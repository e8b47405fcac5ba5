"""Explains integers with a scale as the rounded values of a tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.arrays import Array
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


def match_quantized(
    integers: Array, quantization: Quantization, source: SourceWeights
) -> QuantizedMatch | None:
    """Returns the tensor whose rounded values these integers are, or are for the most part; None if there is none."""
    if quantization.scale is None:
        return None
    numbers = quantization.dequantize(integers)
    steps = np.broadcast_to(quantization.steps(integers), integers.shape) * _MAX_STEPS
    places = sample_places(integers.size)
    sample = take_flat(numbers, places)
    limits = take_flat(steps, places)
    best: tuple[float, str, Arrangement] | None = None
    for name in source.of_size(integers.size, _FLOAT):
        own = source.cast(name, _FLOAT)
        for one in arrangements(own.shape, integers.shape):
            share = float((np.abs(take_flat(one.apply(own), places) - sample) <= limits).mean())
            if best is None or share > best[0]:
                best = (share, name, one)
    if best is None or best[0] < _MIN_SHARE:
        return None
    _, name, arrangement = best
    own = source.cast(name, _FLOAT)
    values = arrangement.revert(numbers, own.shape)
    wrong = ~(np.abs(own - values) <= arrangement.revert(steps, own.shape))
    return QuantizedMatch(name, wrong, values)
