"""The report as JSON, with everything in it."""

from __future__ import annotations

import json
import math
from typing import Any

from equipoise.validators.judgement.results import Report, plain

SCHEMA = 1
"""Raised when a name changes its meaning or goes away."""


def dumps(report: Report) -> str:
    """One JSON document; numbers that JSON does not have become null."""
    values = _finite({"schema": SCHEMA, **plain(report)})
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A path that is no UTF-8 has halves of surrogates, which no file can hold.
    return text.encode("utf-8", "replace").decode("utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
