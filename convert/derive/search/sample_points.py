"""Sample points: the configs and indices at which values were observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from equipoise.convert.derive.probe.observations import ConfigValues

Vector = npt.NDArray[np.float64]


@dataclass
class SamplePoint:
    """A point at which a value was observed: a variant with its config, and indices."""

    variant: int
    values: ConfigValues
    indices: Mapping[str, int] = field(default_factory=dict)


def numeric_values(points: Sequence[SamplePoint], name: str) -> Vector | None:
    """Returns a field's values at these points, or None if not all are numbers."""
    values: list[Any] = [point.values.get(name) for point in points]
    if all(type(one) in (int, float) for one in values):
        return np.array(values, np.float64)
    return None


def add_constant(text: str, number: int) -> str:
    """Returns an expression plus an integer.

    >>> add_constant("hidden_size", -1), add_constant("hidden_size", 0)
    ('hidden_size - 1', 'hidden_size')
    """
    if number == 0:
        return text
    return f"{text} {'+' if number > 0 else '-'} {abs(number)}"
