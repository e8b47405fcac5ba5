"""Explains integers with a scale as the rounded values of a tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.arrays import Array
from equipoise.validators.audit.arrangements import arrangements, sample_places, take_flat
from equipoise.validators.audit.source import SourceWeights
from equipoise.validators.audit.weights import Quantization

_MAX_STEPS = 1.01
"""Distance of a quantized value from its number in steps of the scale: half of one by rounding, more where a range is cut off."""
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
    best: tuple[float, str, Array] | None = None
    for name in source.of_size(integers.size, _FLOAT):
        indices = np.arange(integers.size).reshape(source.refs[name].shape)
        flat = source.cast(name, _FLOAT).reshape(-1)
        for turned, _ in arrangements(indices, integers):
            own = flat[take_flat(turned, places)]
            share = float((np.abs(own - sample) <= limits).mean())
            if best is None or share > best[0]:
                best = (share, name, turned)
    if best is None or best[0] < 0.5:
        return None
    _, name, order = best
    values, allowed = np.empty(integers.size, np.float32), np.empty(integers.size, np.float32)
    values[order.reshape(-1)] = numbers.reshape(-1)
    allowed[order.reshape(-1)] = steps.reshape(-1)
    own = source.cast(name, _FLOAT)
    wrong = ~(np.abs(own - values.reshape(own.shape)) <= allowed.reshape(own.shape))
    return QuantizedMatch(name, wrong, values.reshape(own.shape))
