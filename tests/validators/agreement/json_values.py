"""Results of pipelines as JSON, the same on both sides; long arrays as their shape and some of their numbers."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

MOST_NUMBERS = 400
"""Of a longer array, so many numbers at equal distances are kept."""


def to_json_value(value: Any) -> Any:
    """Returns a result as JSON values: images and masks compressed, arrays as shape and numbers."""
    if isinstance(value, Mapping):
        return {str(key): to_json_value(inner) for key, inner in value.items()}
    if hasattr(value, "getbands"):
        packed = base64.b64encode(zlib.compress(value.tobytes(), 1)).decode()
        return {"mode": value.mode, "size": list(value.size), "packed": packed}
    if hasattr(value, "detach"):
        return to_json_value(value.detach().cpu().numpy())
    if isinstance(value, np.ndarray) and value.dtype == bool:
        packed = base64.b64encode(zlib.compress(np.packbits(value).tobytes(), 1)).decode()
        return {"shape": list(value.shape), "bits": packed}
    if isinstance(value, np.ndarray) and value.ndim:
        return _array(value)
    if isinstance(value, list | tuple):
        nested = value and isinstance(value[0], list) and _is_number_list(value)
        return _array(np.asarray(value)) if nested else [to_json_value(inner) for inner in value]
    return value.item() if hasattr(value, "item") else value


def _array(value: Any) -> Any:
    if value.dtype.kind in "iu" and value.size:
        return value.tolist()
    flat = value.ravel()
    step = 1 + flat.size // MOST_NUMBERS
    return {"shape": list(value.shape), "numbers": [float(one) for one in flat[::step]]}


def _is_number_list(value: Any) -> bool:
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, float)
