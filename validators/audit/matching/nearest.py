"""Says which tensor of the source a weight is nearest to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from equipoise.convert.core.arrays import Array, bits
from equipoise.validators.audit.content.arrangements import (
    Arrangement,
    arrangements,
    sample_places,
    take_flat,
)
from equipoise.validators.audit.content.source import SourceWeights

_SAMPLES = 2048
_MIN_EQUAL = 0.02
_MIN_CORRELATION = 0.5


@dataclass(frozen=True)
class Neighbour:
    """The tensor that a weight is nearest to.

    Attributes:
        name: Its name.
        equal: Share of elements that are equal in a sample.
        correlation: Correlation of the elements in a sample.
        arrangement: How the tensor is arranged in the weight.
    """

    name: str
    equal: float
    correlation: float
    arrangement: Arrangement

    @property
    def is_alike(self) -> bool:
        """Whether the values themselves show that the weight was made of this tensor."""
        return self.equal >= _MIN_EQUAL or self.correlation >= _MIN_CORRELATION


def find_neighbour(
    found: Array, candidates: Iterable[str], source: SourceWeights
) -> Neighbour | None:
    """Returns the candidate that has the most in common with a weight; all have its number of elements."""
    places = sample_places(found.size, _SAMPLES)
    sample = take_flat(found, places)
    best: Neighbour | None = None
    for name in candidates:
        own = source.cast(name, found.dtype)
        for one in arrangements(own.shape, found.shape):
            other = take_flat(one.apply(own), places)
            equal = float((bits(other) == bits(sample)).mean())
            related = _correlation(other, sample)
            if best is None or (equal, related) > (best.equal, best.correlation):
                best = Neighbour(name, equal, related, one)
    return best


def _correlation(a: Array, b: Array) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    x, y = x - x.mean() if x.size else x, y - y.mean() if y.size else y
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / scale if scale else 0.0
