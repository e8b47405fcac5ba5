"""Values as JSON can hold them."""

from __future__ import annotations

import math


def to_json_value(value: object) -> object:
    """Returns a value with tuples as lists, keys as strings, and infinite and NaN floats as None.

    >>> to_json_value({1: (float("nan"), 2.5)})
    {'1': [None, 2.5]}
    """
    if isinstance(value, dict):
        return {str(key): to_json_value(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_value(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
